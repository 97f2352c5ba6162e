"""RicloudResource: the settings as Dagster shows and overrides them. Reads the environment when a run starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ricloud_connector.dagster import later
from ricloud_connector.errors import RicloudError, SettingsError
from ricloud_connector.settings import Settings

if TYPE_CHECKING:
    from ricloud_connector.ingest import Run
    from ricloud_connector.lake import Lake


def _setting(variable: str, description: str, *, secret: bool = False) -> Any:
    """An optional setting that falls back to its environment variable at the start of each run."""
    extra: dict[str, Any] = {"dagster__is_secret": True} if secret else {}
    return Field(default=None, description=f"{description} Unset: the variable {variable}.", json_schema_extra=extra)


class RicloudResource(dg.ConfigurableResource[Any]):
    """Where the API and the lake are, and who we are. Whatever is not given comes from the `RICLOUD_*` variables.

    Nothing is checked before a run needs it, so that a code location loads with no variable set. Give secrets as
    `dg.EnvVar("NAME")`, or leave them to their variables: Dagster stores with the definitions what is given as text.
    """

    token: str | None = _setting("RICLOUD_TOKEN", "The API's key token.", secret=True)
    url: str | None = _setting("RICLOUD_URL", "The API's base URL.")
    lake: str | None = _setting(
        "RICLOUD_LAKE", "The lake: a folder, s3://bucket/prefix or gs://bucket/prefix; there is no default."
    )
    staging: str | None = _setting("RICLOUD_STAGING", "A local folder for contents under way.")
    content_hosts: list[str] | None = _setting(
        "RICLOUD_CONTENT_HOSTS", "Hosts (host or host:port) that may be read although not https or not public."
    )
    buckets: list[str] | None = _setting("RICLOUD_BUCKETS", "The buckets from which contents are read.")
    read: list[str] | None = _setting("RICLOUD_READ", "`signed_url`, `bucket`, or both in the order to try.")
    local_root: str | None = _setting("RICLOUD_LOCAL_ROOT", "The only folder below which local:// contents are read.")
    proxy: str | None = _setting("RICLOUD_PROXY", "A proxy for both HTTP clients.")
    concurrency: int | None = Field(default=None, ge=1, le=512, description="Contents read at a time. Unset: 64.")

    def settings(self) -> Settings:
        """All settings, checked. Raises: SettingsError naming the variable and the line to set."""
        given = {
            "RICLOUD_TOKEN": self.token,
            "RICLOUD_URL": self.url,
            "RICLOUD_LAKE": self.lake,
            "RICLOUD_STAGING": self.staging,
            "RICLOUD_CONTENT_HOSTS": _joined(self.content_hosts),
            "RICLOUD_BUCKETS": _joined(self.buckets),
            "RICLOUD_READ": _joined(self.read),
            "RICLOUD_LOCAL_ROOT": self.local_root,
            "RICLOUD_PROXY": self.proxy,
        }
        known = {name: value for name, value in given.items() if value is not None}
        settings = Settings.from_environment({**os.environ, **known})
        return settings if self.concurrency is None else replace(settings, concurrency=self.concurrency)

    def lake_to_read(self) -> Lake:
        """The lake, for looking at it only. Raises: SettingsError."""
        settings = self.settings()
        return later.lake.Lake(settings.lake, origin=settings.origin, run_id=later.session.new_run_id())

    @contextmanager
    def open_run(self, run_id: str, *, patient: bool = False) -> Iterator[Run]:
        """The edges of one run. Errors of ours leave as `dagster.Failure`, in one clear line, retried only where that helps."""
        try:
            with later.session.open_run(self.settings(), run_id=run_id, patient=patient) as run:
                yield run
        except RicloudError as error:
            hint = " Nothing was done." if isinstance(error, SettingsError) else ""
            raise dg.Failure(f"{error}{hint}", allow_retries=error.retryable) from None


def _joined(values: list[str] | None) -> str | None:
    return None if values is None else ",".join(values)
