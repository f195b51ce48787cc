"""Run the benchmark scripts beside this file and gather what they print.

Each script compares one job of ours with a named peer and prints JSON lines, one a comparison:
`{"name", "unit", "ours", "peer", "peer_name", "ratio", "target"}`, and `notes` where there is more to say.
`ratio` at or above `target` meets it.

    python benchmarks/run.py            all scripts
    python benchmarks/run.py tables     only benchmarks/tables.py; the other rows stay as they were

Writes benchmarks/results.json and docs/benchmarks.md, each row with the day and the processor that it was measured on.
A row replaces the one of the same name and processor; those of other processors stay, for the table by processor.
Exits 1 when a script fails; its rows of an earlier run, and those of scripts that were not run, are kept.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rallrec_pipeline.language_models.sizing.hardware import processor_name

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"
KEYS = ("name", "unit", "ours", "peer", "peer_name", "ratio", "target")
PACKAGES = ("torch", "transformers", "polars", "numpy", "faiss-cpu", "dagster")

HELPERS = ("run", "generate", "rows", "movielens", "peak")  # these measure nothing


def main(chosen: list[str]) -> int:
    """Run the scripts named in `chosen` (all when empty); returns the exit status."""
    scripts = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem not in HELPERS}
    if unknown := [name for name in chosen if name not in scripts]:
        print(f"no benchmark {', '.join(unknown)}: choose from {', '.join(scripts)}", file=sys.stderr)
        return 2
    here = day_and_place()
    rows: list[dict[str, Any]] = []
    failed = []
    for name in chosen or scripts:
        print(f"== {name}", flush=True)
        found, status = run_script(scripts[name])
        rows += [row | {"script": name, **here} for row in found]
        if status or not found:
            failed.append(name)
    replaced = set(chosen or scripts) - set(failed)
    every = joined(read_results(), rows, replaced, set(scripts))
    results = {"machine": machine(), "rows": every}
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(as_page(results), encoding="utf-8")
    print(table(newest(every)))
    if failed:
        print(f"failed or without a row: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def joined(
    before: list[dict[str, Any]], rows: list[dict[str, Any]], replaced: set[str], scripts: set[str]
) -> list[dict[str, Any]]:
    """`before` with `rows` in it: of each name and processor one row, in the order of the scripts.

    On the processor of `rows` nothing stays of the scripts in `replaced`, and nowhere of scripts that are gone.
    """
    places = {row["processor"] for row in rows}
    kept = [
        row
        for row in before
        if row.get("script") in scripts and not (row["script"] in replaced and row["processor"] in places)
    ]
    found = {(row["name"], row["processor"]): row for row in kept + rows}
    return sorted(found.values(), key=lambda row: row["script"])


def newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each name the row that was measured last."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["name"] not in found or row["date"] >= found[row["name"]]["date"]:
            found[row["name"]] = row
    return list(found.values())


def run_script(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows that the script printed, and its exit status; everything else that it prints is passed on."""
    rows = []
    command = [sys.executable, "-u", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if row := parse_row(line):
                rows.append(row)
    return rows, process.returncode


def parse_row(line: str) -> dict[str, Any] | None:
    """The row of a JSON line that has all keys, else None."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not set(KEYS) <= set(value):
        return None
    return {key: value[key] for key in (*KEYS, "notes") if key in value}


def read_results() -> list[dict[str, Any]]:
    """Rows of the last run; none when there was none."""
    return list(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]) if RESULTS.exists() else []


def day_and_place() -> dict[str, Any]:
    """When and on what a row was measured."""
    return {"date": datetime.now(UTC).date().isoformat(), "processor": f"{processor_name()}, {os.cpu_count()} cores"}


def machine() -> dict[str, Any]:
    """What else the figures of the last run depend on; no name that identifies the machine."""
    return {
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    """Version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def as_page(results: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    facts = results["machine"]
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    return (
        "# Benchmarks\n\n"
        "Written by `make bench`. Each row is one job done by this project and by a named peer on the same input.\n"
        "The ratio says how many times better ours is, or which share of the peer's rate it reaches.\n\n"
        f"{table(newest(results['rows']))}\n"
        f"The last run: {facts['memory_gib']} GiB, {facts['system']}, Python {facts['python']}; {packages}.\n\n"
        f"{by_processor(results['rows'])}"
        "[Back to the README](../README.md)\n"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| job | unit | ours | peer | peer is | ratio | target | met | measured |",
        "|---|---|---:|---:|---|---:|---:|---|---|",
    ]
    for row in rows:
        target = row["target"]
        met = "" if target is None else "yes" if row["ratio"] >= target else "no"
        figures = [number(row["ours"]), number(row["peer"])]
        measured = f"{row['date']}, {row['processor']}"
        judged = [number(row["ratio"]), number(target), met]
        cells = [row["name"], row["unit"], *figures, row["peer_name"], *judged, measured]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def by_processor(rows: list[dict[str, Any]]) -> str:
    """What jobs that were measured on two processors or more reach on each, with the ratio; "" where there are none."""
    jobs: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        jobs.setdefault(f"{row['name']} ({row['unit']})", {})[row["processor"]] = row
    compared = {job: found for job, found in jobs.items() if len(found) > 1}
    if not compared:
        return ""
    places = sorted({place for found in compared.values() for place in found})
    lines = [f"| {job} | " + " | ".join(_on(found.get(p)) for p in places) + " |" for job, found in compared.items()]
    head = ["", "| job | " + " | ".join(places) + " |", "|---|" + "---|" * len(places)]
    return "## By processor\n\nOurs, and in brackets the ratio to the peer.\n" + "\n".join(head + lines) + "\n\n"


def _on(row: dict[str, Any] | None) -> str:
    return f"{number(row['ours'])} ({number(row['ratio'])})" if row else "–"


def number(value: float | None) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
