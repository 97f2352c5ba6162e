"""A local ricloud API with a folder as its bucket, for demos and tests. Loopback only.

    from ricloud_connector.emulator import Behaviour, Emulator

    with Emulator(results=60, days=3) as emulator:
        os.environ.update(emulator.environment())

The names are loaded at first use: the pytest plugin lives in this package, and pytest must start
where the extra is not installed.

Raises: ImportError, with the line to run, when a name is asked for without the extra `emulator`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ricloud_connector.emulator.behaviour import Behaviour
    from ricloud_connector.emulator.model import PublishedResult, RecordedRequest
    from ricloud_connector.emulator.run import run_emulator
    from ricloud_connector.emulator.server import Emulator

__all__ = ["Behaviour", "Emulator", "PublishedResult", "RecordedRequest", "run_emulator"]

_HOMES = {
    "Behaviour": "behaviour",
    "Emulator": "server",
    "PublishedResult": "model",
    "RecordedRequest": "model",
    "run_emulator": "run",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for needed in ("starlette", "uvicorn"):
        try:
            importlib.import_module(needed)
        except ImportError as error:
            raise ImportError(
                f"the emulator needs {needed}; run: pip install 'ricloud-connector[emulator]'", name=needed
            ) from error
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
