"""Why a bucket did not give or take what was asked, in words of our own. Pure.

obstore's messages hold whole URLs, signatures too. They are matched with the few codes that say what is wrong, and
forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,32})</Region>")
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_ELSEWHERE = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"})
_SEEKS_CREDENTIALS = ("169.254.169.254", "169.254.170.", "metadata.google.internal", "token request", "credential")


class Kind(Enum):
    """What is wrong; the values are the stable codes of the quarantine dataset."""

    ABSENT = "gone"
    NO_BUCKET = "no_bucket"
    EXISTS = "exists"
    DENIED = "access_denied"
    NO_CREDENTIALS = "no_credentials"
    WRONG_REGION = "wrong_region"
    REQUESTER_PAYS = "requester_pays"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    NO_RANGE = "no_range"
    BAD_KEY = "unreadable_key"
    REFUSED = "unreadable"


class Refused(Exception):
    """What a bucket answered, in plain words without secrets. Never leaves this package."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True, slots=True)
class _Seen:
    """What can be seen of an error: obstore's class, the answer's status and code, the words around them."""

    name: str
    status: int
    code: str
    text: str

    def is_a(self, *names: str) -> bool:
        return self.name in names

    def seeks_credentials(self) -> bool:
        return any(sign in self.text.lower() for sign in _SEEKS_CREDENTIALS) and not (self.status and self.code)


# The first that fits, in this order.
_KINDS: tuple[tuple[Kind, Callable[[_Seen], bool]], ...] = (
    (Kind.NO_BUCKET, lambda seen: seen.code == "NoSuchBucket"),
    (Kind.ABSENT, lambda seen: seen.is_a("FileNotFoundError", "NotFoundError") and not seen.seeks_credentials()),
    (Kind.EXISTS, lambda seen: seen.is_a("AlreadyExistsError", "PreconditionError")),
    (Kind.NO_CREDENTIALS, lambda seen: seen.code in _BAD_CREDENTIALS or seen.status == 401 or seen.seeks_credentials()),
    (
        Kind.WRONG_REGION,
        lambda seen: seen.code in _ELSEWHERE or seen.status in (301, 307) or "redirect without LOCATION" in seen.text,
    ),
    (Kind.REQUESTER_PAYS, lambda seen: seen.code.startswith("UserProject") or "requester pays" in seen.text),
    (Kind.DENIED, lambda seen: seen.status == 403 or seen.is_a("PermissionDeniedError", "UnauthenticatedError")),
    (Kind.NO_RANGE, lambda seen: seen.status == 416 or "NotPartial" in seen.text),
    (Kind.THROTTLED, lambda seen: seen.status in (429, 503) or seen.code == "SlowDown"),
    (Kind.UNREACHABLE, lambda seen: seen.status >= 500 or seen.status == 408),
    (Kind.REFUSED, lambda seen: seen.status > 0),
    (Kind.BAD_KEY, lambda seen: seen.is_a("ValueError")),
    (Kind.UNREACHABLE, lambda _: True),
)


def refusal_of(bucket: str, error: Exception) -> Refused:
    """What an error of obstore means; `bucket` is `s3://name` or `gs://name`."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    seen = _Seen(type(error).__name__, int(status[1]) if status else 0, code[1] if code else "", text)
    kind = next(kind for kind, fits in _KINDS if fits(seen))
    return Refused(kind, _words(kind, bucket, seen))


def _words(kind: Kind, bucket: str, seen: _Seen) -> str:
    answered = (
        f"{bucket} answered {seen.status} {seen.code}".rstrip() if seen.status else f"{bucket} does not answer as it should"
    )
    if kind is Kind.NO_CREDENTIALS:
        if seen.code or seen.status == 401:
            return f"{answered}: the credentials are wrong or have run out"
        if bucket.startswith("gs:"):
            return f"no valid credentials are found for {bucket}: set GOOGLE_APPLICATION_CREDENTIALS"
        return f"no valid credentials are found for {bucket}: set AWS_ACCESS_KEY_ID and others (profiles: pip install boto3)"
    if kind is Kind.WRONG_REGION:
        region = _REGION.search(seen.text)
        return f"{bucket} lies in another region; set AWS_REGION={region[1] if region else '<its region>'}"
    if kind is Kind.DENIED:
        pays = "; if the requester pays there, set AWS_REQUEST_PAYER=requester" if bucket.startswith("s3:") else ""
        return f"{answered}: these credentials may not do this{pays}"
    return {
        Kind.NO_BUCKET: f"there is no bucket {bucket}",
        Kind.ABSENT: f"{bucket} has no such object",
        Kind.EXISTS: f"{bucket} has it already",
        Kind.REQUESTER_PAYS: f"{bucket} lets the requester pay; set GOOGLE_CLOUD_QUOTA_PROJECT to the project that is billed",
        Kind.NO_RANGE: f"{answered}: it does not go on where the answer broke off",
        Kind.BAD_KEY: "the key holds characters that cannot be asked for",
    }.get(kind, answered)
