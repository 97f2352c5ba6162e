"""`init`: a project of `dg` that a user can copy, with the component and something built on top. Writes one folder."""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ricloud_connector.errors import SettingsError

NAME = "my_project"  # as the templates call it
SUFFIX = ".tmpl"


def create_project(folder: Path, *, start_date: date) -> list[Path]:
    """Write the project into a folder that does not exist yet, or is empty; returns its files.

    The last part of the path is the name of its package. Raises: SettingsError.
    """
    name = folder.name
    if not name.isidentifier() or name != name.lower():
        raise SettingsError(f"{name!r} cannot be a package's name: take lower-case letters, digits and _, as in my_project")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} is there already: give a folder that is not, or is empty")
    try:
        return _write(files("ricloud_connector.project") / "template", folder, name, start_date)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}; give another folder") from error


def _write(template: Traversable, folder: Path, name: str, start_date: date) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for found in sorted(template.iterdir(), key=lambda found: found.name):
        target = folder / found.name.removesuffix(SUFFIX).replace(NAME, name)
        if found.is_dir():
            written += _write(found, target, name, start_date)
        else:
            text = found.read_text(encoding="utf-8").replace(NAME, name).replace("START_DATE", start_date.isoformat())
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return written
