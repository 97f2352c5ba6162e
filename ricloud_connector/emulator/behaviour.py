"""How the emulated API behaves where real ones may differ. Pure."""

from dataclasses import dataclass
from typing import Literal, get_args

DateFilter = Literal["apply", "ignore", "reject"]
Order = Literal["newest", "oldest", "shuffled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to behave; replace the whole (`emulator.behaviour = Behaviour(...)`) to change it while it runs.

    date_filter: what becomes of `date_created__gte=` and its like; `reject` answers 400 and names the parameter.
    order: of the listing. Cursors keep working; `shuffled` is a fixed order that has nothing to do with time.
    dropped_acknowledgements: that many acknowledgement calls are answered 200 without being applied; counted
        from the moment the behaviour is set.
    latency_s: seconds before any answer, of the API and of the contents' host.
    max_ack_batch: more ids than this in one call are answered 400.
    signature_lifetime_s: of a signed URL, at least, rounded up to whole seconds; 0 signs URLs that are expired.
    delete_acknowledged: contents are deleted (and `date_deleted` set) once their result is acknowledged.

    Raises: ValueError for a value that is none of these.
    """

    date_filter: DateFilter = "apply"
    order: Order = "newest"
    dropped_acknowledgements: int = 0
    latency_s: float = 0.0
    max_ack_batch: int = 1000
    signature_lifetime_s: float = 3600.0
    delete_acknowledged: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("date_filter", get_args(DateFilter)), ("order", get_args(Order))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("dropped_acknowledgements", "latency_s", "max_ack_batch", "signature_lifetime_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)!r}")
