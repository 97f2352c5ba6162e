"""`python -m tests.benchmarks`: run the scenarios, write the table and the picture."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.scenarios import FULL, QUICK, SCENARIOS, Bench


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers: some minutes instead of an hour")
    parser.add_argument("--only", choices=SCENARIOS, nargs="+", default=list(SCENARIOS), help="these scenarios alone")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk to write to")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where the table goes")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended and folders removed
    facts = report.machine()
    bench, rows = Bench(QUICK if chosen.quick else FULL, chosen.disk), []
    for name in chosen.only:
        print(name, flush=True)
        rows += SCENARIOS[name](bench)
        report.write(chosen.out, rows, facts, _command(chosen))
    print((chosen.out / "results.md").read_text())


def _command(chosen: argparse.Namespace) -> str:
    """What gives the same table elsewhere: without the folders of this machine."""
    only = [] if chosen.only == list(SCENARIOS) else ["--only", *chosen.only]
    return " ".join(["python -m tests.benchmarks", *(["--quick"] * chosen.quick), *only])


if __name__ == "__main__":
    main()
