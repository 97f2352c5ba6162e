"""ricloud_connector: ricloud results into a lake of Parquet, acknowledged once they are proven to be in it.

Importing this package loads neither dagster nor pyarrow; each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Settings": "ricloud_connector.settings",
    "Window": "ricloud_connector.model",
    "DayReport": "ricloud_connector.ingest",
    "ingest_results": "ricloud_connector.ingest",
    "open_run": "ricloud_connector.session",
    "list_data_types": "ricloud_connector.read",
    "read_content": "ricloud_connector.read",
    "read_records": "ricloud_connector.read",
    "RicloudClient": "ricloud_connector.client",
    "RicloudError": "ricloud_connector.errors",
    "RicloudComponent": "ricloud_connector.dagster",
    "RicloudRecordsIOManager": "ricloud_connector.dagster",
    "RicloudResource": "ricloud_connector.dagster",
    "build_ricloud_definitions": "ricloud_connector.dagster",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604  # names of strings, in one place

if TYPE_CHECKING:
    from ricloud_connector.client import RicloudClient as RicloudClient
    from ricloud_connector.dagster import RicloudComponent as RicloudComponent
    from ricloud_connector.dagster import RicloudRecordsIOManager as RicloudRecordsIOManager
    from ricloud_connector.dagster import RicloudResource as RicloudResource
    from ricloud_connector.dagster import build_ricloud_definitions as build_ricloud_definitions
    from ricloud_connector.errors import RicloudError as RicloudError
    from ricloud_connector.ingest import DayReport as DayReport
    from ricloud_connector.ingest import ingest_results as ingest_results
    from ricloud_connector.model import Window as Window
    from ricloud_connector.read import list_data_types as list_data_types
    from ricloud_connector.read import read_content as read_content
    from ricloud_connector.read import read_records as read_records
    from ricloud_connector.session import open_run as open_run
    from ricloud_connector.settings import Settings as Settings


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
