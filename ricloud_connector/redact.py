"""Text from outside made fit for messages and logs: no secret, no control character, not too long. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

# JSON may write a slash as `\/` and a question mark as `\u003f`. Of a query nothing is spared up to the next space:
# every other character can be part of it.
_SCHEME = r"([a-z][a-z0-9+.-]{0,20}:(?:\\?/){2}"
_QUERY = re.compile(_SCHEME + r"[^\s?#]*?)(?:[?#]|\\u003f)\S*", re.IGNORECASE)
_USERINFO = re.compile(_SCHEME + r")[^\s/?#]*@", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")


class Secret:
    """A string that is shown as `***` everywhere; `reveal()` is the one way to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would leave this process in clear")


def clean(text: str, *secrets: Secret, limit: int = 200) -> str:
    """`text` without the secrets, without the query and user of any URL, on one line, of at most `limit` characters."""
    for secret in secrets:
        if secret:
            for written in (secret.reveal(), quote(secret.reveal(), safe="")):
                text = text.replace(written, "***")
    # URLs first: a control character inside one must not make two words of it, of which one would be spared.
    text = _QUERY.sub(r"\1?***", _USERINFO.sub(r"\1", text[: 10 * limit]))
    text = _UNPRINTABLE.sub(" ", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, all that is ever shown of a signed one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or "?"
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable URL"
    return clean(f"{parts.scheme}://{host}{port}")
