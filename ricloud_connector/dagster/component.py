"""RicloudComponent: the connector as a component of `dg`, from YAML or Python. Facts; nothing is asked of the API at load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.form_config import FormWidget
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import ConfigDict, Field

from ricloud_connector.dagster.build import build_ricloud_definitions
from ricloud_connector.dagster.checks import CheckSettings
from ricloud_connector.dagster.place import KINDS, RicloudAsset
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.dagster.schedule import ReconcileSettings
from ricloud_connector.dagster.sensor import SensorSettings
from ricloud_connector.errors import SettingsError
from ricloud_connector.model import AVAILABLE
from ricloud_connector.options import Contract, Selection
from ricloud_connector.settings import check_start_date

if TYPE_CHECKING:
    from ricloud_connector.ingest import DayReport, Run

_ENV = re.compile(r"\s*\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}\s*")


def _about(description: str, *examples: object, widget: FormWidget | None = None, advanced: bool | None = None) -> Any:
    """An attribute's description, and how a form asks for it."""
    form = dg.ComponentFormConfig(widget=widget, advanced=advanced)
    return dg.Resolver.default(description=description, examples=list(examples) or None, form_config=form)


def _env_var(_context: dg.ResolutionContext, value: object) -> dg.EnvVar | None:
    """The variable that a secret is in. Resolved, its value would be stored with the definitions, for anyone to read."""
    if value is None:
        return None
    found = _ENV.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise SettingsError('a secret is named, not written: "{{ env.RICLOUD_TOKEN }}"')
    return dg.EnvVar(found[1])


def _secret(description: str, example: str, *, advanced: bool | None = None) -> Any:
    form = dg.ComponentFormConfig(widget=FormWidget.SECRET, advanced=advanced)
    return dg.Resolver(
        _env_var,
        model_field_type=str | None,
        description=description,
        examples=[example],
        inject_before_resolve=False,
        form_config=form,
    )


class SensorAttributes(dg.Model, dg.Resolvable):
    """How the sensor watches for new results. Stopped until a user starts it, unless `started` says otherwise."""

    started: Annotated[bool, _about("Start it with the code location. Acknowledgements are irreversible.")] = False
    interval_s: Annotated[int, _about("Seconds between two ticks."), Field(ge=1)] = 60
    overlap_minutes: Annotated[int, _about("How late a result may appear and still be found by the sensor."), Field(ge=0)] = 60
    pause_minutes: Annotated[int, _about("Least time between two runs of one partition."), Field(ge=0)] = 5
    most_runs: Annotated[int, _about("Runs that one tick asks for at most."), Field(ge=1)] = 50

    def settings(self) -> SensorSettings:
        status = dg.DefaultSensorStatus
        return SensorSettings(
            interval_s=self.interval_s,
            overlap=timedelta(minutes=self.overlap_minutes),
            pause=timedelta(minutes=self.pause_minutes),
            most_runs=self.most_runs,
            default_status=status.RUNNING if self.started else status.STOPPED,
        )


class ScheduleAttributes(dg.Model, dg.Resolvable):
    """When the schedule compares the API with the lake. Stopped until a user starts it, unless `started` says otherwise."""

    started: Annotated[bool, _about("Start it with the code location. Acknowledgements are irreversible.")] = False
    cron_schedule: Annotated[str, _about("When, in UTC.", "17 3 * * *", widget=FormWidget.CRON)] = "17 3 * * *"
    lookback_days: Annotated[int, _about("How far back what was consumed is compared with the lake."), Field(ge=1)] = 30
    most_runs: Annotated[int, _about("Runs that one tick asks for at most."), Field(ge=1)] = 100

    def settings(self) -> ReconcileSettings:
        status = dg.DefaultScheduleStatus
        return ReconcileSettings(
            cron_schedule=self.cron_schedule,
            lookback=timedelta(days=self.lookback_days),
            most_runs=self.most_runs,
            default_status=status.RUNNING if self.started else status.STOPPED,
        )


