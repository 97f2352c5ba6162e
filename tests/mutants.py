"""Mutants of the safety kernel, each module's with the tests that kill them fastest: `pip install mutmut`, and by hand

    python -m tests.mutants [MODULE ...]     # all five where none is named; `mutmut show NAME` shows one that survived

Killed of all, in eight minutes on two cores: verify 187 of 187; acknowledge 271 of 281, whose survivors do the same (`strict`
of columns of one table, None for False); partition 317 of 326; lake 310 of 324, five by time-out; readback 164 of 168.

Ends with exit code 1 where fewer than 95 % of a module's mutants are killed. What it makes lies in `mutants/`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ENOUGH = 0.95
CHILDREN = 3

_PIECES = [
    f"tests/test_readback.py::{name}"
    for name in (
        "test_a_piece_is_stored_and_read_back_on_a_machine_that_allows_md5_for_no_security",
        "test_of_a_piece_what_is_stored_already_is_left_out",
        "test_fault_084_a_piece_that_does_not_decode_to_its_bytes_is_not_committed",
        "test_a_content_that_spans_parts_is_proven_with_its_last_one_over_all_of_them",
        "test_what_was_proven_before_it_was_committed_is_not_decoded_again",
    )
]

_CACHE = "tests/test_lake_cache.py::test_a_deleted_cache_is_made_anew"
_TOGETHER = "tests/test_side_by_side.py::test_long_parts_that_end_together_are_committed_two_at_a_time"

TESTS = {
    "verify": ["tests/test_verify.py"],
    "readback": ["tests/test_readback.py"],
    "acknowledge": ["tests/test_acknowledge.py"],
    "lake": ["tests/test_lake_doubt.py", "tests/test_lake.py", _CACHE, _TOGETHER, *_PIECES],
    "partition": ["tests/test_partition.py", "tests/test_lake_doubt.py", "tests/test_lake.py", *_PIECES],
}

SLOWER = """however flipped_b few_at_a_time batches_are no_cut a_flip changed_after anything_has many_days 100_000 eight torn
very_part flat 2_gib out_of_order"""
"""Parts of the names of tests that kill no mutant which others leave."""


def run(module: str) -> None:
    """All mutants of one module, from the beginning."""
    from mutmut import __main__ as mutmut  # noqa: PLC0415  # is not among what the tests need
    from mutmut.configuration import config  # noqa: PLC0415

    shutil.rmtree("mutants", ignore_errors=True)
    if Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"  # where fsync costs nothing: most of these tests do little else
    settings = config()
    settings.only_mutate = [f"ricloud_connector/{module}.py"]
    settings.pytest_add_cli_args_test_selection = TESTS[module]
    settings.pytest_add_cli_args += ["-k", f"not ({' or '.join(SLOWER.split())})"]
    mutmut._run([], CHILDREN)


def report(module: str) -> bool:
    """Say what came of it; whether it is enough. Time-outs are kills."""
    from mutmut.stats import status_by_exit_code  # noqa: PLC0415

    said = json.loads(Path(f"mutants/ricloud_connector/{module}.py.meta").read_text())["exit_code_by_key"]
    ended = {name: status_by_exit_code[code] for name, code in said.items()}
    counts = Counter(ended.values())
    killed = counts["killed"] + counts["timeout"]
    print(f"\n{module}: {killed} of {len(ended)} killed, {killed / len(ended):.1%} ({dict(counts)})")
    print(*sorted(f"  {status}: {name}" for name, status in ended.items() if status not in ("killed", "timeout")), sep="\n")
    return killed >= ENOUGH * len(ended)


def main(modules: list[str]) -> int:
    if len(modules) == 1:
        run(modules[0])
        return 0 if report(modules[0]) else 1
    # mutmut runs once in a process
    return max(subprocess.run([sys.executable, "-m", "tests.mutants", module]).returncode for module in modules or TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
