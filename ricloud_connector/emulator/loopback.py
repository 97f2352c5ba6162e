"""Applications on sockets of 127.0.0.1. Runs uvicorn in one daemon thread.

One event loop for all: they share the interpreter's lock anyway, and switching between two loops costs
milliseconds under load.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import uvicorn
from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
GRACE_S = 1.0
_LIMIT_S = 30.0


def bind_loopback(port: int) -> socket.socket:
    """A socket on 127.0.0.1; port 0 takes a free one. Raises: OSError where the port is taken."""
    # With the protocol left open asyncio does not set TCP_NODELAY, and each answer waits 40 ms for an ACK.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
    except OSError as error:
        bound.close()
        error.add_note(f"while binding {LOOPBACK}:{port}")
        raise
    return bound


class LoopbackServers:
    """Servers that are up from `start` to `stop`. Takes over the sockets it is given."""

    def __init__(self, served: Sequence[tuple[socket.socket, ASGIApp]]) -> None:
        self._served = served
        self._up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._down: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="ricloud-emulator", daemon=True)

    def start(self) -> None:
        """Returns once every server answers. Raises: whatever kept one from doing so."""
        self._thread.start()
        self._up.result(_LIMIT_S)

    def request_stop(self) -> None:
        """Asks the servers to stop, and does not wait. Safe in a signal handler."""
        loop, stopping = self._up.result(0)
        # A loop that is closed has stopped already, be it since the last line.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopping.set)

    def wait(self) -> None:
        """Returns when the servers have stopped. Raises: whatever broke them."""
        self._thread.join()
        self._down.result(0)

    def stop(self) -> None:
        """Stops the servers, giving requests at hand a second. Raises: whatever broke them."""
        self.request_stop()
        self.wait()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 whoever waits for the start or the stop gets it
            failure = error
            if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                failure = error.exceptions[0]
            if not self._up.done():
                self._up.set_exception(failure)
            self._down.set_exception(failure)
        else:
            self._down.set_result(None)

    async def _serve(self) -> None:
        stopping = asyncio.Event()
        servers = [_Server(application, stopping) for _, application in self._served]
        async with asyncio.TaskGroup() as group:
            for server, (bound, _) in zip(servers, self._served, strict=True):
                group.create_task(server.serve(sockets=[bound]))
            for server in servers:
                await server.ready.wait()
            self._up.set_result((asyncio.get_running_loop(), stopping))


class _Server(uvicorn.Server):
    """uvicorn's server with a start that can be awaited and a stop that takes no fixed pauses (0.3 s of them)."""

    def __init__(self, application: ASGIApp, stopping: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                ws="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                # Failures of hooks are raised by the emulator's own stop; a test's broken response is meant to break.
                log_config=None,
                log_level="critical",
                access_log=False,
            )
        )
        self.ready = asyncio.Event()
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks) and not self._stopping.is_set():
            ticks += 1
            try:
                await asyncio.wait_for(self._stopping.wait(), 0.1)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 closed with their servers
        for server in self.servers:
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
        # A connection accepted just now takes some rounds of the loop to get its transport, and breaks, loudly, on a
        # server that is closed meanwhile.
        await asyncio.sleep(0.005)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            _, late = await asyncio.wait(self.server_state.tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # A closed transport lets go of its socket in the loop's next round.
        await asyncio.sleep(0)