class CheckAttributes(dg.Model, dg.Resolvable):
    """The asset checks: which there are, how far they look, which of them block."""

    enabled: Annotated[bool, _about("Whether there are any.")] = True
    blocking: Annotated[
        list[str], _about("Checks whose failure is an error and holds back what comes after.", ["contents_proven"])
    ] = []  # noqa: RUF012  # a pydantic field, copied for each instance
    lookback_days: Annotated[int, _about("How many days back they look, besides the days of the run."), Field(ge=1)] = 31
    overdue_after_hours: Annotated[int, _about("Age from which a stored result should be acknowledged."), Field(ge=1)] = 48
    expiring_after_hours: Annotated[int, _about("Age from which a result should be stored."), Field(ge=1)] = 120

    def settings(self) -> CheckSettings:
        return CheckSettings(
            enabled=self.enabled,
            blocking=tuple(self.blocking),
            lookback=timedelta(days=self.lookback_days),
            overdue_after=timedelta(hours=self.overdue_after_hours),
            expiring_after=timedelta(hours=self.expiring_after_hours),
        )


class FreshnessAttributes(dg.Model, dg.Resolvable):
    """How old the last materialisation of each asset may be before Dagster says so."""

    fail_after_hours: Annotated[float, _about("Older is a failure."), Field(gt=0)]
    warn_after_hours: Annotated[float | None, _about("Older is a warning."), Field(gt=0)] = None

    def policy(self) -> dg.FreshnessPolicy:
        warn = None if self.warn_after_hours is None else timedelta(hours=self.warn_after_hours)
        return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=self.fail_after_hours), warn_window=warn)


