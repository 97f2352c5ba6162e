"""The lake: datasets of Parquet that only ever grow, by a protocol in which the data file is the log entry. I/O: its store.

Rule 1  A partition is a contiguous chain part-000000 ... part-00000k. Creating k+1 only if it is absent is, in one atomic
        step, publication, commit and lock.
Rule 2  A file is complete, decoded back and durable before it gets its name, and never touched afterwards.
Rule 3  Whatever creating answered, the writer looks at the partition again; it subtracts what is stored now, by key, and
        tries the next number. "Taken" is never read as "mine".
Rule 4  Nothing is deleted or replaced.
Rule 5  Before a file is relied on, whoever wrote it, file and folder are made durable; then it is read anew (`readback.py`).

Why rule 5 syncs files of others: a writer killed between naming a file and syncing its folder leaves a file that is seen
now and may be gone after a power cut; whoever acknowledges on its strength must have made it durable first.

On a local disk creating is `link`; in a bucket it is a conditional PUT, whose answer may be lost or wrong (`storage.py`).
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa

from ricloud_connector import disk, partition
from ricloud_connector.bucket_storage import BucketStorage
from ricloud_connector.cloud import BucketUrl
from ricloud_connector.errors import ForeignLake, LakeError, UncertainCommit, UnreadablePart
from ricloud_connector.index_cache import IndexCache
from ricloud_connector.model import Place
from ricloud_connector.part_reader import read_footer, read_groups, read_keys
from ricloud_connector.partition import Partition
from ricloud_connector.parts import ROW_GROUP_ROWS, PartWriter, StagedPart
from ricloud_connector.readback import Proofs, prove_staged
from ricloud_connector.schemas import DATASETS, FORMAT, Dataset
from ricloud_connector.storage import DiskStorage, Storage

MAX_RACES = 10_000

TABLE_ROWS = 50_000
"""Of a part that is written from a table: a day's acknowledgements may be a million."""

LONG_AT_ONCE = 2
"""Parts of more rows that a run commits at a time: each holds the keys of all of them, in several shapes."""


