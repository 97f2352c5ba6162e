"""Where a connector's assets stand in a code location, and how each is described there. Facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from ricloud_connector.datasets import ACKNOWLEDGEMENTS_COLUMNS, CONTENTS_COLUMNS, RECORDS_COLUMNS, RESULTS_COLUMNS, Column
from ricloud_connector.model import Window
from ricloud_connector.options import Selection

if TYPE_CHECKING:
    from ricloud_connector.ingest import DayReport, Run

KINDS = frozenset({"ricloud", "parquet"})
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class _Kind:
    columns: tuple[Column, ...]
    description: str
    deps: tuple[str, ...] = ()


ASSETS = {
    "results": _Kind(RESULTS_COLUMNS, "A row per result, as it was first listed by the API. Signed URLs are never stored."),
    "contents": _Kind(
        CONTENTS_COLUMNS, "The bytes of every available result whose md5 is what the API lists, exactly once.", ("results",)
    ),
    "records": _Kind(
        RECORDS_COLUMNS, "The rows inside JSON results, typed, a dataset per feed; derived from contents alone.", ("contents",)
    ),
    "acknowledgements": _Kind(
        ACKNOWLEDGEMENTS_COLUMNS,
        "What was acknowledged at the API, each after its content was read back from the lake.",
        ("contents",),
    ),
}


@dataclass(frozen=True)
class RicloudAsset:
    """One of the connector's assets before its spec is final: `name` is that of its dataset, `spec` is as it comes."""

    name: str
    spec: dg.AssetSpec


Translate = Callable[[RicloudAsset], dg.AssetSpec]
Execute: TypeAlias = "Callable[[dg.AssetExecutionContext, Run, Iterator[DayReport]], Iterator[DayReport]]"
Metadata = Mapping[str, Any]


def definition_metadata(columns: Sequence[Column]) -> Metadata:
    """What an asset says of itself before any run."""
    schema = dg.TableSchema([dg.TableColumn(*column) for column in columns])
    return {"dagster/column_schema": schema, "dagster/storage_kind": "parquet"}


@dataclass(frozen=True)
class Place:
    """What two connectors in one code location do not share, so that they do not collide, and what the user said of it."""

    key_prefix: Sequence[str]
    group_name: str
    resource_key: str
    pool: str
    partitions_def: dg.TimeWindowPartitionsDefinition
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = KINDS
    freshness: dg.FreshnessPolicy | None = None
    selection: Selection = field(default_factory=Selection)
    acknowledge: bool = True
    translate: Translate | None = None
    execute: Execute | None = None

    @property
    def name(self) -> str:
        """What jobs, ops, sensors and schedules are named after."""
        return "_".join(self.key_prefix)

    @property
    def grain(self) -> timedelta:
        """How long a partition is: a day or an hour."""
        return HOUR if isinstance(self.partitions_def, dg.HourlyPartitionsDefinition) else DAY

    def key(self, name: str) -> dg.AssetKey:
        """The asset's key, by the name of its dataset."""
        return self.spec(name).key if name in ASSETS else dg.AssetKey([*self.key_prefix, name])

    def spec(self, name: str) -> dg.AssetSpec:
        """The asset's spec, as the user has translated it."""
        kind = ASSETS[name]
        spec = dg.AssetSpec(
            dg.AssetKey([*self.key_prefix, name]),
            description=kind.description,
            deps=[self.key(dep) for dep in kind.deps],
            kinds=set(self.kinds),
            group_name=self.group_name,
            owners=list(self.owners),
            tags=dict(self.tags),
            metadata=definition_metadata(kind.columns),
            freshness_policy=self.freshness,
        )
        return spec if self.translate is None else self.translate(RicloudAsset(name, spec))

    def window(self, partition: str) -> tuple[date, Window]:
        """A partition's day in the lake, whose folders are daily, and its span of `date_created`."""
        found = self.partitions_def.time_window_for_partition_key(partition)
        since = found.start.astimezone(UTC)
        return since.date(), Window(since, since + self.grain)

    def partition(self, since: datetime) -> str:
        """The key of the partition that begins at a moment."""
        return since.strftime(self.partitions_def.fmt)

    def partitions_of(self, day: date, until: datetime) -> list[str]:
        """The partitions of a UTC day that have begun before a moment; the day's own where it is one."""
        since = Window.of_day(day).since
        starts = [since + number * self.grain for number in range(DAY // self.grain)]
        return [self.partition(start) for start in starts if start <= until]
