"""The whole pipeline against two servers that share no code, as a user runs it; exact whatever the server does."""

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from starlette.responses import JSONResponse

from ricloud_connector import Settings, Window, ingest_results, open_run
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.ingest import days_of, open_parts
from ricloud_connector.listed import Listed
from ricloud_connector.location import Policy
from ricloud_connector.plan import batches
from ricloud_connector.report import faults_of
from ricloud_connector.schemas import result_rows
from ricloud_connector.wire import parse_page
from tests.days import assert_exact_days
from tests.exactness import Witness, assert_exact, provable
from tests.other_server import OtherServer, Stored

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def run_ingest(server, lake: Path, window: Window | None = None, *, acknowledge: bool = True, **changes):
    """The reports of one ingest, by day, with quick deadlines; the window defaults to all of the server's days."""
    settings = Settings.from_environment({**server.environment(), "RICLOUD_LAKE": str(lake)})
    settings = dataclasses.replace(settings, **{"api_deadline_s": 5.0, "stall_s": 5, **changes})
    if window is None:
        first, last = server.days[0], server.days[-1]
        window = Window(Window.of_day(first).since, Window.of_day(last).until)
    with open_run(settings) as run:
        return {report.day: report for report in ingest_results(run, days_of(window), acknowledge=acknowledge)}


