"""The demo: real results from an API into a lake through Dagster, deaf to every real setting, and "nothing new" afterwards."""

import pyarrow.dataset as ds

from tests.command import run_command

REAL = {
    "RICLOUD_URL": "https://ricloud-api.reincubate.com",
    "RICLOUD_TOKEN": "a-real-token",
    "RICLOUD_LAKE": "/nonexistent/real-lake",
    "RICLOUD_START_DATE": "2040-01-01",
    "RICLOUD_PROXY": "http://127.0.0.1:9",
}


def test_the_demo_ingests_and_a_second_run_proves_that_nothing_is_new(tmp_path):
    first = run_command("demo", environment=REAL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "acked" in first.stdout
    assert "duckdb -c" in first.stdout
    assert "a-real-token" not in first.stdout + first.stderr
    contents = ds.dataset(tmp_path / "ricloud-demo" / "data" / "contents").to_table(["result_id"])
    assert len(set(contents.column("result_id").to_pylist())) >= 595
    second = run_command("demo", environment=REAL, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Nothing new: all" in second.stdout


def test_the_demo_keeps_its_lake_on_a_local_disk(tmp_path):
    process = run_command("demo", "--lake", "s3://bucket/lake", cwd=tmp_path)
    assert process.returncode == 2
    assert "--lake" in process.stderr
    assert list(tmp_path.iterdir()) == []
