"""The status of datasets as tables in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.evaluation.reports.wording import duration
from rallrec_pipeline.lake.increments import Increment
from rallrec_pipeline.lake.locks import LLM
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.status.cost import DEFAULT, DEFAULT_MODEL, Amount, Estimate
from rallrec_pipeline.pipeline.status.speeds import CALIBRATED
from rallrec_pipeline.pipeline.status.status import AssetStatus, DatasetStatus
from rallrec_pipeline.settings import Settings

STYLES = {"fresh": "green", "stale": "yellow", "missing": "red"}
HELD = {LLM: "the LLM", SHARED: "the assets that all datasets share"}
SHOWN = 3  # names in a cell; the JSON has all
UNKNOWN = "?"
COSTS = "LLM rows", "tokens", "minutes", "GB"


def print_status(status: DatasetStatus, settings: Settings, console: Console) -> None:
    """Print one dataset: each asset, what is under way, and in words the cost of catching up, which no row adds up."""
    if status.error is not None:
        named = status.dataset in status.error
        console.print(Text(status.error if named else f"{status.dataset}: {status.error}"), soft_wrap=True)
    else:
        console.print(_table(status, settings))
    for name, holder in status.held.items():
        console.print(Text(f"under way: {holder} holds {HELD.get(name, name)}", style="bold"), soft_wrap=True)
    if status.error is None:
        console.print(Text(catching_up(status)), soft_wrap=True)
        if status.steps:
            console.print(Text(f"a million predictions: {steps_told(status)}"), soft_wrap=True)


def steps_told(status: DatasetStatus) -> str:
    """What each step of the cascade took by its last run, and what one to come will take."""
    return "; ".join(f"{one['title']} {duration(one['seconds_per_million'])}" for one in status.steps.values())


def print_nothing(lake: Path, console: Console) -> None:
    """Say that a lake is empty."""
    console.print(Text(f"nothing was made yet in {lake}: run `rallrec run movielens-100k`"), soft_wrap=True)


def catching_up(status: DatasetStatus) -> str:
    """What it would cost to make everything fresh, in words."""
    late = [asset for asset in status.assets if asset.state != "fresh"]
    if not late:
        return "everything is up to date"
    cost = status.total
    bound = "" if cost.is_exact or _unknown(status) else "at most "
    memory = "" if status.memory is None else f", {_gigabytes(status.memory)} GB of memory"
    parts = [f"an estimate: {_words(cost.at_most, bound)}{memory}"]
    if not cost.is_exact and cost.now != cost.at_most:
        parts.append(f"{_words(cost.now)} if what waits turns out unchanged")
    unknown = _unknown(status)
    if unknown == late:
        return f"to catch up, {len(late)} of {len(status.assets)} assets; no estimate: nothing like this was run yet"
    if unknown:
        parts.append(f"more for {len(unknown)} assets of which nothing is known yet (?)")
    for basis, words in ((CALIBRATED, CALIBRATED), (DEFAULT, f"default figures ({DEFAULT_MODEL})")):
        named = [asset.asset for asset in late if asset.cost.at_most.tokens and asset.cost.basis == basis]
        if named:
            parts.append(f"speed of {', '.join(named)} by {words}")
    return f"to catch up, {len(late)} of {len(status.assets)} assets; {'; '.join(parts)}"


def _table(status: DatasetStatus, settings: Settings) -> Table:
    table = Table(title=Text(f"{status.dataset} ({settings.profile})"))
    for name in ("asset", "state", "why"):
        table.add_column(name, overflow="fold", no_wrap=name != "why")
    costs = () if all(asset.state == "fresh" for asset in status.assets) else COSTS
    for name in costs:
        table.add_column(name, justify="right", no_wrap=True)
    for asset in status.assets:
        cells = [*_figures(asset.cost), _memory(asset)] if asset.state != "fresh" else [""] * len(costs)
        table.add_row(asset.asset, Text(asset.state, STYLES[asset.state]), Text(_why(asset)), *cells)
    return table


def _unknown(status: DatasetStatus) -> list[AssetStatus]:
    """Assets that are not fresh and of whose cost nothing is known."""
    late = (asset for asset in status.assets if asset.state != "fresh")
    return [asset for asset in late if None in (asset.cost.at_most.rows, asset.cost.at_most.seconds)]


def _why(asset: AssetStatus) -> str:
    changed = [reason.removesuffix(" changed").removeprefix("setting ") for reason in asset.reasons]
    whole = [reason for reason in asset.reasons if not reason.endswith(" changed")]
    parts = whole or ([f"changed: {_few(changed)}"] if changed else [])
    parts += [f"waits for {_few(asset.waits_for)}"] if asset.waits_for else []
    parts += [_changed(asset.increment)] if asset.increment and asset.reasons else []
    return "; ".join(parts)


def _few(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _changed(increment: Increment) -> str:
    counts = {"new": increment.new, "stale": increment.stale, "orphaned": increment.orphaned}
    changed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"rows: {changed or 'none changed'}"


def _figures(cost: Estimate) -> list[str]:
    most, mark = cost.at_most, "" if cost.is_exact else "≤ "
    rows = UNKNOWN if most.rows is None else f"{mark if most.rows else ''}{most.rows:,}" if most.rows else ""
    tokens = UNKNOWN if most.tokens is None else f"{mark}{most.tokens:,}" if most.tokens else ""
    return [rows, tokens, UNKNOWN if most.seconds is None else f"{mark}{_minutes(most.seconds)}"]


def _memory(asset: AssetStatus) -> str:
    if asset.memory is not None:
        return _gigabytes(asset.memory)
    return UNKNOWN if asset.cost.at_most.rows is None else ""


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f}"


def _words(amount: Amount, mark: str = "") -> str:
    llm = f"{amount.rows or 0:,} rows and {amount.tokens or 0:,} tokens for the LLM"
    return f"{mark}{llm}, {_minutes(amount.seconds or 0)} minutes"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}" if seconds < 600 else f"{seconds / 60:,.0f}"
