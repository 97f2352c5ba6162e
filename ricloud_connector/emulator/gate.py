"""What every request passes before its server handles it: the record, the latency, the test's own hook. Serves ASGI."""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ricloud_connector.emulator.behaviour import Behaviour
from ricloud_connector.emulator.body import render_error
from ricloud_connector.emulator.model import RecordedRequest, ServerName

Intercept = Callable[[Request], Response | Awaitable[Response | None] | None]
OnAcknowledge = Callable[[list[str]], None]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
T = TypeVar("T")


class Controls(Protocol):
    """What may be changed while the servers run; read anew for each request."""

    intercept: Intercept | None
    on_acknowledge: OnAcknowledge | None

    @property
    def behaviour(self) -> Behaviour:
        """How the servers behave."""


@dataclass(slots=True)
class Journal:
    """What has happened since the start. Guarded by `lock`."""

    requests: deque[RecordedRequest]
    acknowledged: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Gate:
    """An ASGI application in front of one handler; `server` is its name in the record and in `request.state.server`."""

    def __init__(self, server: ServerName, handle: Handler, controls: Controls, journal: Journal) -> None:
        self._server: ServerName = server
        self._handle = handle
        self._controls = controls
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request.state.server = self._server
        self._record(scope)
        if self._controls.behaviour.latency_s:
            await asyncio.sleep(self._controls.behaviour.latency_s)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            hook = self._controls.intercept
            response = None if hook is None else await ask_hook(hook, request)
            return await self._handle(request) if response is None else response
        except asyncio.CancelledError:
            raise
        except ClientDisconnect:
            # The client went away while sending; this is an answer to nobody.
            return Response(status_code=400)
        except BaseException as error:  # noqa: BLE001 pytest's own failures are no Exceptions, and `stop` raises them
            with self._journal.lock:
                self._journal.failures.append(error)
            body = render_error("emulator_failure", f"{type(error).__name__} in the emulator or in a hook of the test.")
            return Response(body, status_code=500, media_type="application/json")

    def _record(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        recorded = RecordedRequest(
            server=self._server,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=MappingProxyType(headers),
        )
        with self._journal.lock:
            self._journal.requests.append(recorded)


async def ask_hook(hook: Intercept, request: Request) -> Response | None:
    """What a hook answers. A plain function runs in a thread: it may sleep, wait, or call the API itself."""
    answer = hook(request) if inspect.iscoroutinefunction(hook) else await run_in_thread(lambda: hook(request))
    return await answer if isinstance(answer, Awaitable) else answer


async def run_in_thread(function: Callable[[], T]) -> T:
    """What the function answers, run in a daemon thread.

    A pool would make callers wait for each other, and its threads would keep a stopped emulator waiting for them.
    """
    done: Future[T] = Future()

    def run() -> None:
        # From here on a cancelled waiter can no longer cancel the future itself.
        done.set_running_or_notify_cancel()
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 whoever awaits the future gets it
            done.set_exception(error)

    threading.Thread(target=run, name="ricloud-emulator-hook", daemon=True).start()
    return await asyncio.wrap_future(done)
