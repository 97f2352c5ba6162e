"""Processes of the command line by the dozen: a nursery has everything imported and forks one for each run.

Each is a process of its own, with its own environment and pid, that dies of SIGKILL like any other; only the half second
of imports is saved. The console script itself is run by `tests/command.py`.

As a program it answers lines of JSON: `{"start": {...}}` with a pid, `{"wait": pid}` with how that one ended,
`{"stopped": pid}` once it has stopped.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, Self

from tests.command import clean_environment

# Every touch of the disk that others may see, every call of the API, every row: `module:name`.
EVENTS = (
    "ricloud_connector.disk:make_folder",
    "ricloud_connector.disk:sync",
    "ricloud_connector.disk:sync_upwards",
    "ricloud_connector.disk:settle",
    "ricloud_connector.disk:create",
    "ricloud_connector.disk:list_parts",
    "ricloud_connector.disk:replace",
    "ricloud_connector.disk:discard",
    "ricloud_connector.disk:probe",
    "ricloud_connector.partition:read_index",
    "ricloud_connector.parts:ContentsWriter.add",
    "ricloud_connector.parts:PartWriter.write",
    "ricloud_connector.parts:PartWriter.finish",
    "ricloud_connector.lake:prove_staged",
    "ricloud_connector.readback:VerifiedCommit.__init__",
    "ricloud_connector.client:RicloudClient.fetch_page",
    "ricloud_connector.client:RicloudClient.retrieve_result",
    "ricloud_connector.client:RicloudClient.send_acknowledgements",
)


@dataclass(frozen=True)
class Plan:
    """What befalls a process: `action` before or after the n-th (from 1) of these events, counted together.

    `kill` is SIGKILL, `stop` is SIGSTOP, `raise` a MemoryError. With n = 0 nothing befalls it. `log` is given all events,
    `clock_ahead_s` is by how much its clock is wrong. With `names` what it stages has the same names as in the run before.
    """

    n: int = 0
    moment: str = "before"
    events: tuple[str, ...] = EVENTS
    action: str = "kill"
    log: str | None = None
    clock_ahead_s: float = 0.0
    names: bool = False


@dataclass(frozen=True)
class Ended:
    """How a process ended: its status (negative: the signal that killed it) and what it said."""

    status: int
    said: str


@dataclass
class Nursery:
    """The program, and the processes that it started. Use as a context manager."""

    _program: subprocess.Popen[str] = field(init=False)
    _said: dict[int, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=clean_environment({}),
        )
        self._ask({"ready": True})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(timeout=60)

    def start(self, *arguments: str, environment: Mapping[str, str], plan: Plan | None = None) -> int:
        """Start `ricloud-connector ARGUMENTS`; returns its pid."""
        handle, said = tempfile.mkstemp(prefix="nursery-")
        os.close(handle)
        order = {
            "arguments": arguments,
            "environment": clean_environment(environment),
            "plan": vars(plan or Plan(events=())),
            "said": said,
        }
        pid = self._ask({"start": order})["pid"]
        self._said[pid] = said
        return pid

    def wait(self, pid: int) -> Ended:
        answer = self._ask({"wait": pid})
        said = Path(self._said.pop(pid))
        text = said.read_text()
        said.unlink()
        return Ended(answer["status"], text)

    def wait_for_stop(self, pid: int) -> None:
        """Returns once the process has stopped itself, as by `stop` in its plan."""
        self._ask({"stopped": pid})

    def run(self, *arguments: str, environment: Mapping[str, str], plan: Plan | None = None) -> Ended:
        return self.wait(self.start(*arguments, environment=environment, plan=plan))

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        answer: dict[str, Any] = json.loads(self._program.stdout.readline())
        return answer


def _serve() -> None:
    """Answer orders until the input ends. Whoever is still running then is killed."""
    importlib.import_module("ricloud_connector.cli")  # what every run needs is loaded once
    importlib.import_module("ricloud_connector.session")
    importlib.import_module("pyarrow.acero")  # which `Table.join` loads when it is first called
    children: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        answer = {}
        if "start" in order:
            pid = os.fork()
            if pid == 0:
                _run(**order["start"])
            children.add(pid)
            answer = {"pid": pid}
        elif "stopped" in order:
            os.waitpid(order["stopped"], os.WUNTRACED)
        elif "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            children.discard(order["wait"])
            answer = {"status": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(arguments: list[str], environment: dict[str, str], plan: dict[str, Any], said: str) -> None:
    """Be the process: never returns."""
    status = 70
    try:
        os.environ.clear()
        os.environ.update(environment)
        handle = os.open(said, os.O_WRONLY)
        for standard in (1, 2):
            os.dup2(handle, standard)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _arm(Plan(**plan))
        sys.argv = ["ricloud-connector", *arguments]
        importlib.import_module("ricloud_connector.cli").main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001  # this is the outermost frame of a process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _arm(plan: Plan) -> None:
    """Wrap the events at their modules' borders, so that the plan comes true."""
    counter = itertools.count(1)
    log = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if plan.log else None

    def befall() -> None:
        if plan.action == "raise":
            raise MemoryError("as the plan says")
        os.kill(os.getpid(), signal.SIGKILL if plan.action == "kill" else signal.SIGSTOP)
        time.sleep(0.05)  # the signal may reach another thread first, and must not find this one further on

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def event(*arguments: Any, **named: Any) -> Any:
            number = next(counter)
            if log is not None:
                os.write(log, f"{name}\n".encode())
            if (number, "before") == (plan.n, plan.moment):
                befall()
            answer = function(*arguments, **named)
            if (number, "after") == (plan.n, plan.moment):
                befall()
            return answer

        return event

    if plan.names:
        _name_alike()
    if plan.clock_ahead_s:
        _shift_clocks(timedelta(seconds=plan.clock_ahead_s))
    for name in plan.events:
        module, _, path = name.partition(":")
        *holders, attribute = path.split(".")
        holder = functools.reduce(getattr, holders, importlib.import_module(module))
        setattr(holder, attribute, wrap(name, getattr(holder, attribute)))


def _name_alike() -> None:
    """Number what is named at random, so that two runs give the same names.

    Each function that asks counts for itself: threads that name other things beside it take none of its numbers.
    """
    numbers: defaultdict[CodeType, Iterator[int]] = defaultdict(lambda: itertools.count(1))
    os.urandom = lambda size: next(numbers[sys._getframe(1).f_code]).to_bytes(size)
    importlib.import_module("ricloud_connector.session").new_run_id = lambda: "alike"


def _shift_clocks(ahead: timedelta) -> None:
    """Make this process's wall clocks wrong, as those of another machine may be."""
    true_time = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + ahead

    time.time = lambda: true_time() + ahead.total_seconds()
    importlib.import_module("ricloud_connector.ingest.run").datetime = Shifted


if __name__ == "__main__":
    _serve()
