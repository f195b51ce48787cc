"""Group `recommendations`: what an expert is fitted on, and the next items of each user."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.draws import id_draws
from rallrec_pipeline.datasets.histories import in_protocol_order
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.evaluation.pages.markdown import code, table
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.increments import compare_rows
from rallrec_pipeline.lake.marks import SCORE_KEYS
from rallrec_pipeline.lake.parquet import read_table, write_table
from rallrec_pipeline.lake.provenance import hash_column, now, stable_hash
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.decisive import recommending_users
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors
from rallrec_pipeline.pipeline.stages.engine import OneEngine
from rallrec_pipeline.pipeline.stages.held_out import ask_held_out
from rallrec_pipeline.pipeline.stages.new_items import catalogue_items
from rallrec_pipeline.pipeline.stages.rescoring import LlmRescoring, profiles_of, score_keys
from rallrec_pipeline.pipeline.stages.retrieval import index_file, todays_retriever
from rallrec_pipeline.recommendation.batch import SHORTLIST, Batch, Recommended
from rallrec_pipeline.recommendation.cold import with_cold_items
from rallrec_pipeline.recommendation.fit import fit_expert, read_fit, write_fit
from rallrec_pipeline.recommendation.recommender import Catalogue, Recommender
from rallrec_pipeline.recommendation.table import Maker, write_lines
from rallrec_pipeline.recommendation.today import Ratings, Visits
from rallrec_pipeline.retrieval.index import read_index
from rallrec_pipeline.settings import MIXTURE, essential

if TYPE_CHECKING:
    import faiss

_OF_NO_ROW = {"users": 0, "report_users": 0}  # settings that no user's items depend on
EXAMPLES = 3  # users whose items the UI shows


def recommender_fit(run: StageRun) -> Made:
    """The expert in force, fitted on the training split."""
    start = time.perf_counter()
    settings, items = run.settings, run.read(tables.CORE_ITEMS)
    fit = fit_expert(
        settings.recommendations.expert,
        run.read(tables.CORE_INTERACTIONS),
        run.read(tables.SAMPLES),
        items["item_id"].to_list(),
        read_vectors(run, "title"),
        run.spec.label.like_above,
        settings.experts,
        run.seeds.fits,
    )
    files = write_fit(fit, fit_file(run.out, run.dataset))
    shown = {"expert": fit.expert, "rows": len(fit.labels), "training_ratings": len(fit.seen.ratings)}
    return Made(files, shown | {"fit_seconds": round(time.perf_counter() - start, 2)})


def recommendations(run: StageRun) -> Made:
    """The next items of each user; users of whom nothing has changed keep theirs."""
    recommender = read_recommender(run)
    visits = wanted_visits(recommender.ratings, run)
    files = list[Path]()
    with OneEngine(run, "score") as engines:
        asked = held_out = None
        if run.settings.recommendations.method is not None:
            core = read_recommender(run, of_core=True)
            asked = LlmRescoring.of(run, recommender, engines, core)
            held_out = asked.on(core)
        made = _batch(run, recommender, asked).run(visits, _previous(run), run.progress("recommendations"))
        if held_out is not None:
            answers = ask_held_out(run, held_out)
            files.append(write_table(answers, tables.RESCORED_CANDIDATES, run.out, run.dataset))
    file = tables.RECOMMENDATIONS.file(run.out, run.dataset)
    files.append(write_table(made.table, tables.RECOMMENDATIONS, run.out, run.dataset))
    files.append(write_lines(made.table, file.with_suffix(".jsonl")))
    rows = _with_origin(made.rows.join(score_keys(asked), on="user_id", how="left", maintain_order="left"), run)
    before = run.previous_rows()
    before = before if before is None else of_recommended(before)
    increment = compare_rows(rows, before, made.computed, "user_id").as_metadata()
    users = {name.replace("rows_", "users_"): count for name, count in increment.items()}
    cost = {"llm": asdict(engines.usage), "engine": engines.used}
    if asked is not None and held_out is not None:
        made.steps[SHORTLIST].seconds = asked.told["seconds"]
        cost["held_out"] = held_out.told
    return Made(files, _told(run, made) | users | cost, _with_more_keys(rows, score_keys(held_out)))


def of_recommended(rows: pl.DataFrame) -> pl.DataFrame:
    """The provenance of users who are recommended items, without those whom only the report asks about."""
    return rows.filter(pl.col("input_hash").is_not_null())


def fit_file(root: Path, dataset: str) -> Path:
    """The fit within a result, or in the lake."""
    return root / "recommender" / f"{dataset}.safetensors"


def read_recommender(run: StageRun, of_core: bool = False) -> Recommender:
    """All that the users of today are recommended by; `of_core`: with the core's ratings, which samples count by."""
    catalogue, index = _catalogue(run)
    fit = read_fit(fit_file(run.folder("recommender_fit"), run.dataset)).among(catalogue.item_ids)
    catalogue = replace(catalogue, has_ratings=fit.counts() > 0)
    return Recommender(
        catalogue,
        with_cold_items(fit, catalogue.text),
        fit.factorisation,
        (core_ratings if of_core else todays_ratings)(run, catalogue.item_ids, fit.is_sampled),
        index,
        run.settings.recommendations,
        run.spec.label.like_above,
        run.settings.experts.trees,
        run.seeds.fits,
        run.settings.collaborative.graph == "signed" and not run.spec.is_implicit,
    )


