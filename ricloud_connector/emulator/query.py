"""What a listing asks for, read from its query parameters. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast, get_args

from ricloud_connector.emulator.behaviour import DateFilter
from ricloud_connector.emulator.model import State, microseconds_of

STATES: tuple[State, ...] = get_args(State)
DEFAULT_LIMIT = 10
MAX_LIMIT = 1000

EQUALITY_FILTERS = frozenset({"poll", "task", "identifier", "checksum"})
_COMPARISON = re.compile(r"(date_created|date_consumed|date_deleted)__(gte|gt|lt|lte)")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of microseconds since 1970; None is unbounded."""

    start: int | None = None
    stop: int | None = None

    def __contains__(self, moment: object) -> bool:
        """Whether the moment lies inside. A moment that is None (it has not happened) lies in no span."""
        if not isinstance(moment, int):
            return False
        return (self.start is None or moment >= self.start) and (self.stop is None or moment < self.stop)

    def narrow(self, operator: str, moment: int) -> "Span":
        """This span cut further by one comparison: `gte`, `gt`, `lt` or `lte`."""
        if operator in ("gte", "gt"):
            bound = moment + (operator == "gt")
            return Span(bound if self.start is None else max(self.start, bound), self.stop)
        bound = moment + (operator == "lte")
        return Span(self.start, bound if self.stop is None else min(self.stop, bound))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One listing: which results, from where, how many."""

    limit: int = DEFAULT_LIMIT
    after_id: str | None = None
    before_id: str | None = None
    state: State = "available"
    equals: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, Span] = field(default_factory=dict)


class BadQueryError(ValueError):
    """A query the API refuses; `params` says why, by parameter."""

    def __init__(self, params: Mapping[str, str]) -> None:
        super().__init__(f"refused: {', '.join(params)}")
        self.params = dict(params)


def parse_query(parameters: Iterable[tuple[str, str]], date_filter: DateFilter = "apply") -> Query:
    """The query in decoded parameters; of a parameter given twice the last counts.

    Raises: BadQueryError naming every unknown parameter and every bad value.
    """
    given = dict(parameters)
    faults: dict[str, str] = {}
    limit = given.pop("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MAX_LIMIT):
        faults["limit"] = f"Must be a whole number from 1 to {MAX_LIMIT}."
    state = given.pop("state", "available")
    if state not in STATES:
        faults["state"] = f"Must be one of {', '.join(STATES)}."
    after_id, before_id = given.pop("after_id", None), given.pop("before_id", None)
    equals = {name: given.pop(name) for name in EQUALITY_FILTERS & given.keys()}
    spans: dict[str, Span] = {}
    for name, value in given.items():
        comparison = _COMPARISON.fullmatch(name)
        moment = parse_moment(value)
        if comparison is None or date_filter == "reject":
            faults[name] = "Unknown parameter."
        elif date_filter == "apply" and moment is None:
            faults[name] = "Must be an ISO 8601 datetime."
        elif date_filter == "apply" and moment is not None:
            field_name, operator = comparison.groups()
            spans[field_name] = spans.get(field_name, Span()).narrow(operator, microseconds_of(moment))
    if faults:
        raise BadQueryError(faults)
    return Query(
        limit=int(limit),
        after_id=after_id,
        before_id=before_id,
        state=cast(State, state),
        equals=equals,
        spans=spans,
    )


def parse_moment(text: str) -> datetime | None:
    """An ISO 8601 datetime, without an offset in UTC; None for anything else."""
    if _DATETIME.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
