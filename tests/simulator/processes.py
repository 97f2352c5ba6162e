"""Processes that live and die on one stage: who acts next, who dies where, and what time it is. Threads that take turns.

A process is a run of the connector. It acts only by touching what it shares with others: the store and the API. Before each
touch another process may be given the turn, and at a touch a process may die: what it would have done after that never
happens, since every later touch of its own raises `Died` again. One seed decides all of it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

BEFORE, AFTER, TORN, LOST = "before", "after", "torn", "reply lost"
MOMENTS = (BEFORE, AFTER, TORN, LOST)


class Died(BaseException):
    """The process is gone. Nothing of the connector's catches it for long: what it touches next raises it again."""


class Stuck(AssertionError):
    """A run goes on and on."""


@dataclass(frozen=True, slots=True)
class Death:
    """At its how-manieth touch a process dies, and at which moment of it. With `power` all die, and volatile state is lost.

    With `of_changes` only touches count that change something, and to be torn only those that can be. Where the reply is
    lost the process lives, and is told of an error although everything was done.
    """

    touch: int
    moment: str = BEFORE
    power: bool = False
    of_changes: bool = False


def _closed() -> Any:
    """A lock that is held: whoever wants it waits until somebody opens it. Cheaper than a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Process:
    """`touches` counts what it did, `changes` and `tearable` some of those where its death asks for them; `outcome` is what it
    raised, if anything."""

    name: str
    death: Death | None = None
    touches: int = 0
    changes: int = 0
    tearable: int = 0
    dead: bool = False
    ended: bool = False
    outcome: BaseException | None = None
    turn: Any = field(default_factory=_closed)


def _due(process: Process, death: Death, changes: bool | Callable[[], bool], *, tearable: bool) -> bool:
    if not death.of_changes:
        return process.touches == death.touch
    if not (changes if isinstance(changes, bool) else changes()):
        return False
    process.changes += 1
    process.tearable += tearable
    return tearable and process.tearable == death.touch if death.moment == TORN else process.changes == death.touch


MAX_TOUCHES = 20_000
MAX_SECONDS = 200_000.0


class Stage:
    """One history's processes, clock and chance. `current` is the process that acts, None where nobody does.

    `trace` is a line for each touch, kept where asked for. `counted` counts the faults injected, by kind. No fault befalls
    one of the first `calm` touches: what a run does last would be met too seldom, since faults at its beginning end it.
    """

    def __init__(self, rng: random.Random, *, traced: bool = False) -> None:
        self.rng = rng
        self.current: Process | None = None
        self.seconds = 0.0
        self.touches = 0
        self.trace: list[str] | None = [] if traced else None
        self.counted: Counter[str] = Counter()
        self.faulty = True
        self.calm = 0
        self.switching = 0.25
        self.on_power_cut: Callable[[], None] = lambda: None
        self.power_is_cut = False
        self._running: list[Process] = []
        self._everything_over = _closed()

    # Time

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds > MAX_SECONDS:
            raise Stuck(f"after {self.seconds:.0f} s of waiting the run has not ended")

    # Faults

    def befalls(self, kind: str, chance: float) -> bool:
        """Whether a fault happens now; it is counted."""
        if not self.faulty or self.current is None or self.touches < self.calm or self.rng.random() >= chance:
            return False
        self.counted[kind] += 1
        self.say(f"    fault: {kind}")
        return True

    def say(self, line: str) -> None:
        if self.trace is not None:
            self.trace.append(line)

    # Touching

    def touch(
        self,
        what: str,
        do: Callable[[], Any],
        *,
        changes: bool | Callable[[], bool] = False,
        torn: Callable[[], Any] | None = None,
        lost: Exception | None = None,
    ) -> Any:
        """Do something that others can see. `torn` does a part of it, `lost` is what is told when the reply is lost.

        Raises: Died, and what `do` raises.
        """
        process = self.current
        if process is None:
            return do()
        if process.dead:
            raise Died
        if len(self._running) > 1 and self.rng.random() < self.switching:
            self._hand_over(process)
        process.touches += 1
        self.touches += 1
        self.seconds += 0.01
        if self.trace is not None:
            self.trace.append(f"{process.name} {process.touches:4} {what}")
        if process.touches > MAX_TOUCHES:
            raise Stuck(f"{process.name} has touched the world {MAX_TOUCHES} times")
        death = process.death
        if death is None or not _due(process, death, changes, tearable=torn is not None):
            return do()
        if death.moment == LOST and lost is not None:
            process.death = None
            do()
            self.counted["reply lost"] += 1
            self.say("    done, and the reply is lost")
            raise lost
        if death.moment == TORN and torn is not None:
            torn()
        elif death.moment in (AFTER, LOST):
            with suppress(Exception):  # what it was refused it does not live to see
                do()
        self._die(process, death)
        raise Died

    def _die(self, process: Process, death: Death) -> None:
        self.counted["power cut" if death.power else f"crash, {death.moment}"] += 1
        self.say(f"    {'the power is cut' if death.power else process.name + ' dies'}, {death.moment}")
        process.dead = True
        if death.power:
            self.power_is_cut = True
            for other in self._running:
                other.dead = True

    # Running

    def run(self, works: list[tuple[Process, Callable[[], None]]]) -> None:
        """Run all to their end, together, taking turns."""
        self.power_is_cut = False
        self._running = [process for process, _ in works]
        if len(works) == 1:
            self.current = works[0][0]
            self._perform(*works[0])
        else:
            threads = [threading.Thread(target=self._in_turn, args=work, daemon=True) for work in works]
            for thread in threads:
                thread.start()
            self._pass_on()
            self._everything_over.acquire()
            for thread in threads:
                thread.join()
        self.current = None
        self._running = []
        if self.power_is_cut:
            self.on_power_cut()

    def _perform(self, process: Process, work: Callable[[], None]) -> None:
        try:
            if not process.dead:
                work()
        except Died:
            process.dead = True
        except BaseException as error:  # noqa: BLE001  # the director decides what it means
            process.outcome = error
        process.ended = True

    def _in_turn(self, process: Process, work: Callable[[], None]) -> None:
        process.turn.acquire()
        self._perform(process, work)
        self._running.remove(process)
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to anybody who is left."""
        if not self._running:
            self._everything_over.release()
            return
        self.current = self.rng.choice(self._running)
        self.current.turn.release()

    def _hand_over(self, process: Process) -> None:
        following = self.rng.choice(self._running)
        if following is process:
            return
        self.current = following
        following.turn.release()
        process.turn.acquire()
        if process.dead:
            raise Died
