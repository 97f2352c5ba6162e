"""An ingest timed in process, once everything is loaded: `python ours.py DAYS`."""

import os
import sys
import time
from datetime import UTC, datetime, timedelta

started = time.monotonic()

from ricloud_connector import Settings, Window, ingest_results, open_run  # noqa: E402
from ricloud_connector.ingest import days_of  # noqa: E402

SINCE = datetime(2026, 11, 20, tzinfo=UTC)

if __name__ == "__main__":
    days = int(sys.argv[1])
    window = Window(SINCE, SINCE + timedelta(days=days))
    with open_run(Settings.from_environment(os.environ)) as run:
        loaded = time.monotonic()
        reports = list(ingest_results(run, days_of(window)))
        took_s, requests = time.monotonic() - loaded, run.client.requests
    if any(report.error or report.failed or report.quarantined for report in reports):
        sys.exit(f"not complete: {reports}")
    rows = sum(report.new_result_rows for report in reports)
    print(f'{{"took_s": {took_s}, "requests": {requests}, "rows": {rows}, "load_s": {loaded - started}}}')
