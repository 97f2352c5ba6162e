"""Asset checks: what the lake's own books say, in plain words, with a table of the first offenders. I/O: reads indexes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ricloud_connector.clock import now_utc
from ricloud_connector.dagster import later
from ricloud_connector.dagster.place import Place
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.errors import RicloudError, SettingsError
from ricloud_connector.redact import clean

if TYPE_CHECKING:
    from ricloud_connector.lake import Lake
    from ricloud_connector.ledger import Verdict


@dataclass(frozen=True)
class CheckSettings:
    """Which checks there are, how far they look, and which of them block.

    A check that fails warns; one that is named in `blocking` is an error and, on contents, holds back the acknowledgements
    of its run. `lookback` is how many days back they look, besides the days of the run, so that their cost does not grow
    with the lake; all of the quarantine is looked at. `overdue_after` is how old a stored result may be without being
    acknowledged, `expiring_after` how old one that is not stored yet.
    """

    enabled: bool = True
    blocking: Collection[str] = ()
    lookback: timedelta = timedelta(days=31)
    overdue_after: timedelta = timedelta(days=2)
    expiring_after: timedelta = timedelta(days=5)
    now: Callable[[], datetime] = now_utc

    def __post_init__(self) -> None:
        unknown = sorted(set(self.blocking) - {check.name for check in CHECKS})
        if unknown:
            raise SettingsError(
                f"no check is called {', '.join(unknown)}: blocking takes {', '.join(check.name for check in CHECKS)}"
            )


@dataclass(frozen=True)
class _Look:
    """What a check looks at: the lake, its days within reach, all days with a quarantine."""

    lake: "Lake"
    days: list[date]
    settings: CheckSettings

    def all_quarantined(self) -> "Verdict":
        return later.ledger.quarantined(self.lake, later.audit.days_of(self.lake, later.schemas.QUARANTINE))

    def old(self, judge: Callable[..., "Verdict"], after: timedelta) -> "Verdict":
        return judge(self.lake, self.days, now=self.settings.now(), after=after)


@dataclass(frozen=True)
class _Check:
    """A check on one asset: what it says where all is well and where it is not, and how it is found out."""

    name: str
    asset: str
    description: str
    complaint: str
    look: Callable[[_Look], "Verdict"]


CHECKS = (
    _Check(
        "contents_proven",
        "contents",
        "Every stored result is whole, under the md5 that its bytes were proven against.",
        "{} results are not stored whole under an md5 that was proven.",
        lambda at: later.ledger.proven(at.lake, at.days),
    ),
    _Check(
        "none_quarantined", "contents", "No result is in quarantine.", "{} results are in quarantine.", _Look.all_quarantined
    ),
    _Check(
        "counts_agree",
        "contents",
        "Every result that the API has listed is stored, in quarantine, or known not to be available.",
        "{} results were listed, and are neither stored nor in quarantine.",
        lambda at: later.ledger.lacking(at.lake, at.days),
    ),
    _Check(
        "none_expiring",
        "contents",
        "No result that is not stored yet is so old that its content may be deleted soon.",
        "{} results are not stored, and so old that their contents may be deleted soon.",
        lambda at: at.old(later.ledger.expiring, at.settings.expiring_after),
    ),
    _Check(
        "none_overdue",
        "acknowledgements",
        "No stored result has been waiting long for its acknowledgement.",
        "{} results are stored and have been waiting too long for their acknowledgement.",
        lambda at: at.old(later.ledger.overdue, at.settings.overdue_after),
    ),
)


def build_checks(place: Place, settings: CheckSettings) -> list[dg.AssetChecksDefinition]:
    """An op per asset with checks. Without acknowledgements nothing can be overdue, and nothing is said of it."""
    wanted = [check for check in CHECKS if place.acknowledge or check.asset != "acknowledgements"] if settings.enabled else []
    assets = list(dict.fromkeys(check.asset for check in wanted))
    return [_checks_of(place, asset, [check for check in wanted if check.asset == asset], settings) for asset in assets]


def _checks_of(place: Place, asset: str, checks: list[_Check], settings: CheckSettings) -> dg.AssetChecksDefinition:
    key = place.key(asset)
    specs = [
        dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.name in settings.blocking)
        for check in checks
    ]

    @dg.multi_asset_check(
        name=f"{place.name}_{asset}_checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={place.resource_key},
        description="Looks the lake's days up in its indexes; neither asks the API nor reads a content.",
    )
    def look(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        resource: RicloudResource = getattr(context.resources, place.resource_key)
        selected = {chosen.name for chosen in context.selected_asset_check_keys}
        try:
            lake = resource.lake_to_read()
            at = _Look(lake, _days(place, lake, context.run.tags, settings), settings)
            for check in checks:
                if check.name in selected:
                    yield _result(key, check, check.look(at), days=len(at.days), blocking=check.name in settings.blocking)
        except RicloudError as error:
            raise dg.Failure(str(error), allow_retries=error.retryable) from None

    return look


def _days(place: Place, lake: "Lake", tags: Mapping[str, str], settings: CheckSettings) -> list[date]:
    """The lake's days within reach: the latest ones, and those of the run."""
    days = later.audit.days_of(lake)
    first = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    last = tags.get("dagster/asset_partition_range_end") or first
    found = set(later.ledger.recent_days(days, now=settings.now(), lookback=settings.lookback))
    if first and last:
        since, until = place.window(first)[0], place.window(last)[0]
        found |= {day for day in days if since <= day <= until}
    return sorted(found)


_OFFENDERS = dg.TableSchema([dg.TableColumn(name, "string") for name in ("day", "result_id", "detail")])


def _result(key: dg.AssetKey, check: _Check, verdict: "Verdict", *, days: int, blocking: bool) -> dg.AssetCheckResult:
    """What came of a check. Text from a server is cleaned, and is never Markdown or a link."""
    metadata: dict[str, Any] = {
        "ricloud/looked_at": verdict.looked_at,
        "ricloud/days": days,
        "ricloud/offenders": verdict.count,
    }
    if verdict.offenders:
        records = [
            dg.TableRecord(
                {"day": str(found.day), "result_id": clean(found.result_id), "detail": clean(found.detail, limit=300)}
            )
            for found in verdict.offenders
        ]
        metadata["ricloud/first_offenders"] = dg.MetadataValue.table(records, _OFFENDERS)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=key,
        check_name=check.name,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=check.description if verdict.passed else check.complaint.format(verdict.count),
        metadata=metadata,
    )
