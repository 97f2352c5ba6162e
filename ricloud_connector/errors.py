"""Every error that leaves this package. Pure.

    RicloudError
    ├── SettingsError             a setting or an argument is wrong: nothing was done; mend it
    │   └── ForeignLake           the lake belongs to another organisation or a newer format
    ├── ApiError                  the API did not give what was asked
    │   ├── ApiUnavailable        connection, time-out, 429 or 5xx after all retries: run again later
    │   ├── ApiRefused            a 4xx: asking again cannot help
    │   │   ├── TokenRefused      401 or 403: mend RICLOUD_TOKEN
    │   │   └── FilterRefused     the server does not take this filter: the client walks without it
    │   └── UntrustedAnswer       a reply that cannot be believed: shape, ids, or a cursor that does not move
    ├── ContentError              one result's content cannot be had or proven; carries the reason's code
    └── LakeError                 the lake cannot be written or trusted
        ├── BrokenChain           a part number is missing between two others
        ├── UnreadablePart        a committed file does not decode, or not to what was proven
        ├── UncertainCommit       the store did not say whether it created a file; it was looked for and is not there
        └── UnsafeStore           the store lacks create-if-absent or durable writes: nothing is acknowledged

No message holds a token, a signature or the query of a URL.
"""

from __future__ import annotations


class RicloudError(Exception):
    """The root of all errors of this package. `retryable` says whether running again unchanged can help."""

    retryable = False


class SettingsError(RicloudError):
    """A setting or an argument is missing or wrong; the message names it and the line to set."""


class ForeignLake(SettingsError):
    """The lake at hand was written for another organisation or by a newer format of this connector."""


class ApiError(RicloudError):
    """The API did not give what was asked."""


class ApiUnavailable(ApiError):
    """The API could not be reached or was overloaded, also after retries."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, connected: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.connected = connected


class ApiRefused(ApiError):
    """The API answered 4xx: the same request would be refused again."""

    def __init__(self, message: str, *, status: int, params: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.params = params


class TokenRefused(ApiRefused):
    """The API answered 401 or 403."""


class FilterRefused(ApiRefused):
    """The API answered 400 and named a parameter of the date filter."""


class UntrustedAnswer(ApiError):
    """The API's answer has a shape, an id or a cursor that cannot be believed. `cut_short`: it is not even JSON."""

    retryable = True

    def __init__(self, message: str, *, cut_short: bool = False) -> None:
        super().__init__(message)
        self.cut_short = cut_short


class ContentError(RicloudError):
    """The content of one result cannot be had or proven.

    `reason` is a stable code as it appears in the quarantine dataset; `transient` says that the next run may succeed
    without anything having changed at the API (a host that does not answer), so that nothing is written about it.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        transient: bool = False,
        actual_checksum: str | None = None,
        actual_size: int | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.transient = transient
        self.actual_checksum = actual_checksum
        self.actual_size = actual_size


class LakeError(RicloudError):
    """The lake cannot be written or trusted."""


class BrokenChain(LakeError):
    """A partition's parts are not numbered without gaps from zero."""


class UnreadablePart(LakeError):
    """A committed file does not decode, or not to what was proven before it was committed."""


class UncertainCommit(LakeError):
    """A bucket did not say whether it created a file: what is there now says it, to whoever looks."""

    retryable = True


class UnsafeStore(LakeError):
    """The store fails the probe, so that no acknowledgement would be safe."""
