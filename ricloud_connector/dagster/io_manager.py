"""RicloudRecordsIOManager: a downstream asset takes records as a frame by annotation. Reads the lake, writes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ricloud_connector.dagster import later
from ricloud_connector.errors import SettingsError

if TYPE_CHECKING:
    from ricloud_connector.read import Engine

_ENGINES: dict[str, Engine] = {"pyarrow": "arrow", "polars": "polars", "duckdb": "duckdb", "_duckdb": "duckdb"}


class RicloudRecordsIOManager(dg.ConfigurableIOManager):
    """Loads `ricloud/records` of the partitions that an asset depends on; which feed, the input's metadata says.

    The annotation chooses the frame: a `pyarrow.Table`, a `polars.DataFrame`, a DuckDB relation; anything else, pandas.

        @dg.asset(
            partitions_def=...,
            ins={"messages": dg.AssetIn(["ricloud", "records"], metadata={"feed": "ios_messages.messages"},
                                        input_manager_key="ricloud_records")},
        )
        def texts(messages: pandas.DataFrame): ...
    """

    lake: str | None = Field(default=None, description="The lake's folder. Unset: the variable RICLOUD_LAKE.")

    def load_input(self, context: dg.InputContext) -> Any:
        """The records of one partition, or of a range of them. Raises: dagster.Failure for a missing lake, feed or setting."""
        feed = (context.definition_metadata or {}).get("feed")
        lake = self.lake or os.environ.get("RICLOUD_LAKE")
        if not isinstance(feed, str) or not lake:
            raise dg.Failure('say which: dg.AssetIn(..., metadata={"feed": "ios_messages.messages"}), and RICLOUD_LAKE')
        kind = context.dagster_type.typing_type
        engine = _ENGINES.get(str(getattr(kind, "__module__", "")).split(".", maxsplit=1)[0], "pandas")
        window = context.asset_partitions_time_window if context.has_asset_partitions else None
        since, until = (window.start, window.end) if window else (None, None)
        try:
            return later.read.read_records(lake, feed, since, until, engine=engine)
        except SettingsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ARG002  # the base class's signature
        """Refused: records are derived from contents."""
        raise dg.Failure(f"{context.get_identifier()} is not written with this IO manager: it loads records and nothing else")
