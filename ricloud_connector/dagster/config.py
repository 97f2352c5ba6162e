"""What a run can be told from Dagster's launchpad. Facts."""

import dagster as dg
from pydantic import Field

from ricloud_connector.errors import SettingsError
from ricloud_connector.ingest import Selection
from ricloud_connector.model import AVAILABLE


class StoreConfig(dg.Config):
    """Which results a run stores."""

    states: list[str] = Field(
        default=[AVAILABLE],
        description="`available`; with `consumed` and `expired` the history of the metadata is complete. "
        "What is not available is never acknowledged.",
    )
    identifiers: list[str] = Field(default=[], description="Only results with one of these identifiers; empty: all.")
    poll: str | None = Field(default=None, description="Only results of this poll.")
    task: str | None = Field(default=None, description="Only results of this task.")

    def selection(self) -> Selection:
        """The same, checked. Raises: dagster.Failure naming what is wrong."""
        try:
            return Selection(tuple(self.states), tuple(self.identifiers), self.poll, self.task)
        except SettingsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None


class AcknowledgeConfig(dg.Config):
    """Whether a run acknowledges."""

    acknowledge: bool = Field(default=True, description="False: store only; a later run acknowledges what is proven then.")
