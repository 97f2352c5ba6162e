"""A code location against an emulator, with a clock that the test moves."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from ricloud_connector.dagster import ReconcileSettings, RicloudResource, SensorSettings, build_ricloud_definitions
from ricloud_connector.emulator import Emulator
from ricloud_connector.errors import LakeError
from ricloud_connector.ingest import DayReport, ingest_results
from ricloud_connector.model import Window
from ricloud_connector.options import Selection

OPEN: list[CodeLocation] = []  # closed after each test, by conftest.py
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def evaluated(tick: Any, context: Any) -> Any:
    """What a sensor or schedule answers in that context.

    The context is left again: one that is only dropped undoes what its instance has set up when it is collected, which may
    be in another test.
    """
    with context:
        return tick.evaluate_tick(context)


class _ScheduleContext(dg.ScheduleEvaluationContext):
    """A tick of the schedule with the instance at hand: Dagster's own context opens its instance from files, each tick anew."""

    def __init__(self, location: CodeLocation) -> None:
        super().__init__(
            instance_ref=None,
            scheduled_execution_time=location.now,
            resources={"ricloud": location.resource.get_resource_definition()},
            repository_def=location.repository,
        )
        self._of_location = location.instance

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._of_location


@dataclass
class CodeLocation:
    """Ticks of its sensor and schedule, and the runs that they ask for. `now` is the clock."""

    emulator: Emulator
    lake: Path
    start: date
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    sensor: SensorSettings = field(default_factory=SensorSettings)
    cursor: str | None = None

    def __post_init__(self) -> None:
        # Entered, and left after the test: Dagster keeps what an instance has set up in a variable of its own until then.
        self._stack = ExitStack()
        self.instance = self._stack.enter_context(dg.DagsterInstance.ephemeral())
        OPEN.append(self)
        settings = self.emulator.environment()
        self.resource = RicloudResource(
            url=settings["RICLOUD_URL"],
            token=settings["RICLOUD_TOKEN"],
            content_hosts=[settings["RICLOUD_CONTENT_HOSTS"]],
            lake=str(self.lake),
        )
        self.definitions = build_ricloud_definitions(
            resource=self.resource,
            start_date=self.start,
            sensor=replace(self.sensor, now=lambda: self.now),
            reconcile=ReconcileSettings(now=lambda: self.now),
        )
        repository = self.definitions.get_repository_def()
        self._sensor = repository.get_sensor_def("ricloud_new_results")
        self._schedule = repository.get_schedule_def("ricloud_reconcile")
        self.repository = repository

    def close(self) -> None:
        self._stack.close()

    def tick(self, *, keep_cursor: bool = True) -> list[dg.RunRequest]:
        """One tick of the sensor; returns its run requests. Without `keep_cursor` it is as if the tick had died at its end."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"ricloud": self.resource}, repository_def=self.repository
        )
        result = evaluated(self._sensor, context)
        self.skipped = result.skip_message
        if keep_cursor:
            self.cursor = result.cursor
        return list(result.run_requests or [])

    def reconcile(self) -> list[dg.RunRequest]:
        """One tick of the schedule; returns its run requests."""
        return list(evaluated(self._schedule, _ScheduleContext(self)).run_requests or [])

    def observation(self) -> dict[str, object]:
        """The metadata of the last observation on the results asset."""
        key = dg.AssetKey(["ricloud", "results"])
        (record,) = self.instance.fetch_observations(key, limit=1).records
        return {name: value.value for name, value in record.asset_observation.metadata.items()}

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run that a request asks for, through Dagster."""
        job = self.definitions.resolve_job_def("ricloud_ingest")
        return job.execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            run_config={**(request.run_config or {}), **QUIET},
            tags=request.tags,
            raise_on_error=False,
        )

    def ingest(self, request: dg.RunRequest, *, patient: bool = False, progress=None, now=None) -> DayReport:
        """What that run does, without Dagster around it."""
        day = date.fromisoformat(request.partition_key)
        with self.resource.open_run("by-test", patient=patient) as run:
            run.now = now or (lambda: self.now)
            if progress is not None:
                run.progress = progress
            (report,) = ingest_results(run, [(day, Window.of_day(day))], selection=Selection())
        if isinstance(report.error, LakeError):
            raise report.error
        return report
