"""Environments of their own for what is compared with, made once by venv and pip and kept outside the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

PEERS = {
    "vendor": ("ricloud==3.2.0", "pandas==3.1.1", "pyarrow==26.0.1", "setuptools"),
    "dlt": ("dlt[filesystem,parquet]==1.31.0", "pyarrow==26.0.1", "requests"),
}

_TELL = "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, which is built where there is none yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ricloud-connector-benchmarks"
    wanted = hashlib.sha256(repr((sys.version_info[:2], PEERS[peer])).encode()).hexdigest()
    folder = cache / f"{peer}-{wanted[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making an environment for {peer} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PEERS[peer]], check=True)
        (folder / "complete").touch()
    return str(python)


def versions_of(python: str, *names: str) -> dict[str, str]:
    """What of these is installed beside an interpreter."""
    found: dict[str, str] = json.loads(subprocess.run([python, "-c", _TELL, *names], check=True, capture_output=True).stdout)
    return found
