"""python -m tests.simulator --histories N [--seed S] [--jobs J] [-v]

Plays the histories of the seeds S, S+1, ... and says what befell them. A failure ends it with the seed that replays it;
with `-v` the trace of each history is printed. `--hours H` goes on until the time is over instead.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulator.history import Failed, play, play_all, simulated
from tests.simulator.world import ENDED_IN_ERROR

TOGETHER = 50  # histories that a worker plays before it tells


def main() -> int:
    arguments = _parsed()
    if arguments.verbose:
        return _show(range(arguments.seed, arguments.seed + arguments.histories))
    started = time.monotonic()
    ends = started + arguments.hours * 3600 if arguments.hours else None
    counted, histories, touches = Counter[str](), 0, 0
    chunks = _chunks(arguments.seed, None if ends else arguments.histories)
    failure = None
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for played, faults, touched, failed in pool.imap_unordered(play_all, _until(chunks, ends)):
            histories, touches = histories + played, touches + touched
            counted += faults
            failure = failed
            if failed is not None or (ends is not None and time.monotonic() >= ends):
                break  # what is still queued is dropped
    seconds = time.monotonic() - started
    print(f"{histories} histories from seed {arguments.seed} by {arguments.jobs} jobs in {seconds:.1f} s")
    print(f"{touches:10} calls of store and API")
    for kind, count in sorted(counted.items()):
        print(f"{count:10} {kind}")
    faults = sum(count for kind, count in counted.items() if kind != ENDED_IN_ERROR)
    print(f"{faults:10} faults in all")
    if failure is not None:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    print("every promise held")
    return 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Plays histories of simulated runs.")
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--hours", type=float, help="play for so long, however many histories that is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-v", "--verbose", action="store_true", help="print each touch of store and API")
    return parser.parse_args()


def _show(seeds: range) -> int:
    with simulated() as folder:
        for seed in seeds:
            try:
                print("\n".join(play(seed, folder, traced=True).trace or []))
            except Failed as failure:
                print("\n".join(failure.trace or []))
                print(failure)
                return 1
    return 0


def _chunks(seed: int, histories: int | None) -> Iterator[range]:
    for first in itertools.count(seed, TOGETHER):
        if histories is None:
            yield range(first, first + TOGETHER)
        elif first < seed + histories:
            yield range(first, min(first + TOGETHER, seed + histories))
        else:
            return


def _until(chunks: Iterator[range], ends: float | None) -> Iterator[range]:
    """The chunks, no faster than they are played where time decides how many there are."""
    for chunk in chunks:
        if ends is not None:
            left = ends - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))  # a chunk takes longer: what waits in the queue stays small
        yield chunk


if __name__ == "__main__":
    raise SystemExit(main())
