"""LightGCN as a stage: what it may see, where its weights lie, and whether a fit may start from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from rallrec_pipeline.embeddings.lightgcn import (
    LightGCNResult,
    Ratings,
    WarmStart,
    read_off,
    train_lightgcn,
    warm_start,
)
from rallrec_pipeline.embeddings.weights import Weights, fit_id, read_ids, write_ids, write_weights
from rallrec_pipeline.errors import DataError, RallrecError, StaleArtefactError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.warm_start import (
    Chosen,
    Fit,
    Judge,
    choose,
    fitting_settings,
    found_weights,
)
from rallrec_pipeline.settings import CollaborativeSettings

VERSION = "lightgcn 2"  # raise the number when the fit itself changes


@dataclass(frozen=True)
class Training:
    """What LightGCN may see: `table`, in codes `ratings`. What it may not: samples `held_out` and tuning `targets`."""

    table: pl.DataFrame
    ratings: Ratings
    held_out: pl.DataFrame
    targets: pl.DataFrame


def fit_collaborative(run: StageRun, settings: CollaborativeSettings, training: Training, auc: Judge) -> Fit:
    """LightGCN by `settings`; `auc` judges item vectors where a cold and a warm fit are compared."""
    ratings, seed, report = training.ratings, run.seeds.fits, run.progress("LightGCN epochs")
    chosen = choose(
        run,
        settings.warm_start,
        _files(run)[0],
        _fit_id(run, settings, ratings),
        lambda found: _as_found(run, found, settings, training),
        lambda found: _start(run, found, settings, training),
        lambda start: train_lightgcn(ratings, settings, seed, lambda done, total, _: report(done, total), start),
    )
    result = chosen.result
    files = _store(run, chosen, settings, training)
    seconds, epochs = chosen.seconds, len(result.losses)
    metadata = {
        "epochs": epochs,
        "held_out_metric": result.metric,
        "held_out_scores": [round(score, 4) for score in result.scores],
        "best_epoch": result.best_epoch,
        "seconds_per_epoch": None if seconds is None else round(seconds / max(1, epochs), 3),
    }
    compared = chosen.comparison(
        f"held-out {result.metric}", lambda fit: (fit.best_score, len(fit.losses), auc(fit.item_vectors))
    )
    return Fit(result.item_vectors, files, metadata | chosen.metadata | compared)


def collaborative_space(run: StageRun) -> str | None:
    """Which axes the collaborative vectors have; None where their weights cannot be read."""
    try:
        space: str = found_weights(_files(run)[0]).record["space"]
    except RallrecError:
        return None
    return space


def _files(run: StageRun) -> tuple[Path, Path]:
    """Weights of LightGCN, and whose rows they are."""
    folder = run.lake / "embeddings" / "collaborative"
    return folder / f"{run.dataset}.weights.safetensors", folder / f"{run.dataset}.weights.json"


def _as_found(run: StageRun, found: Weights, settings: CollaborativeSettings, training: Training) -> LightGCNResult:
    if found.record["warm_started_from"] is not None:
        _earlier_edges(run, training)
    return read_off(training.ratings, settings, found.tensors["weights"], **found.record["history"])


def _start(
    run: StageRun, found: Weights, settings: CollaborativeSettings, training: Training
) -> tuple[WarmStart, bool]:
    """The rows of ids that are still there. Raises a RallrecError where the weights do not fit or know too much.

    An item whose rating was learned and is now the target of a tuning prompt starts at random, and the projector with
    it: vectors that know the rating would give the answer away (`without_tuning_targets`), and a short fit does not
    forget it (docs/experiments.md, 2026-11-21).
    """
    weights, graph = found.tensors.get("weights", np.empty((0, 0), np.float32)), found.record.get("graph")
    if (weights.shape[1], graph) != (settings.dimensions, [settings.graph, settings.layers]):
        raise StaleArtefactError(f"{weights.shape[1]} dimensions, graph and layers {graph} are not those of now")
    users, items = read_ids(_files(run)[1], found.record["fit"])
    if len(users) + len(items) != len(weights):
        raise DataError("there are not as many ids as weights")
    pair = ["user_id", "item_id"]
    seen = training.targets.join(_earlier_edges(run, training), on=pair, how="semi")
    forgotten = seen.join(training.table, on=pair, how="anti")["item_id"].unique().to_list()
    start = warm_start(weights, users, items, training.ratings, forgotten)
    n_users, known_users = len(training.ratings.user_ids), int((start.rows < len(training.ratings.user_ids)).sum())
    run.log(
        f"known from before: {known_users:,} of {n_users:,} users, {len(start.rows) - known_users:,} of "
        f"{len(training.ratings.item_ids):,} items; {len(forgotten):,} items start anew as targets of tuning prompts"
    )
    return start, not forgotten


def _earlier_edges(run: StageRun, training: Training) -> pl.DataFrame:
    """All that the weights in the lake were ever fitted to. Raises StaleArtefactError when some of it is held out now.

    Weights do not forget: a rating that was learned and is now to be predicted would give itself away.
    """
    earlier = run.read(tables.FITTED_INTERACTIONS)
    known = earlier.join(training.held_out, on=["user_id", "item_id"], how="semi").height
    first = training.held_out["timestamp"].min()
    late = 0 if first is None else earlier.filter(pl.col("timestamp") > first).height
    if known or late:
        raise StaleArtefactError(
            f"of the interactions that it was fitted to {known:,} are held out now and {late:,} are later than those"
        )
    return earlier


def _store(
    run: StageRun, chosen: Chosen[LightGCNResult], settings: CollaborativeSettings, training: Training
) -> list[Path]:
    """Weights, ids, and the table of all that the weights know, along the whole chain of warm starts.

    The order makes a broken-off run safe: weights never lie beside a table that lacks something they know.
    """
    weights_file, ids_file = _files(run)
    known = training.table.drop("rating")
    if chosen.origin["warm_started_from"] is None:
        weights_file.unlink(missing_ok=True)
    else:
        earlier = _earlier_edges(run, training)
        known = pl.concat([known, earlier.join(known, on=["user_id", "item_id"], how="anti", maintain_order="left")])
    fitted = write_table(known, tables.FITTED_INTERACTIONS, run.lake, run.dataset)
    result, ratings = chosen.result, training.ratings
    history = {"losses": result.losses, "scores": result.scores, "start_score": result.start_score}
    record = {**chosen.origin, "graph": [settings.graph, settings.layers], "history": history}
    write_weights(weights_file, Weights({"weights": result.weights}, record))
    write_ids(ids_file, chosen.origin["fit"], ratings.user_ids, ratings.item_ids)
    return [fitted, weights_file, ids_file]


def _fit_id(run: StageRun, settings: CollaborativeSettings, ratings: Ratings) -> str:
    ids, seed = (list(ratings.user_ids), list(ratings.item_ids)), run.seeds.fits
    return fit_id(VERSION, fitting_settings(settings), seed, *ids, ratings.users, ratings.items, ratings.values)
