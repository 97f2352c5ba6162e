"""Whether a run could work from here: settings, API, lake, disk. I/O: one page at the API, the lake's probe."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ricloud_connector.buckets import load_obstore
from ricloud_connector.clock import now_utc
from ricloud_connector.errors import RicloudError
from ricloud_connector.headers import http_date
from ricloud_connector.lake import Lake
from ricloud_connector.model import AVAILABLE
from ricloud_connector.session import new_run_id, open_client
from ricloud_connector.settings import Settings

LOW_DISK_BYTES = 5 * 1024**3
MAX_SKEW_S = 60.0
FLEETING = {
    "tmpfs": "is gone at the next restart",
    "overlay": "goes with its container",
    "ramfs": "is gone at the next restart",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, and what was seen or what to do. A warning is well, with words."""

    name: str
    well: bool
    detail: str


def examine(environment: Mapping[str, str]) -> Iterator[Check]:
    """Each check in turn; those that need what is broken are left out."""
    try:
        settings = Settings.from_environment(environment)
    except RicloudError as error:
        yield Check("settings", False, str(error))
        return
    yield Check("settings", True, f"API {settings.origin}, lake {settings.lake}")
    dates = list[str]()
    yield _tried("API", lambda: _ask(settings, dates))
    for date in dates:
        yield _clock(http_date(date), now_utc())
    if settings.policy.reads_buckets:
        yield _tried("buckets", lambda: _buckets(settings))
    yield _tried("lake", lambda: _probe(settings))
    if isinstance(settings.lake, Path):
        yield _disk(settings.lake, fleeting=False)
    else:
        yield _disk(settings.staging or Path(tempfile.gettempdir()), fleeting=True)


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except RicloudError as error:
        return Check(name, False, str(error))


def _ask(settings: Settings, dates: list[str]) -> str:
    with open_client(settings) as client:
        page, _ = client.fetch_page(None, AVAILABLE, None, {})
        dates.append(client.last_date)
    return f"the token is accepted, and {len(page.items)}{'+' if page.has_more else ''} results are available"


def _clock(theirs: datetime | None, ours: datetime) -> Check:
    """Of this machine against the API's: no result is lost by a wrong clock, but signatures and partitions go by it."""
    if theirs is None:
        return Check("clock", True, "the API does not say what time it is")
    ahead = (ours - theirs).total_seconds()
    if abs(ahead) <= MAX_SKEW_S:
        return Check("clock", True, "as the API's, to the minute")
    shown = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API's ({theirs:%Y-%m-%dT%H:%M:%SZ})"
    why = "buckets refuse requests signed at another time, and Dagster's partitions end by it"
    return Check("clock", True, f"warning: this machine's clock is {shown}: set it; {why}")


def _buckets(settings: Settings) -> str:
    load_obstore()
    return f"contents are read from {', '.join(sorted(settings.policy.buckets))}, by {' then '.join(settings.policy.read)}"


def _probe(settings: Settings) -> str:
    lake = Lake(settings.lake, origin=settings.origin, run_id=f"doctor-{new_run_id()}", scratch=settings.staging)
    with lake.opened():
        whose = f"holds results of organisation {lake.organisation!r}" if lake.organisation else "is empty"
    return f"writable, refuses to replace a file, and {whose}"


def _disk(lake: Path, *, fleeting: bool) -> Check:
    """Of the lake, or where that is in a bucket, of what is under way: that may be `fleeting`, but needs room all the same."""
    folder = next(folder for folder in (lake, *lake.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    kind = _file_system_of(folder)
    if kind in FLEETING and not fleeting:
        return Check(
            "disk", True, f"warning: {folder} is on {kind}, which {FLEETING[kind]}: what is acknowledged is lost with it"
        )
    if free < LOW_DISK_BYTES:
        return Check("disk", True, f"warning: {free / 1e9:.1f} GB are free in {folder}")
    return Check("disk", True, f"{free / 1e9:.1f} GB are free on {kind or 'the file system'} of {folder}")


def _file_system_of(folder: Path) -> str | None:
    """The type of the file system, as the kernel names it; None where that cannot be seen."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    above = [(Path(where), kind) for _, where, kind, *_ in mounts if folder.resolve().is_relative_to(where)]
    return max(above, key=lambda found: len(found[0].parts))[1] if above else None
