"""The emulator: an API, a contents' host and a folder, up while a `with` block lasts. Opens ports of loopback only.

The contents' host has a port of its own, as a real storage host has a name of its own, so that a test can prove
that the token never reaches it.
"""

import contextlib
import secrets
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from ricloud_connector.emulator.api import Api
from ricloud_connector.emulator.behaviour import Behaviour
from ricloud_connector.emulator.bucket import Bucket, Signer
from ricloud_connector.emulator.catalogue import Catalogue, read_content
from ricloud_connector.emulator.contents import Contents
from ricloud_connector.emulator.data import LARGE_BYTES, ORGANISATION, make_drafts
from ricloud_connector.emulator.gate import Gate, Intercept, Journal, OnAcknowledge
from ricloud_connector.emulator.loopback import LOOPBACK, LoopbackServers, bind_loopback
from ricloud_connector.emulator.model import (
    NOTHING,
    Draft,
    Id,
    PublishedResult,
    RecordedRequest,
    State,
    format_moment,
)
from ricloud_connector.emulator.query import parse_moment

BUCKET_NAME = "ricloud-emulator"


class Emulator:
    """A local ricloud API. New state at each start; what happened can still be read after it has stopped.

    results: how many available ones to start with; consumed and expired ones come on top. 0 starts empty.
    days: over how many UTC days, the last of them `today` (default: the present day).
    seed: the same seed gives the same results, but for the times of the present day.
    token: what the API accepts; default: a random one.
    port: of the API; contents_port: of the contents' host; 0 takes a free one.
    bucket: the folder of the contents, kept at stop; default: a temporary one, removed at stop.
    large_bytes: the size of the one large result (with 100 results or more); None leaves it out.
    clock: answers seconds since 1970; what signatures and acknowledgements go by.
    keep_requests: how many of the latest requests to remember.
    intercept: asked before every answer of either server (`request.state.server`); what it answers is sent
        instead, None lets the request through. A plain function runs in a thread of its own.
    on_acknowledge: called with the ids of an acknowledgement before it is applied.

    Both hooks and the behaviour may be replaced while it runs. An exception in a hook answers that request with 500
    and is raised again at stop.
    """

    def __init__(
        self,
        *,
        results: int = 600,
        days: int = 3,
        seed: int = 0,
        token: str | None = None,
        port: int = 0,
        contents_port: int = 0,
        behaviour: Behaviour | None = None,
        today: date | None = None,
        bucket: Path | None = None,
        large_bytes: int | None = LARGE_BYTES,
        clock: Callable[[], float] = time.time,
        keep_requests: int = 100_000,
        intercept: Intercept | None = None,
        on_acknowledge: OnAcknowledge | None = None,
    ) -> None:
        if results < 0 or days < 1:
            raise ValueError("results must not be negative, and days must be at least 1")
        self.token = secrets.token_urlsafe(24) if token is None else token
        self._count = results
        self._day_count = days
        self._seed = seed
        self._ports = (port, contents_port)
        self._today = today
        self._folder = bucket
        self._large_bytes = large_bytes
        self._clock = clock
        self._keep_requests = keep_requests
        self._behaviour = behaviour or Behaviour()
        self.intercept = intercept
        self.on_acknowledge = on_acknowledge
        self._run: _Run | None = None
        self._servers: LoopbackServers | None = None

    def __repr__(self) -> str:
        return f"<Emulator {self.url if self._servers else 'stopped'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.stop()
        except BaseException as failure:
            if error is None:
                raise
            # The error on its way out is most likely what this failure led to, and must not hide it.
            error.add_note(f"the emulator failed as well: {failure!r}")

    def start(self) -> None:
        """Publishes the data and brings both servers up. Raises: OSError where a port is taken."""
        if self._servers is not None:
            raise RuntimeError("the emulator is running already")
        with contextlib.ExitStack() as undo:
            sockets = [undo.enter_context(bind_loopback(port)) for port in self._ports]
            run = self._publish([bound.getsockname()[1] for bound in sockets])
            undo.callback(self._remove, run)
            signer = Signer(f"http://{run.contents_host}", BUCKET_NAME)
            api = Api(self.token, run.catalogue, signer, self, run.journal, self._clock)
            contents = Contents(run.catalogue.bucket, signer, self._clock)
            gates = (
                Gate("api", api.handle, self, run.journal),
                Gate("contents", contents.handle, self, run.journal),
            )
            servers = LoopbackServers(list(zip(sockets, gates, strict=True)))
            # Before the first request can come: a hook may ask the emulator whatever a test may.
            self._run = run
            servers.start()
            undo.pop_all()
        self._servers = servers

    def stop(self) -> None:
        """Stops both servers and removes a temporary bucket; does nothing where none runs.

        Raises: what a hook raised meanwhile, as it is; an exception group where there were several.
        """
        if self._servers is None:
            return
        run, servers, self._servers = self._started, self._servers, None
        try:
            servers.stop()
        finally:
            self._remove(run)
        failures = run.journal.failures
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise BaseExceptionGroup("failures in the emulator or in its hooks", failures)

    def wait(self) -> None:
        """Returns when the servers have stopped, which is at once where none runs."""
        if self._servers is not None:
            self._servers.wait()

    def request_stop(self) -> None:
        """Asks the servers to stop, and does not wait. Safe in a signal handler."""
        if self._servers is not None:
            self._servers.request_stop()

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return self._started.url

    @property
    def contents_host(self) -> str:
        """`host:port` of the contents' host."""
        return self._started.contents_host

    @property
    def days(self) -> list[date]:
        """The UTC days over which the data is spread, oldest first."""
        return list(self._started.days)

    @property
    def bucket(self) -> Path:
        """The folder of the contents. A file appears there when its content is first asked for."""
        return self._started.catalogue.bucket.folder

    @property
    def requests(self) -> list[RecordedRequest]:
        """The latest requests to either server, in the order in which they arrived."""
        with self._started.journal.lock:
            return list(self._started.journal.requests)

    @property
    def acknowledged(self) -> list[str]:
        """The ids in the order in which their acknowledgements arrived, applied or not, known or not."""
        with self._started.journal.lock:
            return list(self._started.journal.acknowledged)

    @property
    def behaviour(self) -> Behaviour:
        """How the servers behave; may be replaced while they run."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        if self._run is not None and behaviour.order != self._behaviour.order:
            self._run.catalogue.store.reorder(behaviour.order)
        self._behaviour = behaviour

    def environment(self) -> dict[str, str]:
        """The variables that point a connector here."""
        return {
            "RICLOUD_URL": self.url,
            "RICLOUD_TOKEN": self.token,
            "RICLOUD_CONTENT_HOSTS": self.contents_host,
            "RICLOUD_START_DATE": self.days[0].isoformat(),
        }

    def results(self) -> list[PublishedResult]:
        """The truth about every result of every state, newest first."""
        return self._started.catalogue.describe_all()

    def add_result(
        self,
        *,
        content: bytes | Path,
        identifier: str = "AppDomain/Documents/added.bin",
        type: str | None = None,
        date_created: datetime | str | None = None,
        checksum: str | None = None,
        size: int | None = None,
        signed: bool = True,
        id: Id | None = None,
        state: State = "available",
        url: str | None = None,
        organisation: Id = ORGANISATION,
        poll: Id | None = None,
        task: Id | None = None,
        fields: Mapping[str, object] = NOTHING,
        without: Collection[str] = (),
    ) -> PublishedResult:
        """Publishes a result of one's own, at any time while the servers run.

        date_created: aware; a string is stated as it is, and one that is no datetime is placed at the present moment.
        checksum, size, url: what the API is to say instead of the truth.
        fields: any further fields, or any values at all for the known ones, as JSON; `without` leaves fields out.

        Raises: ValueError for an id that is there already, or a datetime without an offset.
        """
        catalogue, now = self._started.catalogue, self._now()
        content_facts = read_content(content)
        if isinstance(date_created, datetime) and date_created.tzinfo is None:
            raise ValueError("date_created needs an offset from UTC")
        created = parse_moment(date_created) if isinstance(date_created, str) else date_created
        return catalogue.publish(
            Draft(
                id=secrets.token_hex(12) if id is None else id,
                identifier=identifier,
                type=type,
                organisation=organisation,
                poll=poll,
                task=task,
                content=content_facts,
                checksum=content_facts.md5 if checksum is None else checksum,
                size=content_facts.size if size is None else size,
                created=created or now,
                date_created=date_created if isinstance(date_created, str) else format_moment(created or now),
                state=state,
                date_consumed=now if state == "consumed" else None,
                date_deleted=now if state == "expired" else None,
                signed=signed,
                url=url,
                fields=fields,
                without=without,
            )
        )

    @property
    def _started(self) -> "_Run":
        if self._run is None:
            raise RuntimeError("the emulator has not been started")
        return self._run

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _publish(self, ports: Sequence[int]) -> "_Run":
        now = self._now()
        last = self._today or now.date()
        days = [last - timedelta(days=back) for back in reversed(range(self._day_count))]
        drafts = make_drafts(results=self._count, days=days, seed=self._seed, now=now, large_bytes=self._large_bytes)
        if self._folder is None:
            folder = Path(tempfile.mkdtemp(prefix="ricloud-emulator-"))
        else:
            folder = self._folder
            folder.mkdir(parents=True, exist_ok=True)
        catalogue = Catalogue(Bucket(BUCKET_NAME, folder), self.behaviour.order)
        catalogue.load(drafts)
        return _Run(
            url=f"http://{LOOPBACK}:{ports[0]}",
            contents_host=f"{LOOPBACK}:{ports[1]}",
            days=days,
            catalogue=catalogue,
            journal=Journal(deque(maxlen=self._keep_requests)),
        )

    def _remove(self, run: "_Run") -> None:
        if self._folder is None:
            shutil.rmtree(run.catalogue.bucket.folder)


@dataclass(frozen=True, slots=True)
class _Run:
    """What one start made; outlives the stop, so that a test can still ask."""

    url: str
    contents_host: str
    days: list[date]
    catalogue: Catalogue
    journal: Journal
