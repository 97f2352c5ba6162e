"""What runs in steps, checks and ticks, loaded when the first of them runs: `later.ingest.store_results(...)`.

A code location is loaded by every process that shows, schedules or launches something, and most of them run nothing: for
these, Arrow, the HTTP clients and the pipeline would be half as much again as Dagster itself.
"""

# ruff: noqa: PLC0414  # `import x as x` is how a module says that others may take x from it

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

_HOMES = {
    "audit": "ricloud_connector.audit",
    "derived": "ricloud_connector.records.derived",
    "feed": "ricloud_connector.records.feed",
    "ingest": "ricloud_connector.ingest",
    "lake": "ricloud_connector.lake",
    "ledger": "ricloud_connector.ledger",
    "metadata": "ricloud_connector.dagster.metadata",
    "read": "ricloud_connector.read",
    "reconcile": "ricloud_connector.reconcile",
    "records": "ricloud_connector.records",
    "schemas": "ricloud_connector.schemas",
    "session": "ricloud_connector.session",
}

if TYPE_CHECKING:
    from ricloud_connector import audit as audit
    from ricloud_connector import ingest as ingest
    from ricloud_connector import lake as lake
    from ricloud_connector import ledger as ledger
    from ricloud_connector import read as read
    from ricloud_connector import reconcile as reconcile
    from ricloud_connector import records as records
    from ricloud_connector import schemas as schemas
    from ricloud_connector import session as session
    from ricloud_connector.dagster import metadata as metadata
    from ricloud_connector.records import derived as derived
    from ricloud_connector.records import feed as feed


def __getattr__(name: str) -> ModuleType:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(_HOMES[name])
