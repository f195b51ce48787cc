"""Merged predictions and cascades as a stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.inference.methods import merges, methods, reasoned_methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.reporting.scored import made_by, scored_by
from rallrec_pipeline.reasoning.cascade import KnownBefore, Order, choose_cascade, orders, rows_asked
from rallrec_pipeline.reasoning.merge import best_member, choose_consistency, consistency, plain_mean, stack
from rallrec_pipeline.reasoning.opinions import Floats, Labels, Opinion, over_runs, row_losses
from rallrec_pipeline.settings import MergeSettings, Role

_KEYS = ("sample_id", "split", "label")


@dataclass
class Rows:
    """The rows that are merged, ascending by sample id, each (n,), and what models say of them."""

    frame: pl.DataFrame
    valid: NDArray[np.bool_]
    labels: Labels
    item_ratings: NDArray[np.int64]
    history: NDArray[np.int64]
    users: NDArray[np.int64]
    opinions: dict[str, Opinion] = field(default_factory=dict)
    raw: dict[str, Floats] = field(default_factory=dict)
    """P(yes) before any calibration, of methods that have it: variances are over these."""
    tokens: dict[str, float] = field(default_factory=dict)
    """Mean tokens of a row that are read and written, by method of an LLM."""
    members: dict[str, frozenset[str]] = field(default_factory=dict)
    """Methods that a merge is made of, over any number of merges."""

    def leaves(self, name: str) -> frozenset[str]:
        """The methods that are asked for an answer of `name`."""
        return self.members.get(name, frozenset({name}))

    def tokens_of(self, name: str) -> float:
        """Mean tokens of a row over the methods that `name` is made of, each once; 0 without an LLM."""
        return sum(self.tokens.get(leaf, 0.0) for leaf in sorted(self.leaves(name)))

    @property
    def facts(self) -> Floats:
        """What a stack with uncertainty is told besides, (n, 2)."""
        return np.log1p(np.column_stack([self.history, self.item_ratings]))


def merged_predictions(run: StageRun) -> Made:
    """Every merge on the rows of its members; what is chosen or fitted sees validation rows alone."""
    rows = merging_rows(run)
    told: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    files = list[Path]()
    kept = [(table, [pl.DataFrame(schema=table.columns)]) for table in (tables.CASCADES, tables.CONSISTENCIES)]
    for name, merge in merges(run.settings).items():
        begun = time.perf_counter()
        p_yes, told[name], parts = _merge(merge, rows, run)
        seconds[name] = round(time.perf_counter() - begun, 3)
        unasked = np.all([np.isinf(rows.opinions[member].variance) for member in merge.members], axis=0)
        rows.opinions[name] = Opinion(p_yes, np.where(unasked, np.inf, 0.0))
        rows.members[name] = frozenset().union(*(rows.leaves(member) for member in (*merge.members, *merge.runs)))
        files.append(_write(name, p_yes, rows, run))
        for table, frames in kept:
            if parts is not None and set(table.columns) <= {*parts.columns, "method"}:
                frames.append(parts.with_columns(method=pl.lit(name)).select(list(table.columns)))
    files += [write_table(pl.concat(frames), table, run.out, run.dataset) for table, frames in kept]
    shown = {
        "rows": rows.frame.height,
        "predicted": rows.frame.height,
        "tokens_per_row": {name: round(rows.tokens_of(name), 1) for name in told},
        "seconds": seconds,
        "merges": told,
        **{f"knee_{name}": one["knee"] for name, one in told.items() if "knee" in one},
    }
    return Made(files, shown, version=content_version(files))


def _merge(merge: MergeSettings, rows: Rows, run: StageRun) -> tuple[Floats, dict[str, Any], pl.DataFrame | None]:
    """P(yes) of all rows, what was chosen for it, and of a cascade or a merge by consistency what it was made from."""
    members = [_opinion(name, rows, run) for name in merge.members]
    valid, labels = rows.valid, rows.labels
    if merge.kind == "mean":
        return plain_mean(members), {"members": merge.members}, None
    if merge.kind == "best":
        best = best_member([member.at(valid) for member in members], labels[valid])
        return members[best].p_yes, {"member": merge.members[best]}, None
    if merge.kind == "logistic":
        told = [_with_runs(members[0], merge, rows, run), *members[1:]] if merge.uncertainty else members
        facts = rows.facts if merge.uncertainty else None
        return stack(told, facts, valid, labels, rows.users), {"members": merge.members}, None
    if merge.kind == "cascade":
        return _cascade(merge, members, rows)
    general = _with_runs(members[0], merge, rows, run)
    alpha, epsilon = merge.alpha, merge.epsilon
    if merge.choose:
        alpha, epsilon = choose_consistency(general.at(valid), members[1].at(valid), labels[valid])
    shown: dict[str, Any] = {"alpha": alpha, "epsilon": epsilon, "runs": len(merge.runs) + 1}
    finite = np.isfinite(members[1].variance)
    shown |= {"mean_var_g": float(general.variance.mean())}
    shown |= {"mean_var_r": float(members[1].variance[finite].mean()) if finite.any() else None}
    sides = rows.frame.with_columns(
        pl.Series("general", general.p_yes),
        pl.Series("general_variance", general.variance),
        pl.Series("reasoned", members[1].p_yes),
        pl.Series("reasoned_variance", np.where(finite, members[1].variance, np.nan)).fill_nan(None),
    )
    return consistency(general, members[1], alpha, epsilon), shown, sides


def _with_runs(main: Opinion, merge: MergeSettings, rows: Rows, run: StageRun) -> Opinion:
    for name in merge.runs:
        _opinion(name, rows, run)
    others = [rows.raw[name] for name in merge.runs]
    own = rows.raw[merge.members[0]] if others else main.p_yes
    return Opinion(main.p_yes, over_runs(own, others).variance) if others else main


def _cascade(merge: MergeSettings, members: list[Opinion], rows: Rows) -> tuple[Floats, dict[str, Any], pl.DataFrame]:
    """The expert's P(yes), and the dear model's where the order says so; the threshold is that of validation rows."""
    expert, dear, valid = members[0].p_yes, members[1].p_yes, rows.valid
    dear = np.where(np.isfinite(members[1].variance), dear, expert)  # where it was not asked the expert answers
    gain = row_losses(rows.labels, expert) - row_losses(rows.labels, dear)
    candidates = orders(KnownBefore(expert, rows.item_ratings, rows.history, rows.users), valid, gain)
    tokens = rows.tokens_of(merge.members[1])
    if merge.budget and not tokens:
        raise DataError("a cascade has a budget, but its second member asks no LLM: leave `budget` out")
    most = min(1.0, merge.budget / tokens) if merge.budget else 1.0
    on_valid = [Order(order.name, order.values[valid]) for order in candidates]
    chosen = choose_cascade(on_valid, expert[valid], dear[valid], rows.labels[valid], most)
    order = next(one for one in candidates if one.name == chosen.order)
    asked = rows_asked(order.values, valid, chosen.share)
    p_yes = np.where(asked, dear, expert)
    frame = rows.frame.with_columns(
        pl.Series("expert", expert),
        pl.Series("dear", dear),
        pl.Series("order", order.values),
        pl.Series("asked", asked),
    )
    shown = {
        "order": chosen.order,
        "share_on_validation": chosen.share,
        "knee": chosen.knee,
        "share_asked": float(asked[~valid].mean()) if (~valid).any() else None,
        "tokens_per_row_asked": tokens,
        "log_loss_by_share": {name: np.round(losses, 5).tolist() for name, losses in chosen.losses.items()},
    }
    return p_yes, shown, frame


def merging_rows(run: StageRun) -> Rows:
    """The rows that are merged, with what the reasoner says of them."""
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train").select("sample_id").unique()
    counts = training_interactions(core, samples).group_by("item_id").agg(pl.len().alias("item_ratings"))
    frame = (
        samples.join(asked, on="sample_id", how="semi")
        .join(counts, on="item_id", how="left")
        .sort("sample_id")
        .with_columns(pl.col("item_ratings").fill_null(0).cast(pl.Int64))
    )
    rows = Rows(
        frame.select(_KEYS),
        (frame["split"] == "valid").to_numpy(),
        frame["label"].to_numpy().astype(np.int8),
        frame["item_ratings"].to_numpy(),
        frame["history_length"].to_numpy().astype(np.int64),
        frame["user_id"].rank("dense").to_numpy().astype(np.int64),
    )
    reasoned = run.read(tables.REASONED_ROWS)
    for (name,), own in reasoned.group_by(["method"], maintain_order=True):
        aligned = _aligned(own, rows.frame, str(name))
        variance = aligned["variance"].fill_null(np.inf).to_numpy()
        rows.opinions[str(name)] = Opinion(aligned["p_yes"].to_numpy(), variance)
        rows.raw[str(name)] = aligned["p_raw"].to_numpy()
    rows.tokens |= _tokens(run)
    return rows


def _tokens(run: StageRun) -> dict[str, float]:
    """Mean tokens of a row by method of an LLM, as its tokenizer counts them, nothing shared with other rows.

    The tuned LLM reads its prompt. The reasoner reads its prompt and writes its responses, then reads both again.
    """
    asked, found = run.read(tables.prompts_table("evaluation")), dict[str, float]()
    for method in methods(run.settings):
        found[method.name] = _mean_tokens(run, "predictor", asked.filter(method.asked.rows)["prompt"])
    prompts, rows = run.read(tables.REASONING_PROMPTS), run.read(tables.REASONED_ROWS)
    for reasoned in reasoned_methods(run.settings):
        own = rows.filter(pl.col("method") == reasoned.name)
        written = sum((own["tokens"].fill_null(0) * own["traces"]).to_list()) / max(1, own.height)
        read = _mean_tokens(run, "reasoner", prompts.filter(pl.col("method") == reasoned.name)["prompt"])
        found[reasoned.name] = 2 * (read + written)
    return found


def _mean_tokens(run: StageRun, role: Role, texts: pl.Series) -> float:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder(run.lake, run.settings.role(role)) / "tokenizer.json"))
    return sum(map(len, tokenizer.encode_batch_fast(texts.to_list()))) / max(1, texts.len())


def _opinion(name: str, rows: Rows, run: StageRun) -> Opinion:
    """What a method says of the rows; one that was not merged yet is read once."""
    if name not in rows.opinions:
        scored = scored_by(name, run.given(made_by(name, run.settings)), run).predictions
        found = _aligned(scored, rows.frame, name)
        p_yes = found["p_yes"].to_numpy()
        rows.opinions[name] = Opinion(p_yes, np.zeros_like(p_yes))
        rows.raw[name] = found["p_raw"].to_numpy() if "p_raw" in found.columns else p_yes
    return rows.opinions[name]


def _aligned(predicted: pl.DataFrame, wanted: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows of `wanted`, in its order. Raises DataError where one is missing."""
    found = wanted.select("sample_id").join(
        predicted.drop("split", "label", strict=False), on="sample_id", how="left", maintain_order="left"
    )
    if lacking := found["p_yes"].null_count():
        raise DataError(
            f"{lacking:,} of {wanted.height:,} rows have no prediction of {name}: run the stage that makes it again, "
            "or take another member"
        )
    return found


def _write(name: str, p_yes: Floats, rows: Rows, run: StageRun) -> Path:
    frame = rows.frame.with_columns(
        pl.Series("p_yes", p_yes, dtype=pl.Float64), pl.lit(None, pl.List(pl.Float32)).alias("probabilities")
    )
    return write_table(frame, tables.predictions_table(name), run.out, run.dataset)