def rows(lake: Path, dataset: str) -> list[dict]:
    folder = lake / "data" / dataset
    return ds.dataset(folder, partitioning="hive").to_table().to_pylist() if folder.exists() else []


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("ricloud_connector.acknowledge.PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(autouse=True)
def small_contents_together(monkeypatch):
    """However few they are: what is not small, or does not come as listed, goes the other way here too."""
    monkeypatch.setattr("ricloud_connector.bulk_fetch.STARTED_FROM", 0)
    monkeypatch.setattr("ricloud_connector.bulk_fetch.FROM_RESULTS", 0)


@pytest.fixture
def emulator():
    with Emulator(results=150, days=3, large_bytes=9 * 1024 * 1024) as running:
        yield running


def test_every_result_is_in_the_lake_once_and_acknowledged(emulator, tmp_path):
    reports = run_ingest(emulator, tmp_path)
    assert_exact(tmp_path, emulator)
    assert list(reports) == emulator.days
    assert sum(report.new for report in reports.values()) == len(set(emulator.acknowledged))


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Http"])
def test_a_url_of_the_web_loses_its_query_in_the_results_dataset(scheme):
    item = {"id": "a", "checksum": "0" * 32, "size": 3, "date_created": "2026-11-20T10:15:30Z", "state": "available"}
    item["url"] = f"{scheme}://bucket.example/key?X-Amz-Signature=cafe1234"
    listed = parse_page(200, {}, json.dumps({"data": [item], "has_more": False}).encode()).items
    assert result_rows(listed, run_id="run", seen_at=NOON).column("url").to_pylist() == [f"{scheme}://bucket.example/key?***"]


def test_a_page_of_nothing_but_what_cannot_be_read_ends_no_run():
    """It follows on a page of results; and stands alone."""
    items = [{"id": "a", "checksum": "0" * 32, "size": 3, "date_created": "2026-11-20T10:15:30Z", "state": "available"}]
    first = parse_page(200, {}, json.dumps({"data": items, "has_more": True}).encode()).items
    odd = parse_page(200, {}, b'{"data":[{"id":"b"}],"has_more":false}').items
    nothing = Listed.of([])
    for pages in ([first, odd], [odd, odd], [odd], [nothing, odd], [nothing, nothing]):
        found = [item for batch in batches(pages) for item in batch]
        assert found == [item for page in pages for item in page]
    assert list(Listed.concat([])) == []


def test_a_part_is_read_back_and_acknowledged_while_the_next_one_is_filled(tmp_path, monkeypatch):
    """Every acknowledgement finds its contents whole in the lake, the first ones before the last part is there."""
    monkeypatch.setattr(open_parts, "PART_ROWS", 20)
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        for number in range(200):
            emulator.add_result(content=b"%d" % number, date_created=NOON + timedelta(seconds=number))
        witness, parts_then = Witness(tmp_path, emulator), list[int]()

        def look(ids: list[str]) -> None:
            witness(ids)
            parts_then.append(len(list(tmp_path.glob("data/contents/*/*.parquet"))))

        emulator.on_acknowledge = look
        run_ingest(emulator, tmp_path)
        assert_exact(tmp_path, emulator)
    assert [len(ids) for ids in witness.calls] == [20] * 10
    assert parts_then[0] < parts_then[-1] == 10


@pytest.mark.parametrize(
    "liberties",
    [
        {},
        pytest.param({"ignores_filter": True, "oldest_first": True}, marks=pytest.mark.ci),
        pytest.param({"ignores_filter": True}, marks=pytest.mark.ci),
        pytest.param({"oldest_first": True}, marks=pytest.mark.ci),
    ],
)
def test_another_servers_results_are_exact_alike(tmp_path, liberties):
    days = [date(2026, 11, 19), date(2026, 11, 20)]
    stored = [
        Stored(10**29 + number, hashlib.sha512(str(number).encode()).digest() * (number % 70), NOON - timedelta(minutes=number))
        for number in range(300)
    ]
    stored[3].checksum = "0" * 32
    with OtherServer(stored, page_size=100, **liberties) as server:
        server.days = days
        run_ingest(server, tmp_path)
        held = {row["result_id"]: row for row in rows(tmp_path, "contents")}
        assert len(held) == len(rows(tmp_path, "contents")) == 299
        for one in stored:
            if one.checksum == "0" * 32:
                assert str(one.id) not in held
                assert one.acknowledged == 0
            else:
                assert held[str(one.id)]["content"] == one.content
                assert one.acknowledged == 1
        assert {row["result_id"] for row in rows(tmp_path, "acknowledgements")} == set(held)
        assert not any("authorization" in headers or "cookie" in headers for headers in server.contents_seen)


def test_plain_globs_read_alike_in_every_engine(emulator, tmp_path):
    run_ingest(emulator, tmp_path)
    glob = f"{tmp_path}/data/contents/*/*.parquet"
    by_duckdb = duckdb.sql(f"SELECT result_id, octet_length(content) FROM read_parquet('{glob}')").fetchall()
    by_polars = pl.read_parquet(glob).select("result_id", pl.col("content").bin.size()).rows()
    by_arrow = [(row["result_id"], len(row["content"])) for row in rows(tmp_path, "contents")]
    assert sorted(by_duckdb) == sorted(by_polars) == sorted(by_arrow)
    assert len(by_arrow) > 100


def test_the_wrong_checksum_is_quarantined_with_expected_and_actual_and_the_rest_goes_on(emulator, tmp_path):
    reports = run_ingest(emulator, tmp_path)
    (wrong,) = [result for result in emulator.results() if result.checksum != result.md5 and result.state == "available"]
    (row,) = [row for row in rows(tmp_path, "quarantine") if row["reason"] == "checksum_mismatch"]
    assert (row["result_id"], row["expected_checksum"], row["actual_checksum"]) == (wrong.id, wrong.checksum, wrong.md5)
    assert (row["expected_size"], row["actual_size"]) == (wrong.size, wrong.byte_size)
    assert wrong.id not in emulator.acknowledged
    report = reports[wrong.date_created.date()]
    assert not report.complete
    assert any(wrong.md5 in fault and wrong.checksum in fault for fault in faults_of(report))
    run_ingest(emulator, tmp_path)
    assert len([row for row in rows(tmp_path, "quarantine") if row["reason"] == "checksum_mismatch"]) == 1


@pytest.mark.parametrize(
    ("date_filter", "order"),
    [  # each filter and each order; the other six are listed in `test_listing.py`, and below this layer nothing differs
        ("apply", "newest"),
        ("ignore", "shuffled"),
        ("reject", "oldest"),
    ],
)
def test_fault_043_044_filter_ignored_or_refused_in_any_order(tmp_path, date_filter, order):
    with Emulator(results=90, days=3, large_bytes=None, behaviour=Behaviour(date_filter=date_filter, order=order)) as api:
        run_ingest(api, tmp_path, Window.of_day(api.days[1]))
        assert_exact_days(tmp_path, api, [api.days[1]])
        run_ingest(api, tmp_path)
        assert_exact(tmp_path, api)


def test_an_acknowledgement_answered_200_but_not_applied_is_noticed_and_repeated(tmp_path):
    with Emulator(results=60, days=1, large_bytes=None, behaviour=Behaviour(dropped_acknowledgements=2)) as api:
        reports = run_ingest(api, tmp_path)
        assert_exact(tmp_path, api)
        assert max(Counter(api.acknowledged).values()) == 3
        assert reports[api.days[0]].unconfirmed == 0


def test_an_acknowledgement_that_is_never_applied_is_named_and_not_written_down(tmp_path):
    with Emulator(results=30, days=1, large_bytes=None, behaviour=Behaviour(dropped_acknowledgements=10**6)) as api:
        (report,) = run_ingest(api, tmp_path).values()
        assert report.unconfirmed == report.new > 0
        assert set(report.unconfirmed_ids) == set(api.acknowledged)
        assert not report.complete
        assert rows(tmp_path, "acknowledgements") == []
        api.behaviour = Behaviour()
        run_ingest(api, tmp_path)
        assert_exact(tmp_path, api)


def test_a_run_with_nothing_new_costs_one_request_and_reads_no_part(tmp_path, monkeypatch):
    with Emulator(results=0, days=1) as api:
        for number in range(50):
            api.add_result(content=b"%d" % number)
        run_ingest(api, tmp_path)
        before = len(api.requests)
        for part in (tmp_path / "data").rglob("*.parquet"):
            part.rename(part.with_suffix(".hidden"))  # any read of a part would fail; their names must be listed
            part.symlink_to(part.with_suffix(".hidden"))
        (report,) = run_ingest(api, tmp_path).values()
        assert report.complete
        assert len(api.requests) - before == 1


def test_fault_046_the_first_instant_of_a_day_is_its_own_and_the_last_belongs_to_the_next(tmp_path):
    with Emulator(results=0, days=1) as api:
        api.add_result(id="first", content=b"1", date_created="2026-11-20T00:00:00Z")
        api.add_result(id="last", content=b"2", date_created="2026-11-20T23:59:59.999999Z")
        api.add_result(id="next", content=b"3", date_created="2026-11-21T00:00:00.000000Z")
        run_ingest(api, tmp_path, Window.of_day(date(2026, 11, 20)))
        assert sorted(api.acknowledged) == ["first", "last"]
        assert {path.name for path in (tmp_path / "data" / "contents").iterdir()} == {"created_date=2026-11-20"}


def test_fault_049_050_052_unusable_and_extreme_dates(tmp_path):
    with Emulator(results=0, days=1) as api:
        for number, created in enumerate(["garbage", "2026-13-40T00:00:00Z", "1700000000"]):
            api.add_result(id=f"bad{number}", content=b"x", date_created=created)
        api.add_result(id="null", content=b"x", fields={"date_created": None})
        api.add_result(id="epoch", content=b"x", fields={"date_created": 1700000000})
        api.add_result(id="good", content=b"y")
        (report,) = run_ingest(api, tmp_path).values()
        assert api.acknowledged == ["good"]
        assert report.quarantined == 5
        assert {row["result_id"] for row in rows(tmp_path, "quarantine")} == {"bad0", "bad1", "bad2", "null", "epoch"}
        assert {path.name for path in (tmp_path / "data" / "quarantine").iterdir()} == {"created_date=1970-01-01"}


@pytest.mark.parametrize("day", [date(1, 1, 1), date(1970, 1, 1), date(2400, 2, 29), date(9999, 12, 30)])
def test_fault_049_far_days_have_partitions_like_others(tmp_path, day):
    with Emulator(results=0, days=1) as api:
        api.add_result(id="far", content=b"x", date_created=f"{day.isoformat()}T00:00:00Z")
        run_ingest(api, tmp_path, Window.of_day(day))
        assert api.acknowledged == ["far"]
        assert (tmp_path / "data" / "contents" / f"created_date={day.isoformat()}" / "part-000000.parquet").exists()


def test_fault_082_160_161_missing_facts_are_quarantined_and_unknown_states_skipped(tmp_path):
    with Emulator(results=0, days=1) as api:
        for number, fields in enumerate(
            [
                {"checksum": None},
                {"checksum": "xyz"},
                {"size": None},
                {"size": -1},
                {"size": "12"},
                {"size": 1.5},
                {"size": 2**63},
            ]
        ):
            api.add_result(id=f"bad{number}", content=b"x", fields=fields)
        api.add_result(id="odd", content=b"x", fields={"state": "paused"})
        api.add_result(id="good", content=b"y")
        (report,) = run_ingest(api, tmp_path).values()
        assert api.acknowledged == ["good"]
        assert (report.quarantined, report.skipped) == (7, 1)
        reasons = {row["result_id"]: row["reason"] for row in rows(tmp_path, "quarantine")}
        assert reasons == {f"bad{n}": "checksum_missing" if n < 2 else "size_missing" for n in range(7)}


def test_fault_087_an_id_that_comes_back_with_another_md5_keeps_the_first_and_is_not_acknowledged(tmp_path):
    with Emulator(results=0, days=1) as api:
        api.add_result(id="same", content=b"first")
        run_ingest(api, tmp_path, acknowledge=False)
    with Emulator(results=0, days=1) as api:
        api.add_result(id="same", content=b"second")
        (report,) = run_ingest(api, tmp_path).values()
        assert [rejection.reason for rejection in report.rejections] == ["changed"]
        assert api.acknowledged == []
        assert [row["content"] for row in rows(tmp_path, "contents")] == [b"first"]


def test_fault_088_two_ids_with_the_same_content_are_two_rows(tmp_path):
    with Emulator(results=0, days=1) as api:
        api.add_result(id="a", content=b"same")
        api.add_result(id="b", content=b"same")
        run_ingest(api, tmp_path)
        assert {row["result_id"] for row in rows(tmp_path, "contents")} == {"a", "b"}


def test_fault_141_166_hostile_identifiers_are_text_and_never_a_path(tmp_path):
    hostile = [
        "../../etc/x",
        "..\\..\\x",
        "/abs",
        "a\0b",
        "x" * 5000,
        "CON",
        "dot.",
        "\u202eevil",
        "<script>",
        "![i](http://x)",
    ]
    with Emulator(results=0, days=1) as api:
        for number, identifier in enumerate(hostile):
            api.add_result(id=f"r{number}", content=b"x%d" % number, fields={"identifier": identifier, "type": identifier})
        (report,) = run_ingest(api, tmp_path).values()
        assert report.complete
        assert {row["identifier"] for row in rows(tmp_path, "contents")} == set(hostile)
        names = {part for path in tmp_path.rglob("*") for part in path.relative_to(tmp_path).parts}
        assert not any(text in name for text in ("etc", "CON", "evil", "script") for name in names)


def test_fault_162_163_unknown_and_changing_fields_are_kept_in_extra(tmp_path):
    with Emulator(results=0, days=1) as api:
        api.add_result(id="a", content=b"1", fields={"new_field": {"deep": [1, None]}, "poll": 5, "type": ["odd"]})
        api.add_result(id="b", content=b"2", fields={"new_field": "text", "poll": "five"})
        run_ingest(api, tmp_path)
        found = {row["id"]: row for row in rows(tmp_path, "results")}
        assert found["a"]["extra"] == '{"new_field": {"deep": [1, null]}, "type": ["odd"]}'
        assert (found["a"]["poll"], found["a"]["type"], found["b"]["poll"]) == ("5", None, "five")


def test_local_contents_are_read_below_their_root_only(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside.bin").write_bytes(b"inside")
    (tmp_path / "outside.bin").write_bytes(b"outside")
    (root / "link.bin").symlink_to(tmp_path / "outside.bin")
    with Emulator(results=0, days=1) as api:
        for name in ("inside", "outside", "link"):
            folder = tmp_path if name == "outside" else root
            content = b"inside" if name == "inside" else b"outside"
            api.add_result(id=name, content=content, signed=False, url=f"local://{folder}/{name}.bin")
        policy = Policy(content_hosts=frozenset({api.contents_host}), local_root=str(root))
        (report,) = run_ingest(api, tmp_path / "lake", policy=policy).values()
        assert api.acknowledged == ["inside"]
        assert {rejection.reason for rejection in report.rejections} <= {"forbidden_url", "gone"}


def test_the_token_and_the_signatures_reach_no_other_host_no_file_and_no_log(emulator, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    run_ingest(emulator, tmp_path)
    contents = [request for request in emulator.requests if request.server == "contents"]
    signatures = [request.query.rpartition("Signature=")[2] for request in contents]
    assert len(signatures) > 100
    assert all(signatures)
    for request in contents:
        assert not {"authorization", "cookie", "referer"} & set(request.headers)
        assert emulator.token not in str(dict(request.headers)) + request.query
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(caplog.text) > 0
    for secret in (emulator.token, *signatures):
        assert secret not in caplog.text
        assert secret.encode() not in written


def test_fault_011_and_169_an_error_that_echoes_the_token_does_not_show_it(tmp_path):
    with Emulator(results=0, days=1, token="echoed-token") as api:
        api.intercept = lambda request: JSONResponse({"error": "bad", "message": "echoed-token"}, 422)
        with pytest.raises(Exception, match=r"\*\*\*") as caught:
            run_ingest(api, tmp_path)
        assert "echoed-token" not in str(caught.value)


def test_a_broken_day_is_reported_and_the_others_go_on(emulator, tmp_path):
    run_ingest(emulator, tmp_path, acknowledge=False)
    (part,) = (tmp_path / "data" / "contents" / f"created_date={emulator.days[1]}").iterdir()
    blob = bytearray(part.read_bytes())
    blob[len(blob) // 3] ^= 1
    part.write_bytes(blob)
    reports = run_ingest(emulator, tmp_path)
    assert reports[emulator.days[1]].error is not None
    assert reports[emulator.days[0]].acknowledged > 0
    expected = {result.id for result in provable(emulator) if result.date_created.date() != emulator.days[1]}
    assert set(emulator.acknowledged) == expected


def test_records_that_cannot_be_derived_hold_up_no_acknowledgement(tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("ricloud_connector.ingest.deriving.derive_records", fail)
    with Emulator(results=20, days=1, large_bytes=None) as emulator:
        (report,) = (each for each in run_ingest(emulator, tmp_path).values() if each.listed)
        assert report.acknowledged == len(emulator.acknowledged) > 0
        assert report.records_error == "RuntimeError: unforeseen"
        assert not report.complete
        assert any("records stopped" in fault for fault in faults_of(report))
        monkeypatch.undo()
        days = days_of(Window.of_day(report.day))
        with open_run(Settings.from_environment({**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)})) as run:
            (again,) = ingest_results(run, days)
        assert again.record_rows > 0
        assert again.records_error is None
