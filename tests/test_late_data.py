"""Late data flows on: an old partition that gets new rows re-triggers what is downstream of it."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ricloud_connector.emulator import Emulator
from tests.codelocation import CodeLocation

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.ci
def test_fault_048_an_old_partition_with_new_rows_triggers_a_downstream_asset_of_that_partition(tmp_path):
    with Emulator(results=0, days=1) as emulator:
        emulator.add_result(content=b"1", date_created=NOON)
        location = CodeLocation(emulator, tmp_path, NOON.date() - timedelta(days=10), now=NOON)
        partitions = location.definitions.resolve_asset_graph().get(dg.AssetKey(["ricloud", "contents"])).partitions_def

        # What the README shows: `eager` alone looks at the latest time window only and is blind to late data.
        @dg.asset(
            deps=[dg.AssetKey(["ricloud", "contents"])],
            partitions_def=partitions,
            automation_condition=dg.AutomationCondition.eager().without(dg.AutomationCondition.in_latest_time_window()),
        )
        def messages() -> None: ...

        definitions = dg.Definitions.merge(location.definitions, dg.Definitions(assets=[messages]))

        def triggered(cursor=None):
            found = dg.evaluate_automation_conditions(
                definitions, location.instance, cursor=cursor, evaluation_time=NOON + timedelta(hours=1)
            )
            return found.get_requested_partitions(dg.AssetKey("messages")), found.cursor

        (request,) = location.tick()
        location.run(request)
        _, cursor = triggered()
        assert triggered(cursor)[0] == set()

        emulator.add_result(content=b"late", date_created=NOON - timedelta(days=7))
        (request,) = location.reconcile()
        assert location.run(request).success
        requested, cursor = triggered(cursor)
        assert requested == {"2026-11-13"}
