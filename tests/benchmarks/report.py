"""The results as Markdown, JSON and a picture. Writes files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from tests.benchmarks.environments import PEERS, versions_of
from tests.benchmarks.scenarios import DELAY_MS, IN_FLIGHT, Row

INK, GRID, OURS, THEIRS = "#24292f", "#d0d7de", "#0969da", "#8c959f"


def ratios(rows: Sequence[Row]) -> list[tuple[str, float, str]]:
    """What the targets speak of: words, the figure, and what it is to be."""
    found = {(row.scenario, row.name.split(",")[0]): row for row in rows if row.costs}
    named = {(row.scenario, row.name): row for row in rows}

    def per_s(scenario: str, start: str) -> float | None:
        return next((row.per_s for (of, name), row in named.items() if of == scenario and name.startswith(start)), None)

    told: list[tuple[str, float, str]] = []

    def ratio(words: str, one: float | None, other: float | None, target: str) -> None:
        if one is not None and other is not None:
            told.append((words, one / other, target))

    ours, late = per_s("small", "ricloud-connector ingest, with"), f"{DELAY_MS} ms"
    vendor = "vendor's client, md5, rows by pandas"
    ratio("small: against the vendor's loop with rows, result by result", ours, per_s("small", f"{vendor}, result"), ">= 28")
    ratio("small: the same, rows page by page", ours, per_s("small", f"{vendor}, page"), "")
    contents = per_s("small", "ricloud-connector ingest --no-records")
    ratio(
        "small: against the vendor's loop, contents only", contents, per_s("small", "vendor's client, md5, contents"), ">= 18"
    )
    ratio("small: against dlt with rows", ours, per_s("small", "dlt"), ">= 15")
    ratio("small: of curl into md5sum", ours, per_s("small", "curl"), "")
    if ("small", "ricloud-connector ingest") in found:
        told.append(("small: CPU seconds per 1,000", found["small", "ricloud-connector ingest"].cpu_s_per_1000, "<= 0.09"))
    ratio(f"{late}: against the vendor's loop", per_s(late, "ricloud"), per_s(late, "vendor"), ">= 120")
    ratio(f"{late}: of in flight / latency", per_s(late, "ricloud"), IN_FLIGHT / DELAY_MS * 1000, ">= 0.90")
    ratio(f"{late}: of curl into md5sum", per_s(late, "ricloud"), per_s(late, "curl"), "")
    ratio("64 MiB: of curl, tee, md5sum", per_s("64 MiB", "ricloud"), per_s("64 MiB", "curl"), ">= 0.95")
    ratio("64 MiB: against the same, sync, second md5sum", per_s("64 MiB", "ricloud"), per_s("64 MiB", "the same"), ">= 1.3")
    ratio("listing: against the vendor's client", per_s("listing", "ricloud"), per_s("listing", "vendor"), ">= 5")
    slow = "listing, 50 ms"
    ratio(
        "listing, 50 ms a page: 8 windows against 1",
        per_s(slow, "ricloud-connector ingest --no-contents, 8"),
        per_s(slow, "ricloud-connector ingest --no-contents, 1"),
        ">= 6",
    )
    growth = [row for row in rows if row.scenario == "growth"]
    if len(growth) == 2:
        told.append(("growth: cost of new results in a lake so much larger", growth[1].wall_s / growth[0].wall_s, "<= 1.1"))
    for row in rows:
        if row.scenario == "nothing new":
            told.append(("nothing new: seconds in process", row.facts["took_s"], "<= 2"))
            told.append(("nothing new: API requests", row.facts["requests"], "one page"))
    loads = {row.name: row.wall_s for row in rows if row.scenario == "imports"}
    if loads:
        told.append(("import ricloud_connector, seconds", loads["import ricloud_connector"], "<= 0.25"))
        told.append(("loading definitions, of import dagster", loads["load definitions"] / loads["import dagster"], "<= 1.2"))
    peaks = [row.rss_mb for row in rows if row.scenario == "memory"]
    if peaks:
        told.append(("memory: highest peak, MB", max(peaks), "<= 350"))
    return told


def machine() -> dict[str, str]:
    """What it ran on."""
    models = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _read("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "memory": f"{int(memory) / 1024**2:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        **versions_of(sys.executable, "pyarrow", "pycurl", "httpx", "dagster"),
        "nginx": _said(["/usr/sbin/nginx", "-v"]),
        "curl": _said(["curl", "--version"]),
        "peers": "; ".join(requirement for requirements in PEERS.values() for requirement in requirements),
    }


def write(folder: Path, rows: Sequence[Row], facts: dict[str, str], command: str) -> None:
    """`results.json`, `results.md` and `results.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    told = ratios(rows)
    document = {
        "machine": facts,
        "command": command,
        "ratios": [{"what": words, "found": round(value, 4), "target": target} for words, value, target in told],
        "rows": [
            {
                "scenario": row.scenario,
                "name": row.name,
                "results": row.results,
                "facts": row.facts,
                "runs": [vars(cost) for cost in row.costs],
            }
            for row in rows
        ],
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "results.md").write_text(markdown(rows, told, facts, command))
    (folder / "results.svg").write_text(picture(rows))


def markdown(rows: Sequence[Row], told: Sequence[tuple[str, float, str]], facts: dict[str, str], command: str) -> str:
    lines = [
        f"Made by `{command}`. Medians; wall time of the whole process.",
        "",
        "| | found | target |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {words} | {_figure(value)} | {target} |" for words, value, target in told]
    lines += ["", "| scenario | what | results | results/s | CPU s per 1,000 | peak MB | wall s, each run |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        runs = ", ".join(f"{cost.wall_s:.2f}" for cost in row.costs)
        figures = f"{row.results:,} | {_figure(row.per_s)} | {_figure(row.cpu_s_per_1000)} | {row.rss_mb:.0f} | {runs}"
        lines.append(f"| {row.scenario} | {row.name} | {figures} |")
    lines += ["", "; ".join(f"{name} {value}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Row]) -> str:
    """Bars of results per second, a panel a scenario, each against its own fastest."""
    panels = [
        ("small", "4 KiB contents, no latency: results/s"),
        (f"{DELAY_MS} ms", f"4 KiB contents, {DELAY_MS} ms a request: results/s"),
        ("64 MiB", "64 MiB contents: contents/s"),
        ("listing", "listing into Parquet: results/s"),
    ]
    width, left, bar, gap = 860, 330, 18, 8
    body, top = [], 10
    for scenario, title in panels:
        chosen = [row for row in rows if row.scenario == scenario and not row.name.startswith("wrk")]
        if not chosen:
            continue
        most = max(row.per_s for row in chosen)
        body.append(f'<text x="10" y="{top + 16}" font-weight="bold" fill="{INK}">{escape(title)}</text>')
        top += 28
        for row in sorted(chosen, key=lambda row: -row.per_s):
            long = max(1.0, (width - left - 100) * row.per_s / most)
            colour = OURS if row.name.startswith("ricloud-connector") else THEIRS
            body.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end" fill="{INK}">{escape(row.name[:50])}</text>')
            body.append(f'<rect x="{left}" y="{top}" width="{long:.1f}" height="{bar}" rx="2" fill="{colour}"/>')
            body.append(f'<text x="{left + long + 6:.1f}" y="{top + 13}" fill="{INK}">{_figure(row.per_s)}</text>')
            top += bar + gap
        body.append(f'<line x1="10" x2="{width - 10}" y1="{top + 4}" y2="{top + 4}" stroke="{GRID}"/>')
        top += 16
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
    return "\n".join(
        [
            head + 'font-family="system-ui, sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *body,
            "</svg>\n",
        ]
    )


def _figure(value: float) -> str:
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.2
        else f"{value:.3f}"
    )


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _said(command: list[str]) -> str:
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "absent"
    return (process.stdout or process.stderr).splitlines()[0][:60].partition(" (")[0]
