"""What this connector does without a command of that shape, timed in process: `python ours.py list|ingest DAYS`.

`list` stores results alone.
"""

import os
import sys
import time
from datetime import UTC, datetime, timedelta

started = time.monotonic()

from ricloud_connector import Settings, Window, ingest_results, open_run  # noqa: E402
from ricloud_connector.ingest import days_of, store_results  # noqa: E402

SINCE = datetime(2026, 11, 20, tzinfo=UTC)

if __name__ == "__main__":
    what, days = sys.argv[1], int(sys.argv[2])
    window = Window(SINCE, SINCE + timedelta(days=days))
    with open_run(Settings.from_environment(os.environ)) as run:
        loaded = time.monotonic()
        if what == "list":
            reports = list(store_results(run, days_of(window), contents=False))
        else:
            reports = list(ingest_results(run, days_of(window)))
        took_s, requests = time.monotonic() - loaded, run.client.requests
    if any(report.error or report.failed or report.quarantined for report in reports):
        sys.exit(f"not complete: {reports}")
    rows = sum(report.new_result_rows for report in reports)
    print(f'{{"took_s": {took_s}, "requests": {requests}, "rows": {rows}, "load_s": {loaded - started}}}')
