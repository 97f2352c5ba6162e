"""The pages of the guide that are made from the code. `python -m tests.reference` writes them; a test compares them."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic_core import PydanticUndefined

from ricloud_connector.cli import cli
from ricloud_connector.dagster import RicloudComponent
from ricloud_connector.dagster.checks import CHECKS
from ricloud_connector.dagster.records import CHECKS as RECORDS_CHECKS
from ricloud_connector.records.known import KNOWN_FIELDS
from ricloud_connector.records.rows import EXTRA_FIELD, META
from ricloud_connector.schemas import DATASETS
from ricloud_connector.settings import VARIABLES

GUIDE = Path(__file__).parent.parent / "ricloud_connector" / "guide"
MADE = "<!-- Made from the code by `python -m tests.reference`: change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    return {
        "configuration.md": _page("Configuration", _configuration()),
        "data_dictionary.md": _page("Data dictionary", _dictionary()),
        "command_line.md": _page("Command line", _commands()),
    }


def _page(title: str, lines: Iterator[str]) -> str:
    return "\n".join([f"# {title}", "", MADE, "", *lines]).rstrip() + "\n"


def _configuration() -> Iterator[str]:
    yield "## Variables"
    yield ""
    yield "An empty variable counts as unset. `RicloudResource` and the component take the same settings by argument."
    yield ""
    yield from _table("variable", "meaning", ((f"`{name}`", meaning) for name, meaning in VARIABLES.items()))
    yield "## The component"
    yield ""
    yield "`type: ricloud_connector.RicloudComponent`. Every attribute is optional; `build_ricloud_definitions` takes the same."
    yield ""
    yield from _attributes(RicloudComponent)
    for name in ("sensor", "reconcile", "checks", "freshness"):
        model = _model_of(RicloudComponent.model_fields[name].annotation)
        yield f"### `{name}`"
        yield ""
        yield (model.__doc__ or "").strip()
        yield ""
        yield from _attributes(model)
    yield "## Checks"
    yield ""
    yield "Each warns; one that is named in `checks: {blocking: [...]}` is an error and holds back what comes after it."
    yield ""
    yield from _table("check", "says", ((f"`{check.name}` on `{check.asset}`", check.description) for check in CHECKS))
    yield "The asset `records` brings two of its own, which never block:"
    yield ""
    yield from _table("check", "says", ((f"`{name}` on `records`", said) for name, said in RECORDS_CHECKS.items()))


def _attributes(model: type) -> Iterator[str]:
    described = model.model().model_json_schema()["properties"]
    yield "| attribute | default | meaning |"
    yield "| --- | --- | --- |"
    for name, field in model.model_fields.items():
        about = described[name].get("description") or "Asset attributes, as in any component; `asset` and `spec` are in scope."
        yield f"| `{name}` | {_default(field)} | {about.replace('|', '/')} |"
    yield ""


def _default(field: object) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "needed"
    if value is None:
        return ""
    return "see below" if hasattr(value, "model_fields") else f"`{value}`"


def _model_of(annotation: object) -> type:
    found = [kind for kind in (annotation, *typing.get_args(annotation)) if isinstance(kind, type) and kind is not type(None)]
    return found[0]


def _dictionary() -> Iterator[str]:
    yield "Every dataset lies in `<lake>/data/<dataset>/created_date=YYYY-MM-DD/part-*.parquet`; `created_date` is the UTC day"
    yield "of `date_created`. Each column's description is in the files too, as its Arrow field's metadata."
    yield ""
    for dataset in DATASETS:
        yield f"## {dataset.name}"
        yield ""
        yield f"A row per {', '.join(f'`{name}`' for name in dataset.key)}."
        yield ""
        yield "| column | type | meaning |"
        yield "| --- | --- | --- |"
        for field in dataset.schema:
            yield f"| `{field.name}` | `{field.type}` | {field.metadata[b'description'].decode()} |"
        yield ""
    yield "## records"
    yield ""
    yield "A row per `result_id`, `record_index`, in `<lake>/data/records/ricloud_feed=<identifier>/created_date=YYYY-MM-DD/`."
    yield ""
    yield "| column | type | meaning |"
    yield "| --- | --- | --- |"
    for field in META:
        yield f"| `{field.name}` | `{field.type}` | {field.metadata[b'description'].decode()} |"
    yield "| the record's own fields | as the documents have them | one column each; known ones below |"
    yield f"| `{EXTRA_FIELD.name}` | `{EXTRA_FIELD.type}` | {EXTRA_FIELD.metadata[b'description'].decode()} |"
    yield ""
    yield "The vendor publishes no complete schema of any feed. Fields whose meaning it tells:"
    yield ""
    yield from _table("field", "meaning", ((f"`{name}`", meaning) for name, meaning in KNOWN_FIELDS.items()))


def _commands() -> Iterator[str]:
    context = click.Context(
        cli, info_name="ricloud-connector", terminal_width=110, max_content_width=110, help_option_names=["-h", "--help"]
    )
    yield from _help(cli, context, 2)


def _help(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{context.command_path}`"
    yield ""
    yield "```text"
    yield from (line.rstrip() for line in command.get_help(context).splitlines())
    yield "```"
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            below = click.Context(found, parent=context, info_name=name, terminal_width=110, max_content_width=110)
            yield from _help(found, below, min(level + 1, 4))


def _table(first: str, second: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield f"| {first} | {second} |"
    yield "| --- | --- |"
    for left, right in rows:
        yield f"| {left} | {right} |"
    yield ""


if __name__ == "__main__":
    for name, text in pages().items():
        (GUIDE / name).write_text(text, encoding="utf-8")
