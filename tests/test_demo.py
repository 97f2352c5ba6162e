"""The demo: real results from an API into a lake through Dagster, deaf to every real setting, and "nothing new" afterwards."""

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from ricloud_connector.emulator.seaweedfs import SeaweedFS
from tests.command import run_command

REAL = {
    "RICLOUD_URL": "https://ricloud-api.reincubate.com",
    "RICLOUD_TOKEN": "a-real-token",
    "RICLOUD_LAKE": "/nonexistent/real-lake",
    "RICLOUD_START_DATE": "2040-01-01",
    "RICLOUD_PROXY": "http://127.0.0.1:9",
}


@pytest.mark.ci
def test_the_demo_ingests_and_a_second_run_proves_that_nothing_is_new(tmp_path):
    first = run_command("demo", "--results", "40", environment=REAL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "acked" in first.stdout
    assert "duckdb -c" in first.stdout
    assert "a-real-token" not in first.stdout + first.stderr
    contents = ds.dataset(tmp_path / "ricloud-demo" / "data" / "contents").to_table(["result_id"])
    assert len(set(contents.column("result_id").to_pylist())) >= 35
    second = run_command("demo", "--results", "40", environment=REAL, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Nothing new: all" in second.stdout


@pytest.mark.ci
def test_the_demo_on_a_bucket_of_its_own_server(tmp_path: Path, seaweedfs: SeaweedFS):
    """The server is the demo's own: the fixture is asked for so that a machine without the program skips."""
    arguments = ("demo", "--s3-server", "--lake", "s3://demo/a/lake", "--results", "60")
    first = run_command(*arguments, environment={**REAL, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "The lake: s3://demo/a/lake" in first.stdout
    second = run_command(*arguments, environment=REAL, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Nothing new: all" in second.stdout


def test_the_demo_on_a_bucket_that_is_not_there_says_so_and_leaves_nothing(tmp_path):
    environment = {
        "AWS_ENDPOINT_URL": "ftp://nowhere",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    process = run_command("demo", "--lake", "s3://bucket/lake", environment=environment, cwd=tmp_path)
    assert process.returncode == 2
    assert "AWS_ENDPOINT_URL" in process.stderr
    process = run_command("demo", "--s3-server", cwd=tmp_path)
    assert process.returncode == 2
    assert "--lake s3://demo/lake" in process.stderr
    assert list(tmp_path.iterdir()) == []
