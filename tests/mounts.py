"""Small file systems for tests that need a full, a read-only or a volatile disk. Mounts as root; skips where that fails."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run_or_skip(*command: str) -> None:
    """Run a command that needs rights. Where it fails the test is skipped, but never in CI."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        if os.environ.get("CI"):
            raise AssertionError(f"{' '.join(command)} failed, and CI must be able to: {said}") from error
        pytest.skip(f"{' '.join(command[:3])} is not possible here: {said.strip()}")


@contextmanager
def mounted_tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs at the folder, with mount options like `size=1m`."""
    folder.mkdir(parents=True, exist_ok=True)
    run_or_skip("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def mounted_image(image: Path, folder: Path) -> Iterator[Path]:
    """The ext4 in an image file, at the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run_or_skip("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    """A reader's threads may let go of their files a moment after its answer."""
    for _ in range(500):
        if subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0:
            return
        time.sleep(0.02)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    raise AssertionError(f"{folder} is still in use")


def make_ext4(image: Path, megabytes: int) -> None:
    """An image file with an empty ext4."""
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    run_or_skip("mkfs.ext4", "-q", "-F", "-m", "0", str(image))


def remount_read_only(folder: Path) -> None:
    run_or_skip("mount", "-o", "remount,ro", str(folder))
