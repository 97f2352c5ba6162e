"""Results read again at the API, some at a time: their signed URLs are fresh afterwards. I/O: through the API's client."""

from __future__ import annotations

from typing import Protocol

from ricloud_connector import overlap
from ricloud_connector.errors import ApiError, ApiUnavailable
from ricloud_connector.model import Rejection, Result

RENEWERS = 8


class Retrieve(Protocol):
    """How a result is read again: `RicloudClient.retrieve_result`. Raises: ApiError."""

    def __call__(self, result_id: str, /) -> Result | Rejection: ...


def ask_again(retrieve: Retrieve, result_ids: list[str]) -> list[Result | Rejection | ApiError]:
    """Each result as it is now; after some failures in a row the rest is not asked for."""
    silent = 0

    def ask(result_id: str) -> Result | Rejection | ApiError:
        nonlocal silent
        if silent >= RENEWERS:
            return ApiUnavailable("not asked for, since the API does not answer")
        try:
            answer: Result | Rejection | ApiError = retrieve(result_id)
        except ApiUnavailable as error:
            silent += 1
            return error
        except ApiError as error:
            answer = error
        silent = 0
        return answer

    if not result_ids:
        return []
    with overlap.pool(min(RENEWERS, len(result_ids))) as pool:
        return list(pool.map(ask, result_ids))
