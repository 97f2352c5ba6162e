"""Which hosts answer: one that does not must not cost a time-out for every result that it holds. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DOWN_AFTER = 32  # failures in a row without an answer in between
PROBES = 4  # tries in each round at a host that is down
PATIENCE_S = 60.0


@dataclass(slots=True)
class _Host:
    failures: int = 0
    first_failed_at: float = 0.0
    probes: int = 0


class Health:
    """What was seen of each host. A host is down after 32 failures in a row, until one transfer gets an answer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def start_round(self) -> None:
        """Allow a few more probes."""
        for host in self._hosts.values():
            host.probes = 0

    def may_try(self, name: str) -> bool:
        """Whether one more transfer may go to the host in this round."""
        if not self.is_down(name):
            return True
        host = self._hosts[name]
        host.probes += 1
        return host.probes <= PROBES

    def answered(self, name: str) -> None:
        self._hosts.pop(name, None)

    def failed(self, name: str) -> None:
        host = self._hosts.setdefault(name, _Host(first_failed_at=self._clock()))
        host.failures += 1

    def is_down(self, name: str) -> bool:
        return name in self._hosts and self._hosts[name].failures >= DOWN_AFTER

    def is_lost(self, name: str) -> bool:
        """Whether the host has been down for so long that waiting for it is no use to this run."""
        return self.is_down(name) and self._clock() - self._hosts[name].first_failed_at > PATIENCE_S