class RicloudScaffolder(dg.Scaffolder):
    """`dg scaffold defs ricloud_connector.RicloudComponent <folder>`: the least that runs."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        today = datetime.now(UTC).date()
        dg.scaffold_component(request, {"start_date": today.replace(day=1).isoformat()})


@dg.scaffold_with(RicloudScaffolder)
class RicloudComponent(dg.Component, dg.Model, dg.Resolvable):
    """ricloud results into a lake of partitioned Parquet, each acknowledged once it is proven to be in it.

    Whatever of `url`, `token`, `lake` and the other places is left out comes from the `RICLOUD_*` variables when a run
    starts, so that a code location loads with none set. Override `get_asset_spec` to say more of an asset, `execute` to do
    something around what is stored. Secrets are named by their variable: `{{ env.NAME }}` in YAML, `dg.EnvVar("NAME")` in
    Python. The value itself would be stored with the definitions.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    url: Annotated[str | None, _about("The API's base URL. Unset: RICLOUD_URL.")] = None
    token: Annotated[
        dg.EnvVar | None,
        _secret("The variable with the API's key token. Unset: RICLOUD_TOKEN.", "{{ env.RICLOUD_TOKEN }}"),
    ] = None
    lake: Annotated[str | None, _about("The lake's folder; there is no default. Unset: RICLOUD_LAKE.", "/srv/ricloud")] = None
    start_date: Annotated[
        str | None,
        _about("First partition, YYYY-MM-DD. Unset: RICLOUD_START_DATE, else 2020-01-01.", widget=FormWidget.DATE),
    ] = None
    partitions: Annotated[
        Literal["daily", "hourly"], _about("Dagster's partitions of `date_created`, in UTC; lake folders are daily.")
    ] = "daily"
    states: Annotated[
        list[str], _about("`available`; with `consumed` and `expired` the history of the metadata is complete.")
    ] = [AVAILABLE]  # noqa: RUF012  # a pydantic field, copied for each instance
    identifiers: Annotated[
        list[str], _about("Only results with one of these identifiers; empty: all.", ["ios_messages.messages"])
    ] = []  # noqa: RUF012  # likewise
    poll: Annotated[str | None, _about("Only results of this poll.")] = None
    task: Annotated[str | None, _about("Only results of this task.")] = None
    acknowledge: Annotated[bool, _about("Acknowledge what is proven in the lake; false: store only.")] = True
    contracts: Annotated[
        dict[str, Contract],
        _about(
            "By feed (`*`: all others), what becomes of fields that its columns do not have: `evolve`, `freeze`, `discard`.",
            {"ios_messages.messages": "freeze"},
        ),
    ] = {}  # noqa: RUF012  # likewise
    concurrency: Annotated[int | None, _about("Contents read at a time.", advanced=True), Field(ge=1, le=512)] = None
    staging: Annotated[str | None, _about("A local folder for contents under way. Unset: RICLOUD_STAGING.", advanced=True)] = (
        None
    )
    content_hosts: Annotated[
        list[str] | None, _about("Hosts that may be read although not https or not public.", advanced=True)
    ] = None
    buckets: Annotated[list[str] | None, _about("Buckets that may be read. Unset: RICLOUD_BUCKETS.", advanced=True)] = None
    read: Annotated[list[str] | None, _about("`signed_url`, `bucket`, or both in order.", advanced=True)] = None
    local_root: Annotated[str | None, _about("The only folder of local:// contents.", advanced=True)] = None
    proxy: Annotated[
        dg.EnvVar | None,
        _secret("The variable with a proxy for both HTTP clients. Unset: RICLOUD_PROXY.", "{{ env.PROXY }}", advanced=True),
    ] = None
    key_prefix: Annotated[
        str, _about("Names everything: assets, job, sensor, schedule, resource, pool. One for each connector.", "acme/ricloud")
    ] = "ricloud"
    group_name: Annotated[str | None, _about("Group of the assets. Unset: after the prefix.")] = None
    owners: Annotated[list[str], _about("Owners of the assets.", ["team:data"])] = []  # noqa: RUF012  # likewise
    tags: Annotated[dict[str, str], _about("Tags of the assets.")] = {}  # noqa: RUF012  # likewise
    kinds: Annotated[list[str], _about("Kinds of the assets, shown as icons.")] = sorted(KINDS)  # likewise
    pool: Annotated[str | None, _about("Concurrency pool of the ops. Unset: after the prefix.", advanced=True)] = None
    sensor: Annotated[SensorAttributes, _about("How the sensor watches.")] = SensorAttributes()
    reconcile: Annotated[ScheduleAttributes, _about("When the schedule compares the API with the lake.")] = ScheduleAttributes()
    checks: Annotated[CheckAttributes, _about("The asset checks.")] = CheckAttributes()
    freshness: Annotated[FreshnessAttributes | None, _about("Freshness policy of the assets. Unset: none.")] = None
    translation: (
        Annotated[TranslationFn[RicloudAsset], TranslationFnResolver[RicloudAsset](lambda asset: {"asset": asset})] | None
    ) = None

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            description="Incremental ricloud results in a lake of Parquet, proven byte for byte before acknowledgement.",
            tags=["ricloud", "ingest", "parquet"],
        )

    @classmethod
    def get_form_config(cls) -> dg.ComponentFormConfig:
        return dg.ComponentFormConfig(label="ricloud results", editable=True)

    def get_asset_spec(self, asset: RicloudAsset) -> dg.AssetSpec:
        """The spec of one asset: as it comes, through `translation` where there is one.

        Partitions stay those of the connector, and `acknowledgements` depends on `contents` whatever its spec says.
        """
        return asset.spec if self.translation is None else self.translation(asset.spec, asset)

    def execute(
        self,
        context: dg.AssetExecutionContext,  # noqa: ARG002  # for those who override this
        run: Run,  # noqa: ARG002  # likewise
        reports: Iterator[DayReport],
    ) -> Iterator[DayReport]:
        """What surrounds the storing of a run's partitions: each report is of one that is stored, and comes as it is taken.

        Yield every report on. Acknowledging is not part of it: that is done later, from what is read back.
        """
        yield from reports

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002  # Dagster's signature
        """The same as `build_ricloud_definitions`, but that the code location's executor is left alone."""
        return build_ricloud_definitions(
            resource=self._resource(),
            start_date=self._start_date(),
            partitions=self.partitions,
            key_prefix=self.key_prefix.split("/"),
            group_name=self.group_name,
            owners=self.owners,
            tags=self.tags,
            kinds=self.kinds,
            selection=Selection(tuple(self.states), tuple(self.identifiers), self.poll, self.task),
            acknowledge=self.acknowledge,
            pool=self.pool,
            sensor=self.sensor.settings(),
            reconcile=self.reconcile.settings(),
            contracts=self.contracts,
            checks=self.checks.settings(),
            freshness=None if self.freshness is None else self.freshness.policy(),
            get_asset_spec=self.get_asset_spec,
            execute=self.execute,
            executor=None,
        )

    def _start_date(self) -> date | None:
        try:
            return None if self.start_date is None else check_start_date(self.start_date)
        except SettingsError as error:
            raise SettingsError(str(error).replace("RICLOUD_START_DATE", "start_date")) from None

    def _resource(self) -> RicloudResource:
        names = ("url", "token", "lake", "staging", "content_hosts", "buckets", "read", "local_root", "proxy", "concurrency")
        return RicloudResource(**{name: getattr(self, name) for name in names})
