"""Python's cyclic garbage collector at rest, where objects come by the thousand and none is in a cycle. Of this process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Without it while JSON is read: to look through all those objects would be a third of the work, or half.

    It works again afterwards, whatever other threads do; where it was at rest already it stays so.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