def _catalogue(run: StageRun) -> tuple[Catalogue, faiss.Index]:
    """The core's items and after them the new ones, and the index, to which these are added; no list is trained."""
    index, ids = read_index(index_file(run.folder("item_index"), run.dataset))
    if ids != run.read(tables.CORE_ITEMS)["item_id"].to_list():
        raise StaleArtefactError(
            f"item_index of {run.dataset!r} is of other items: run `rallrec run {run.dataset} --select item_index`"
        )
    mixture, text, graph = (read_vectors(run, kind) for kind in ("item", "title", "collaborative"))
    new = run.read(tables.NEW_ITEM_VECTORS)
    if new.height:
        later = [np.stack([np.array(row, np.float32) for row in new[name]]) for name in ("item_vector", "title_vector")]
        mixture, text = np.vstack([mixture, later[0]]), np.vstack([text, later[1]])
        graph = np.vstack([graph, np.zeros((new.height, graph.shape[1]), np.float32)])
        index.add(np.ascontiguousarray(later[0]))
    return Catalogue(ids + new["item_id"].to_list(), mixture, text, graph, np.zeros(len(mixture), np.bool_)), index


def todays_ratings(run: StageRun, item_ids: list[str], is_sampled: bool) -> Ratings:
    """All ratings of `item_ids`, also of users who have too few for the core; users without any are there too.

    What the protocol leaves out by rating or date is no history, but it was seen.
    """
    open_core = {"user_core": 1, "item_core": 1, "user_cap": None, "item_cap": None, "item_limit": None}
    protocol = run.spec.protocol.model_copy(update=open_core | {"selection": None, "require": ()})
    raw = run.read(tables.INTERACTIONS)
    ratings = in_protocol_order(core_of(raw, run.read(tables.ITEMS), protocol), protocol, run.seeds.data)
    return Ratings.of(ratings, item_ids, every_user(run).to_list(), is_sampled).with_seen(raw)


def every_user(run: StageRun) -> pl.Series:
    """Ids of all who are in the table of users or have rated, each once."""
    both = (run.read(table)["user_id"] for table in (tables.USERS, tables.INTERACTIONS))
    return pl.concat(both).unique(maintain_order=True)


def core_ratings(run: StageRun, item_ids: list[str], is_sampled: bool) -> Ratings:
    """The ratings of the core, in which samples number histories."""
    return Ratings.of(run.read(tables.CORE_INTERACTIONS), item_ids, [], is_sampled)


def wanted_visits(ratings: Ratings, run: StageRun) -> Visits:
    """Every user, or as many as the settings allow, drawn by their ids: so most of a choice stays as data grow."""
    visits, most = ratings.visits, run.settings.recommendations.users
    if not most or most >= len(visits):
        return visits
    draws = id_draws(ratings.sequences.user_ids, f"recommendations {run.seeds.data}")
    return visits[np.sort(np.argsort(draws, kind="stable")[:most])]


