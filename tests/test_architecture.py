"""The house: who may import whom, what is public, what is in the wheel, and how long a file may be."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ricloud_connector

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ricloud_connector"

# From the bottom up. A module may import from its own row's predecessors and from the same row.
LAYERS = [
    {"errors", "model", "redact", "datasets", "collector", "headers"},
    {"listed", "schemas", "wire", "item", "quick_page", "location", "cloud", "refusal", "plan", "verify", "watch", "options"},
    {
        "overlap",
        "buckets",
        "objects",
        "bucket_storage",
        "disk",
        "storage",
        "part_reader",
        "parts",
        "index_cache",
        "partition",
        "staging",
        "readback",
        "lake",
        "contents",
        "sink",
        "part_sink",
        "room",
        "download",
        "stores",
        "libcurl",
        "transport",
        "client",
        "listing",
        "fetch",
        "bulk_fetch",
        "rereading",
    },
    {"acknowledge", "settings", "clock"},
    {"ingest", "reconcile", "session", "audit", "ledger", "doctor", "records"},
    {"read", "report", "lake_commands", "dagster", "emulator", "demo", "project"},
    {"cli"},
    {"__main__"},
]
PURE = LAYERS[0] | LAYERS[1]
PURE_OF_RECORDS = {"document", "documents", "columns", "cutting", "fitting", "rows", "bulk", "known"}
IMPURE = {"httpx", "pycurl", "socket", "os", "subprocess", "threading", "time", "fcntl", "dagster", "requests", "random"}


def _sources() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(name, []).append(path)
    return found


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _inside(names: set[str]) -> set[str]:
    return {parts[1] for name in names if (parts := name.split("."))[0] == "ricloud_connector" and len(parts) > 1}


def test_imports_point_down_only():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    for name, paths in _sources().items():
        if name == "__init__":
            continue
        assert name in level, f"{name} is in no layer: say where it belongs"
        for path in paths:
            for imported in (_inside(_imports(path)) & set(_sources())) - {"__init__", name}:
                assert level[imported] <= level[name], f"{path.name} imports {imported}, which lies above it"


def test_pure_modules_import_nothing_that_reaches_outside():
    of_records = [PACKAGE / "records" / f"{name}.py" for name in PURE_OF_RECORDS]
    for path in [*(path for name in PURE for path in _sources()[name]), *of_records]:
        if path in of_records:
            named = {name.split(".")[2] for name in _imports(path) if name.startswith("ricloud_connector.records.")}
            assert _inside(_imports(path)) <= PURE | {"records"}, path
            assert named <= PURE_OF_RECORDS, path
        assert not {imported.split(".")[0] for imported in _imports(path)} & IMPURE, path


def test_only_the_dagster_face_imports_dagster_and_the_emulator_stands_alone():
    for name, paths in _sources().items():
        for path in paths:
            imported = _imports(path)
            if name not in ("dagster", "demo"):
                assert "dagster" not in {module.split(".")[0] for module in imported}, path
            assert not any(module.startswith("dagster._") for module in imported), path
            if name == "emulator":
                assert _inside(imported) <= {"emulator"}, path


def test_only_acknowledge_sends_acknowledgements_and_only_readback_makes_proof():
    for name, paths in _sources().items():
        for path in paths:
            text = path.read_text(encoding="utf-8")
            if name not in ("acknowledge", "client"):
                assert "send_acknowledgements" not in text, path
            if name != "readback":
                assert "VerifiedCommit(" not in text, path


def test_a_run_starts_its_threads_in_one_module():
    """A simulator runs them in an order of its own; what reads contents in buckets, or is a process, is not what it runs."""
    for name, paths in _sources().items():
        for path in paths:
            if name not in ("overlap", "emulator", "demo", "dagster") and path.name not in ("bucket.py", "worker.py"):
                text = path.read_text(encoding="utf-8")
                assert "ThreadPoolExecutor" not in text, path
                assert "threading.Thread(" not in text, path


def test_files_stay_short():
    for paths in _sources().values():
        for path in paths:
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path


def test_importing_the_package_loads_neither_dagster_nor_pyarrow():
    code = "import sys, ricloud_connector; assert not {'dagster', 'pyarrow', 'httpx', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.ci  # two seconds of Dagster's own
def test_loading_the_definitions_loads_nothing_that_only_runs_need():
    code = """if True:
        import sys, definitions
        from ricloud_connector.dagster import later
        loaded = {"pyarrow", "numpy", "pandas", "httpx", "pycurl", "orjson", "tenacity"} & set(sys.modules)
        loaded |= set(later._HOMES.values()) & set(sys.modules)
        assert not loaded, loaded
        for name, home in later._HOMES.items():
            assert getattr(later, name) is sys.modules[home]
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_name_exists_and_nothing_else_is_public():
    assert sorted(ricloud_connector.__all__) == sorted(
        [
            "DayReport",
            "RicloudClient",
            "RicloudComponent",
            "RicloudError",
            "RicloudRecordsIOManager",
            "RicloudResource",
            "Settings",
            "Window",
            "__version__",
            "build_ricloud_definitions",
            "ingest_results",
            "list_data_types",
            "open_run",
            "read_content",
            "read_records",
        ]
    )
    for name in ricloud_connector.__all__:
        assert getattr(ricloud_connector, name) is not None
    with pytest.raises(AttributeError):
        ricloud_connector.no_such_name  # noqa: B018


def test_the_wheel_holds_the_package_alone(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} <= {
        "ricloud_connector",
        *(n.split("/")[0] for n in names if ".dist-info" in n),
    }
    assert "ricloud_connector/py.typed" in names
    assert "ricloud_connector/guide/operations.md" in names
    assert "ricloud_connector/project/template/.env.example.tmpl" in names
    assert not any(name.startswith(("tests/", "definitions/")) for name in names)
