"""A file system of which a power cut keeps only what was fsynced. Real files, on a real (memory) disk, told to forget.

Every call of the connector's that others can see comes through `SimulatedKernel.__call__`. What is durable is written down
beside it: the entries of a folder when the folder was synced, the bytes of a file when the file was. A power cut takes
back the rest, or only some of it, as a journal that was half written out would.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ricloud_connector import disk
from tests.simulator.processes import Died, Stage

_NAMES = {
    disk.flush: "fsync",
    disk._make_folders: "mkdir",
    os.link: "link",
    os.unlink: "unlink",
    os.replace: "replace",
    os.scandir: "list",
    os.listdir: "list",
    os.stat: "stat",
    Path.read_bytes: "read",
    shutil.rmtree: "rmtree",
}
_OF_TWO = frozenset({"link", "replace"})
_FAILS = {"fsync": errno.EIO, "mkdir": errno.ENOSPC, "link": errno.ENOSPC, "replace": errno.ENOSPC}


class SimulatedKernel:
    """`base` is a folder that is durable; all below it is watched. `on_link` is told of each file that gets a name.

    `keeps` is how much of what is not durable survives a power cut, None where chance decides. `fsync` does that on the
    real disk as well. `quiet` is for a lake in a bucket: then nobody else sees what lies here, and nothing befalls it.
    """

    def __init__(self, base: Path, stage: Stage, *, fault_rate: float = 0.0, quiet: bool = False, fsync: bool = False) -> None:
        self.base, self._base = base, str(base)
        self.fault_rate = fault_rate
        self.keeps: float | None = None
        self.on_link: Callable[[str], None] = lambda _: None
        self._stage, self._quiet, self._fsync = stage, quiet, fsync
        self._entries: dict[str, set[str]] = {}
        self._bytes: set[int] = set()
        self._poisoned: set[int] = set()
        self._before: dict[str, bytes] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        kept = disk.kernel
        disk.kernel = self
        try:
            yield
        finally:
            disk.kernel = kept

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        name = _NAMES[function]
        stage = self._stage
        if self._quiet:
            if stage.current is not None and stage.current.dead:
                raise Died
            return None if name == "fsync" else function(*arguments)
        path = str(arguments[1] if name in _OF_TWO else arguments[0])
        if not path.startswith(self._base):
            return None if name == "fsync" else function(*arguments)  # above the lake nothing is at stake

        def do() -> Any:
            rate = self.fault_rate * (4 if path.endswith(".parquet") else 1)  # a part is one call among thirty
            if name in _FAILS and rate and stage.befalls(f"disk: {name} fails", rate):
                if name == "fsync" and os.path.isfile(arguments[0]):
                    self._poisoned.add(os.stat(arguments[0]).st_ino)
                raise OSError(_FAILS[name], os.strerror(_FAILS[name]))
            return self._do(name, function, arguments)

        def torn() -> None:
            """Of a cache that is being replaced half of the bytes."""
            function(*arguments)
            body = Path(path).read_bytes()
            Path(path).write_bytes(body[: len(body) // 2])

        return stage.touch(
            name if stage.trace is None else f"{name} {self._shown(path)}",
            do,
            changes=lambda: self._alters(name, path),
            torn=torn if name == "replace" else None,
            lost=OSError(errno.EIO, "simulated: done, and said to have failed") if name in _FAILS else None,
        )

    def _alters(self, name: str, path: str) -> bool:
        """Whether a call changes what others see, or what a power cut leaves."""
        if "/staging" in path and name != "link":
            return False  # nobody else looks there
        if name == "fsync":
            if os.path.isdir(path):
                return self._entries.get(path) != set(os.listdir(path))
            return os.path.exists(path) and os.stat(path).st_ino not in self._bytes
        return name == "replace" or (name in ("mkdir", "link") and not os.path.exists(path))

    def _do(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "fsync":
            self._flush(str(arguments[0]))
            if self._fsync:
                function(*arguments)
            return None
        if name == "replace":
            target = str(arguments[1])
            self._before[target] = Path(target).read_bytes() if os.path.exists(target) else b""
        answer = function(*arguments)
        if name == "link":
            self.on_link(str(arguments[1]))
        return answer

    def _flush(self, path: str) -> None:
        facts = os.stat(path)  # raises where there is nothing, as open does
        if stat.S_ISDIR(facts.st_mode):
            self._entries[path] = set(os.listdir(path))
        elif facts.st_ino not in self._poisoned:  # after a failed fsync the pages count as clean, and are nowhere
            self._bytes.add(facts.st_ino)

    def durable(self, path: str) -> bool:
        """Whether a power cut now would leave the file, with all its bytes."""
        if os.stat(path).st_ino not in self._bytes:
            return False
        above, base = path, str(self.base)
        while above != base:
            above, _, name = above.rpartition("/")
            if name not in self._entries.get(above, ()):
                return False
        return True

    def cut_power(self, rng: random.Random) -> None:
        """Take back what is not durable: all of it, or what a coin says."""
        keeps = rng.choice([0.0, 0.0, 0.5, 0.9]) if self.keeps is None else self.keeps
        self._cut(str(self.base), rng, keeps)
        self._poisoned.clear()

    def _cut(self, folder: str, rng: random.Random, keeps: float) -> None:
        known = self._entries.get(folder, set())
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name if "ricloud-run" not in entry.name else "")
        for entry in found:
            if entry.name not in known and rng.random() >= keeps:
                shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
            elif entry.is_dir():
                self._cut(entry.path, rng, keeps)
            elif entry.inode() not in self._bytes:
                self._tear(entry.path, rng)
                self._bytes.add(entry.inode())
        self._entries[folder] = set(os.listdir(folder))

    def _tear(self, path: str, rng: random.Random) -> None:
        """The bytes of a file that was never synced: none, some, zeros, what was there before, or all."""
        body = Path(path).read_bytes()
        found = rng.choice([b"", body[: rng.randrange(len(body) + 1)], bytes(len(body)), self._before.get(path, b""), body])
        Path(path).write_bytes(found)

    def _shown(self, path: str) -> str:
        """A path below the base, without the random names of what is staged."""
        return "staged" if "/staging/" in path else path.removeprefix(self._base)