def _batch(run: StageRun, recommender: Recommender, asked: LlmRescoring | None) -> Batch:
    settings, fit = run.settings.recommendations, run.given("recommender_fit")
    mixture = recommender.catalogue.mixture
    decisive = recommending_users(run.settings, run.spec) | {"recommendations": settings.model_copy(update=_OF_NO_ROW)}
    retriever = asked.retriever if asked else todays_retriever(run, MIXTURE, mixture)
    fingerprint = asked.fingerprint if asked else fit.data_version
    learned = retriever.learned.weights_by_feature() if retriever.learned else None
    common = stable_hash(
        essential(decisive),
        (fit.data_version, fingerprint, retriever.alpha, learned),
    )
    texts = hash_column(catalogue_items(run, recommender.catalogue.item_ids).iter_rows())
    profiles = profiles_of(run) if asked else {}
    expert, dearer = Maker(settings.expert, fit.data_version), Maker(settings.scored_by, fingerprint)
    return Batch(recommender, retriever, expert, common, texts, profiles, asked, dearer if asked else None)


def _with_origin(rows: pl.DataFrame, run: StageRun) -> pl.DataFrame:
    """`rows` with the run and time that made each; users who kept their items keep these and the score keys too."""
    fresh = rows.with_columns(pl.lit(run.run_id).alias("run_id"), pl.lit(now()).alias("created_at"))
    before, key, origin = run.previous_rows(), ["user_id", "input_hash"], ("run_id", "created_at", SCORE_KEYS)
    if before is not None:
        before = before.select(*key, *(name for name in origin if name in before.columns))
    return fresh if before is None else fresh.update(before, on=key)


def _with_more_keys(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """`rows` whose score keys have those of `more`, by user, too: rows of the memo that a report stands on.

    A user of `more` alone was not drawn, and gets a row of nothing else (`of_recommended`).
    """
    more = more.rename({SCORE_KEYS: "more"})
    joined = rows.join(more, on="user_id", how="full", coalesce=True, maintain_order="left_right")
    both = pl.concat_list(pl.col(name).fill_null([]) for name in (SCORE_KEYS, "more")).list.unique(maintain_order=True)
    known = pl.any_horizontal(pl.col(SCORE_KEYS, "more").is_not_null())
    return joined.with_columns(pl.when(known).then(both).alias(SCORE_KEYS)).drop("more")


def _previous(run: StageRun) -> pl.DataFrame | None:
    """The table of the result before; one that cannot be read is as good as none, as `previous` is whole."""
    if run.previous_folder is None or not tables.RECOMMENDATIONS.exists(run.previous_folder, run.dataset):
        return None
    return read_table(tables.RECOMMENDATIONS, run.previous_folder, run.dataset)


def _told(run: StageRun, made: Recommended) -> dict[str, Any]:
    """What the record and the UI say."""
    lengths, counts = made.rows["history_length"], made.table.group_by("user_id").len()
    covered = made.rows.join(counts, on="user_id", how="left")["len"].fill_null(0)
    return {
        "rows": made.table.height,
        "n": run.settings.recommendations.n,
        "users": made.rows.height,
        "fewer_than_n": int((covered < run.settings.recommendations.n).sum()),
        "without_any": int((covered == 0).sum()),
        "empty_histories": int((lengths == 0).sum()),
        "method": run.settings.recommendations.scored_by,
        "answered_by": dict(sorted(made.table["method"].value_counts().iter_rows())),
        "steps": {name: {"predictions": one.predictions, "seconds": one.seconds} for name, one in made.steps.items()},
        "items_recommended": made.table["item_id"].n_unique(),
        "examples": Markdown(_examples(run, made.table)),
    }


def _examples(run: StageRun, frame: pl.DataFrame) -> str:
    titles = dict(run.read(tables.ITEMS).select("item_id", "title").iter_rows())
    users = frame["user_id"].unique(maintain_order=True).head(EXAMPLES)
    rows = frame.filter(pl.col("user_id").is_in(users.implode())).select(
        "user_id", "rank", "item_id", "p_yes", "because"
    )
    cells = (
        [
            code(user),
            str(rank),
            code(titles.get(item, item)),
            f"{p:.3f}",
            ", ".join(code(titles.get(i, i)) for i in why),
        ]
        for user, rank, item, p, why in rows.iter_rows()
    )
    return "\n".join(table(["user", "rank", "item", "P(yes)", "rated items beside it"], cells))
