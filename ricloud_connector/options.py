"""What a run can be told: which results it is about, and what becomes of fields that a feed's columns do not have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ricloud_connector.errors import SettingsError
from ricloud_connector.model import AVAILABLE, STATES, Rejection, Result
from ricloud_connector.redact import clean

if TYPE_CHECKING:
    from ricloud_connector.listed import Listed

Contract = Literal["evolve", "freeze", "discard"]
"""What becomes of fields that a feed's columns do not have: they become columns; the record is set aside; `_extra`."""

Contracts = Mapping[str, Contract]
"""A contract by feed; `*` is that of all others."""


def check_contracts(contracts: Contracts | None) -> Contracts:
    """The contracts, checked. Raises: SettingsError."""
    for feed, contract in (contracts or {}).items():
        if contract not in ("evolve", "freeze", "discard"):
            raise SettingsError(f"the contract of {feed!r} is evolve, freeze or discard, not {contract!r}")
    return contracts or {}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results a run is about. Nothing given: everything available.

    With `consumed` and `expired` among the states the history of the metadata is complete; what is not available is never
    acknowledged, and its contents are stored only where they can still be read.
    """

    states: tuple[str, ...] = (AVAILABLE,)
    identifiers: tuple[str, ...] = ()
    poll: str | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.states) - STATES)
        if unknown or not self.states:
            raise SettingsError(f"states are of {', '.join(sorted(STATES))}, not {clean(', '.join(unknown)) or 'none'}")

    @property
    def filters(self) -> dict[str, str]:
        """What the server is asked to filter by; `wants` checks every answer."""
        found = {"poll": self.poll, "task": self.task}
        if len(self.identifiers) == 1:
            found["identifier"] = self.identifiers[0]
        return {name: value for name, value in found.items() if value is not None}

    def chosen(self, listed: Listed) -> Listed:
        """Those of the items that are wanted."""
        if not (self.identifiers or self.poll or self.task):
            return listed
        return listed.where(lambda names: self._is_about(*names), "identifier", "poll", "task")

    def wants(self, item: Result | Rejection) -> bool:
        """Whether the item is one of those asked for. What cannot be read whole is set aside only by a run about everything."""
        if isinstance(item, Rejection):
            return not (self.identifiers or self.poll or self.task)
        return self._is_about(item.identifier, item.poll, item.task)

    def _is_about(self, identifier: str | None, poll: str | None, task: str | None) -> bool:
        named = not self.identifiers or identifier in self.identifiers
        return named and self.poll in (None, poll) and self.task in (None, task)
