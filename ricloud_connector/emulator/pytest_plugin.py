"""A pytest plugin: the fixture `ricloud_emulator`. Imports the servers only when a test asks for one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ricloud_connector.emulator import Emulator


@pytest.fixture
def ricloud_emulator() -> "Iterator[Emulator]":
    """A ricloud API of its own for each test: 60 available results over 3 days, none of them large."""
    try:
        from ricloud_connector.emulator import Emulator  # noqa: PLC0415 pytest must start without the extra
    except ImportError as error:
        pytest.skip(str(error))
    with Emulator(results=60, days=3, large_bytes=None) as emulator:
        yield emulator
