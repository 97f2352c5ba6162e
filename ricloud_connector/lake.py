"""The lake: datasets of Parquet that only ever grow, by a protocol in which the data file is the log entry. I/O: local disk.

Rule 1  A partition is a contiguous chain part-000000 ... part-00000k. Creating k+1 only if it is absent is, in one atomic
        step, publication, commit and lock.
Rule 2  A file is complete, decoded back and durable before it gets its name, and never touched afterwards.
Rule 3  Whatever creating answered, the writer looks at the partition again; it subtracts what is stored now, by key, and
        tries the next number. "Taken" is never read as "mine".
Rule 4  Nothing is deleted or replaced.
Rule 5  Before a file is relied on, whoever wrote it, file and folder are made durable; then it is read anew (`readback.py`).

Why rule 5 syncs files of others: a writer killed between naming a file and syncing its folder leaves a file that is seen
now and may be gone after a power cut; whoever acknowledges on its strength must have made it durable first.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa

from ricloud_connector import disk, partition
from ricloud_connector.errors import ForeignLake, LakeError, SettingsError, UnreadablePart, UnsafeStore
from ricloud_connector.partition import Partition
from ricloud_connector.parts import PartWriter, StagedPart, read_footer, read_groups, read_keys
from ricloud_connector.readback import prove_staged
from ricloud_connector.schemas import DATASETS, FORMAT, Dataset
from ricloud_connector.staging import opened_staging

MAX_RACES = 10_000


class Lake:
    """One lake of one organisation on a local disk. `root` is absolute; `origin` is the API's scheme, host and port."""

    def __init__(self, root: Path, *, origin: str, run_id: str) -> None:
        self.root = root
        self.data = root / "data"
        self.control = root / "control"
        self.origin = origin
        self.run_id = run_id
        self.organisation: str | None = None
        self.other_origin: str | None = None
        self.staging = self.control / "staging" / run_id
        self._staged = itertools.count(1)  # two threads may write at once

    @contextmanager
    def opened(self) -> Iterator[Lake]:
        """Make the lake ready: folders, probe (step 0), organisation, a staging folder that goes with this run.

        Raises: SettingsError where it cannot be written, ForeignLake, UnsafeStore, UnreadablePart.
        """
        with ExitStack() as stack:
            try:
                disk.make_folder(self.data)
                disk.sync_upwards(self.data)
                self.staging = stack.enter_context(opened_staging(self.control / "staging" / self.run_id))
                disk.probe(self.control, self.staging)
            except UnsafeStore:
                raise
            except LakeError as error:
                if isinstance(error.__cause__, OSError):
                    raise SettingsError(f"RICLOUD_LAKE={self.root} is not writable: {error}") from error
                raise
            self._recognise()
            yield self

    def claim(self, organisation: str | None) -> None:
        """Say whose results are about to be written. Raises: ForeignLake when they are not this lake's organisation's."""
        if organisation is None:
            return
        if self.organisation is None:
            self.organisation = organisation
        elif self.organisation != organisation:
            raise ForeignLake(
                f"the lake {self.root} holds results of organisation {self.organisation!r}; the API lists results of "
                f"{organisation!r}. One lake, one organisation: set RICLOUD_LAKE to another folder"
            )

    def folder(self, dataset: Dataset, day: date) -> Path:
        return self.data / dataset.name / f"created_date={day.isoformat()}"

    def scan(self, dataset: Dataset, day: date) -> Partition:
        """Step 2: the partition as it is now. Raises: BrokenChain, UnreadablePart, ForeignLake, LakeError."""
        cache = self.control / "index" / dataset.name / f"{day.isoformat()}.arrow"
        folder = self.folder(dataset, day)
        return partition.scan(dataset, day, folder, cache=cache, scratch=self.staging, check=self._check)

    def writer(self, dataset: Dataset) -> PartWriter:
        """A new file in staging (step 4). Its footer says format, organisation and origin."""
        metadata = {
            "ricloud_format": str(FORMAT),
            "ricloud_organisation": self.organisation or "",
            "ricloud_origin": self.origin,
        }
        return PartWriter(dataset, self.staging / f"part-{next(self._staged)}", metadata)

    def commit_table(self, dataset: Dataset, day: date, table: pa.Table) -> int:
        """Commit the rows that the partition lacks; returns how many of them this call had to write. Raises: LakeError."""
        table = table.filter(self.scan(dataset, day).missing(table))
        if not table.num_rows:
            return 0
        with self.writer(dataset) as writer:
            writer.write(table)
            staged = writer.finish()
        return self.commit(day, staged)

    def commit(self, day: date, staged: StagedPart) -> int:
        """Steps 4 to 7: after this, every row of the staged part is in the partition once, by whomever.

        Returns how many rows this call added. Raises: LakeError when the disk refuses; then nothing was published, or all.
        """
        folder = self.folder(staged.dataset, day)
        added, ready = 0, False
        try:
            keys = read_keys(staged.path, staged.dataset)
            for _ in range(MAX_RACES):
                found = self.scan(staged.dataset, day)
                missing = found.missing(keys)
                lacking = missing.true_count
                if lacking == 0:
                    return added
                if lacking < len(missing):
                    staged, keys, ready = self._subtract(staged, missing), keys.filter(missing), False
                if not ready:
                    prove_staged(staged)
                    disk.sync(staged.path)  # once: a file whose fsync failed is thrown away
                    disk.make_folder(folder)
                    ready = True
                if disk.create(disk.part_path(folder, len(found.parts)), staged.path):
                    added = lacking
                    disk.sync(folder)
            raise LakeError(f"{day}: lost {MAX_RACES} races for the next part of {staged.dataset.name}")
        finally:
            disk.discard(staged.path)

    def _subtract(self, staged: StagedPart, missing: pa.Array) -> StagedPart:
        """The staged part with only those rows that are missing."""
        first = 0
        with self.writer(staged.dataset) as writer:
            for rows in read_groups(staged.path, staged.dataset):
                rest = rows.filter(missing.slice(first, rows.num_rows))
                first += rows.num_rows
                if rest.num_rows:
                    writer.write(rest)
            remaining = writer.finish()
        disk.discard(staged.path)
        return remaining

    def _check(self, footer: dict[str, str]) -> None:
        """Whether a part's footer fits this lake and this version. Raises: ForeignLake."""
        written = footer.get("ricloud_format", "")
        if not (written.isascii() and written.isdigit()):
            raise ForeignLake(f"the lake {self.root} has a part that is not ours: set RICLOUD_LAKE to another folder")
        if int(written) > FORMAT:
            raise ForeignLake(
                f"the lake {self.root} has a part of format {int(written)}; this version reads up to {FORMAT}: "
                "upgrade ricloud-connector, or set RICLOUD_LAKE to another folder"
            )
        self.claim(footer.get("ricloud_organisation") or None)
        origin = footer.get("ricloud_origin") or self.origin
        if origin != self.origin:
            self.other_origin = origin

    def _recognise(self) -> None:
        """Learn from any one part whose lake this is. Raises: ForeignLake; UnreadablePart where no part can be read."""
        unreadable: UnreadablePart | None = None
        for dataset in DATASETS:
            for part in (self.data / dataset.name).glob("created_date=*/part-000000.parquet"):
                try:
                    self._check(read_footer(part))
                    return
                except UnreadablePart as error:
                    unreadable = error  # the scan of its own partition says so: the others go on
        if unreadable is not None:
            raise unreadable


def absolute_lake(text: str) -> Path:
    """The lake's folder as an absolute path. Raises: SettingsError for a place that this version cannot write to."""
    if "://" in text:
        raise SettingsError(f"RICLOUD_LAKE={text.partition('://')[0]}://…: this version keeps its lake on a local disk only")
    return Path(os.path.abspath(os.path.expanduser(text)))