class Lake:
    """One lake of one organisation, in an absolute folder, a bucket or a store. `origin` is the API's scheme, host and port.

    What is under way lies on a local disk: below `scratch` for a lake in a bucket, else in the lake itself.
    """

    def __init__(self, root: Path | BucketUrl | Storage, *, origin: str, run_id: str, scratch: Path | None = None) -> None:
        if isinstance(root, Path):
            root = DiskStorage(root)
        elif isinstance(root, BucketUrl):
            root = BucketStorage(root, scratch)
        self.storage: Storage = root
        self.root: Place = self.storage.root
        self.data: Place = self.root / "data"
        self.control: Place = self.root / "control"
        self.origin = origin
        self.run_id = run_id
        self.organisation: str | None = None
        self.other_origin: str | None = None
        self.proofs = Proofs()
        self._indexes = IndexCache(self.storage)
        self.staging = self.storage.staging / run_id
        self._staged = itertools.count(1)  # several threads may write at once
        self._claiming = threading.Lock()
        self._long = threading.BoundedSemaphore(LONG_AT_ONCE)

    @contextmanager
    def opened(self) -> Iterator[Lake]:
        """Make the lake ready: folders, probe (step 0), organisation, a staging folder that goes with this run.

        Raises: SettingsError where it cannot be written, ForeignLake, UnsafeStore, UnreadablePart.
        """
        with self.storage.opened(self.run_id) as staging:
            self.staging = staging
            self._recognise()
            yield self
            self._indexes.flush(staging)

    def claim(self, organisation: str | None) -> None:
        """Say whose results are about to be written. Raises: ForeignLake when they are not this lake's organisation's."""
        if organisation is None:
            return
        with self._claiming:
            if self.organisation is None:
                self.organisation = organisation
        if self.organisation != organisation:
            raise ForeignLake(
                f"the lake {self.root} holds results of organisation {self.organisation!r}; the API lists results of "
                f"{organisation!r}. One lake, one organisation: set RICLOUD_LAKE to another folder"
            )

    def folder(self, dataset: Dataset, day: date) -> Place:
        return self.data / dataset.name / f"created_date={day.isoformat()}"

    def scan(self, dataset: Dataset, day: date) -> Partition:
        """Step 2: the partition as it is now. Raises: BrokenChain, UnreadablePart, ForeignLake, LakeError."""
        cache = self.control / "index" / dataset.name / f"{day.isoformat()}.arrow"
        folder = self.folder(dataset, day)
        return partition.scan(
            dataset,
            day,
            folder,
            storage=self.storage,
            indexes=self._indexes,
            cache=cache,
            scratch=self.staging,
            check=self._check,
        )

    def settle(self, dataset: Dataset, day: date) -> None:
        """Make what a partition holds durable, whoever wrote it (rule 5): its files were before they got their names.

        Raises: LakeError.
        """
        self.storage.settle_folder(self.folder(dataset, day))

    def writer(self, dataset: Dataset, *, compressed: bool = True) -> PartWriter:
        """A new file in staging (step 4). Its footer says format, organisation and origin."""
        metadata = {
            "ricloud_format": str(FORMAT),
            "ricloud_organisation": self.organisation or "",
            "ricloud_origin": self.origin,
        }
        return PartWriter(dataset, self.staging / f"part-{next(self._staged)}", metadata, compressed=compressed)

    def commit_table(self, dataset: Dataset, day: date, table: pa.Table) -> int:
        """Commit the rows that the partition lacks, of many some at a time; returns how many rows were added.

        Raises: LakeError.
        """
        slices = (table.slice(start, TABLE_ROWS) for start in range(0, table.num_rows, TABLE_ROWS))
        return sum(self._commit_rows(dataset, day, rows) for rows in slices)

    def _commit_rows(self, dataset: Dataset, day: date, rows: pa.Table) -> int:
        rows = rows.filter(self.scan(dataset, day).missing(rows))
        if not rows.num_rows:
            return 0
        with self.writer(dataset) as writer:
            for start in range(0, rows.num_rows, ROW_GROUP_ROWS):
                writer.write(rows.slice(start, ROW_GROUP_ROWS))
            staged = writer.finish()
        return self.commit(day, staged)

    def commit(self, day: date, staged: StagedPart) -> int:
        """Steps 4 to 7: after this, every row of the staged part is in the partition once, by whomever.

        Returns how many rows this call added. Raises: LakeError when the store refuses; then nothing was published, or all.
        """
        with self._long if staged.rows > TABLE_ROWS else nullcontext():
            return self._commit(day, staged)

    def _commit(self, day: date, staged: StagedPart) -> int:
        folder = self.folder(staged.dataset, day)
        added, ready, last, vain = 0, False, -1, 0
        doubt: UncertainCommit | None = None
        try:
            keys = read_keys(staged.path, staged.dataset)
            for _ in range(MAX_RACES):
                found = self.scan(staged.dataset, day)
                missing = found.missing(keys)
                lacking = missing.true_count
                number = len(found.parts)
                if doubt is not None and number > last and found.parts[last].size == staged.path.stat().st_size:
                    added, doubt = keys.num_rows - lacking, None  # the answer was lost, the file was not
                if lacking == 0:
                    return added
                vain = vain + 1 if number == last else 0
                if vain:
                    self._wait(vain, doubt)
                if lacking < len(missing):
                    if staged.piece_md5 is not None:
                        prove_staged(staged)  # what is left of it is measured by what it decodes to
                    staged, keys, ready = self._subtract(staged, missing), keys.filter(missing), False
                if not ready:
                    prove_staged(staged, self.proofs)
                    self.storage.prepare(folder, staged.path)
                    ready = True
                last, doubt = number, None
                try:
                    if self.storage.create(folder / disk.part_name(number), staged.path):
                        added = lacking
                except UncertainCommit as error:
                    doubt = error
            raise LakeError(f"{day}: lost {MAX_RACES} races for the next part of {staged.dataset.name}")
        finally:
            disk.discard(staged.path)

    def create(self, target: Place, staged: Path) -> bool:
        """Create a file that is no part of a chain of rows, only if it is absent. False where it was there, by whomever.

        It is durable when this returns. Raises: LakeError, also where the store never says and nothing is there.
        """
        self.storage.prepare(target.parent, staged)
        doubt: UncertainCommit | None = None
        for tries in range(1, MAX_RACES + 1):
            try:
                if self.storage.create(target, staged):
                    return True
            except UncertainCommit as error:
                doubt = error
            if target.name in self.storage.names(target.parent):  # "taken" may have been said of what was not there yet
                self.storage.settle_folder(target.parent)  # whoever created it may have died before it was durable
                return False
            self._wait(tries, doubt)
        raise LakeError(f"lost {MAX_RACES} races for {target}")

    def _wait(self, tries: int, doubt: UncertainCommit | None) -> None:
        """Before a number is tried again that was neither created nor taken. Raises: LakeError when it was often enough."""
        try:
            self.storage.pause(tries)
        except LakeError as error:
            raise doubt or error from None

    def _subtract(self, staged: StagedPart, missing: pa.Array) -> StagedPart:
        """The staged part with only those rows that are missing."""
        first, md5 = 0, hashlib.md5(usedforsecurity=False)
        with self.writer(staged.dataset) as writer:
            for rows in read_groups(staged.path, staged.dataset):
                rest = rows.filter(missing.slice(first, rows.num_rows))
                first += rows.num_rows
                if rest.num_rows:
                    writer.write(rest)
                if staged.piece_md5 is not None:
                    for chunk in rest.column("content"):
                        md5.update(chunk.as_py())
            remaining = writer.finish()
        disk.discard(staged.path)
        piece_md5 = None if staged.piece_md5 is None else md5.hexdigest()
        return replace(remaining, md5s=staged.md5s, piece_md5=piece_md5)

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
            folder = self.data / dataset.name
            for name in self.storage.folders(folder):
                part = self.storage.first_part(folder / name) if name.startswith("created_date=") else None
                if part is None:
                    continue
                try:
                    self._check(read_footer(self.storage.open(part)))
                    return
                except UnreadablePart as error:
                    unreadable = error  # the scan of its own partition says so: the others go on
        if unreadable is not None:
            raise unreadable
