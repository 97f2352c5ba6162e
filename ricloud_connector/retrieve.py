"""Results read anew, some at a time. I/O: asks the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ricloud_connector.errors import ApiError, ApiUnavailable
from ricloud_connector.model import Rejection, Result

AT_ONCE = 8


class Retrieve(Protocol):
    """Reads one result anew. Raises: ApiError."""

    def __call__(self, result_id: str, /) -> Result | Rejection: ...


def retrieve_all(retrieve: Retrieve, result_ids: list[str]) -> list[Result | Rejection | ApiError]:
    """Each result as it is now; after some failures in a row the rest is not asked for."""
    silent = 0

    def ask(result_id: str) -> Result | Rejection | ApiError:
        nonlocal silent
        if silent >= AT_ONCE:
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
    with ThreadPoolExecutor(min(AT_ONCE, len(result_ids))) as pool:
        return list(pool.map(ask, result_ids))
