"""The emulator as a program: up until SIGINT or SIGTERM. Takes over those two signals meanwhile."""

import signal
from collections.abc import Callable
from types import FrameType

from ricloud_connector.emulator.server import Emulator


def run_emulator(
    *,
    port: int = 0,
    results: int = 600,
    days: int = 3,
    seed: int = 0,
    token: str | None = None,
    on_ready: Callable[[Emulator], None] | None = None,
) -> None:
    """Returns after SIGINT or SIGTERM, everything cleaned up; `on_ready` is called once both servers answer.

    Works in the main thread only, as signals do. Raises: OSError where the port is taken.
    """
    # A program may run for weeks, and nobody asks it for its requests.
    emulator = Emulator(results=results, days=days, seed=seed, token=token, port=port, keep_requests=0)
    with emulator:

        def stop(_number: int, _frame: FrameType | None) -> None:
            emulator.request_stop()

        former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if on_ready is not None:
                on_ready(emulator)
            emulator.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
