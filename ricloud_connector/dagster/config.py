"""What a run can be told from Dagster's launchpad. Facts."""

from typing import TypeVar

import dagster as dg
from pydantic import Field, create_model

from ricloud_connector.errors import SettingsError
from ricloud_connector.model import AVAILABLE
from ricloud_connector.options import Selection

Config = TypeVar("Config", bound=dg.Config)


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


def store_config(selection: Selection) -> type[StoreConfig]:
    """The same with a connector's own defaults, which every run has that is told nothing else."""
    defaults: dict[str, object] = {
        "states": list(selection.states),
        "identifiers": list(selection.identifiers),
        "poll": selection.poll,
        "task": selection.task,
    }
    return _with_defaults(StoreConfig, defaults)


def acknowledge_config(acknowledge: bool) -> type[AcknowledgeConfig]:
    """The same with a connector's own default."""
    return _with_defaults(AcknowledgeConfig, {"acknowledge": acknowledge})


def _with_defaults(model: type[Config], defaults: dict[str, object]) -> type[Config]:
    found = model.model_fields
    fields = {
        name: (found[name].annotation, Field(default=value, description=found[name].description))
        for name, value in defaults.items()
    }
    return create_model(model.__name__, __base__=model, __module__=model.__module__, **fields)  # type: ignore[call-overload, no-any-return]
