"""Group `reports`: how good recommendations are, by user, on what users came to like after the training split."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.evaluation.pages.markdown import picture
from rallrec_pipeline.evaluation.pages.top_n_page import CAPTION, render_top_n_page, summary, top_n_csv, top_n_png
from rallrec_pipeline.evaluation.reports.top_n import Ranked, build_top_n
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.pipeline.origin import provenance_of
from rallrec_pipeline.pipeline.reporting.report_files import write_report
from rallrec_pipeline.pipeline.reporting.step_costs import step_costs
from rallrec_pipeline.pipeline.stages.held_out import held_out_users, read_answers
from rallrec_pipeline.pipeline.stages.recommendations import read_recommender
from rallrec_pipeline.recommendation.cascade import Answers, rescored
from rallrec_pipeline.recommendation.fit import fit_expert
from rallrec_pipeline.recommendation.measures import (
    DEPTHS,
    Held,
    coverage,
    first_items,
    measures_by_user,
    names_of,
)
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.scores import Scorer
from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits

COLD_USER, COLD_ITEM = 10, 5
"""Fewer ratings in the history, or in training, than these are cold."""
TREES = "text_trees"
WHOLE = ("popularity", "item_knn", "lightgcn", "factorisation")
BY_P_YES, BY_BOTH = "candidates_by_p_yes", "candidates_by_both"
CASCADES = {"cascade_by_p_yes": "p_yes", "cascade_by_both": "both"}
"""Rankings that ask the LLM: name -> what the shortlist is put in order by."""
SIZES = (5, 10, 15, 20, 30, 50, 100)
"""Shortlists that are tried on what was answered about the whole one."""


@dataclass(frozen=True)
class _Task:
    """What is ranked, and against what; `answers` are those of a method of the LLM."""

    recommender: Recommender
    valid: Held
    test: Held
    answers: Answers | None

    @property
    def ratings(self) -> Ratings:
        return self.recommender.ratings


def recommendation_report(run: StageRun) -> Made:
    """Every method ranks the whole catalogue for the same users; validation chooses, test is told."""
    task = _task(run)
    ranked = {name: _ranked(task, title, first) for name, (title, first) in _rankings(run, task).items()}
    ranked |= {name: with_llm_seconds(ranked[name], run) for name in CASCADES if name in ranked}
    by_expert = BY_P_YES if run.settings.recommendations.order == "p_yes" else BY_BOTH
    pairs = {name: by_expert for name in CASCADES if name in ranked}
    report = build_top_n(ranked, _about(run, task), run.settings.scoring.bootstrap, run.seeds.data, pairs)
    json_file, html_file = recommendation_report_files(run.out, run.dataset)
    texts = {html_file: render_top_n_page(report), json_file.with_suffix(".csv"): top_n_csv(report)}
    shown = _shown(report) | {"methods": Markdown(summary(report))}
    shown["picture"] = Markdown(picture(CAPTION, top_n_png(report)))
    return Made(write_report(json_file, report, texts), shown)


def recommendation_report_files(root: Path, dataset: str) -> tuple[Path, Path]:
    """JSON and HTML of the report on recommendations, within a result or in the lake."""
    folder = root / "reports" / dataset
    return folder / "recommendation_report.json", folder / "recommendation_report.html"


def _task(run: StageRun) -> _Task:
    recommender = read_recommender(run, of_core=True)
    return _Task(recommender, *held_out_users(run, recommender), read_answers(run, recommender))


Rank = Callable[[Visits], Codes]
"""The first items (n, 20) of n visits."""


def _rankings(run: StageRun, task: _Task) -> dict[str, tuple[str, Rank]]:
    """Title of each method, and what gives the first items of visits."""
    recommender, deepest = task.recommender, DEPTHS[-1]
    titles = {"popularity": "popularity"} | {name: EXPERTS[name] for name in WHOLE[1:]}

    def whole(score: Scorer) -> Rank:
        return lambda visits: first_items(score, task.ratings, visits)

    def candidates(order: str) -> Rank:
        settings = recommender.settings.model_copy(update={"order": order})
        return lambda visits: replace(recommender, settings=settings).best(visits, deepest).items

    found = {name: (titles[name], whole(recommender.whole(name))) for name in WHOLE}
    found[TREES] = (EXPERTS[TREES], whole(_trees(run, recommender)))
    expert = EXPERTS[recommender.settings.expert]
    found[BY_P_YES] = (f"candidates, ranked by P(yes): {expert}", candidates("p_yes"))
    found[BY_BOTH] = (f"candidates, ranked by P(yes) and {EXPERTS[recommender.settings.source]}", candidates("both"))
    if task.answers is not None:
        settings = recommender.settings
        also = {"p_yes": "", "both": f" and {EXPERTS[settings.source]}"}
        for name, order in CASCADES.items():
            title = (
                f"cascade, {settings.shortlist} of the candidates ranked by P(yes){also[order]}: {settings.scored_by}"
            )
            found[name] = (title, _cascade(task, order, settings.shortlist))
    return found


def _cascade(task: _Task, order: str, shortlist: int) -> Rank:
    """The candidates in the order of the settings, of which the `shortlist` is put in `order` by the LLM's P(yes)."""
    one, answers, deepest = task.recommender, task.answers, DEPTHS[-1]
    assert answers is not None, "it was asked about"
    settings = one.settings.model_copy(update={"shortlist": shortlist})

    def first(visits: Visits) -> Codes:
        parts = [np.zeros((0, deepest), np.int32)]
        for block in visits.blocks(len(one.catalogue.item_ids)):
            some = visits[block]
            found = one.candidates(some)
            by_expert = one.expert(some, found.items)
            parts.append(rescored(found, by_expert, some, settings, answers, deepest, order).items)
        return np.concatenate(parts)

    return first


def with_llm_seconds(ranked: Ranked, run: StageRun) -> Ranked:
    """`ranked` with the seconds that the LLM took for its answers; they were asked when users were recommended."""
    told = run.given("recommendations").metadata.get("held_out", {})
    return replace(ranked, seconds=round(ranked.seconds + told.get("seconds", 0.0), 4))


def _by_shortlist(task: _Task, in_force: str) -> list[dict[str, Any]]:
    """NDCG@10 and recall@10 by how many candidates the LLM is asked about, 0 first: of the order in force."""
    settings = task.recommender.settings
    sizes = [0, *(size for size in SIZES if size < settings.shortlist), settings.shortlist]
    counts, users = task.recommender.fit.counts(), int(np.unique(task.recommender.fit.seen.ratings.users).size)
    found = []
    for size in sizes:
        first = _cascade(task, in_force, size)
        line: dict[str, Any] = {"asked": size}
        for split, held in (("valid", task.valid), ("test", task.test)):
            by_user = measures_by_user(first(held.visits), held, task.ratings, counts, users)
            for measure in ("ndcg_at_10", "recall_at_10"):
                known = by_user[measure][np.isfinite(by_user[measure])]
                line[f"{split}_{measure}"] = float(known.mean()) if known.size else None
        found.append(line)
    return found


def _trees(run: StageRun, recommender: Recommender) -> Scorer:
    """P(yes) of boosted trees for every item of the catalogue."""
    fit = fit_expert(
        TREES,
        run.read(tables.CORE_INTERACTIONS),
        run.read(tables.SAMPLES),
        recommender.catalogue.item_ids,
        recommender.catalogue.text,
        recommender.like_above,
        run.settings.experts,
        recommender.seed,
    )
    expert, every = replace(recommender, fit=fit).expert, np.arange(len(fit.item_ids), dtype=np.int32)

    def score(visits: Visits) -> NDArray[np.float32]:
        return expert(visits, np.broadcast_to(every, (len(visits), len(every)))).astype(np.float32)

    return score


def _ranked(task: _Task, title: str, first: Rank) -> Ranked:
    counts, m = task.recommender.fit.counts(), len(task.recommender.catalogue.item_ids)
    users = int(np.unique(task.recommender.fit.seen.ratings.users).size)
    start = time.perf_counter()
    valid, test = first(task.valid.visits), first(task.test.visits)
    seconds = time.perf_counter() - start

    def by_user(items: Codes, held: Held) -> dict[str, NDArray[np.float64]]:
        return measures_by_user(items, held, task.ratings, counts, users)

    cold = task.test.visits.lengths < COLD_USER
    whole = by_user(test, task.test)
    return Ranked(
        title,
        by_user(valid, task.valid),
        whole,
        {name: values[cold] for name, values in whole.items()},
        by_user(test, task.test.of_items(counts < COLD_ITEM)),
        coverage(test, m),
        round(seconds, 4),
        (len(task.valid.visits) + len(task.test.visits)) * m,
    )


def _about(run: StageRun, task: _Task) -> dict[str, Any]:
    counts = task.recommender.fit.counts()
    return {
        "dataset": run.dataset,
        "dataset_title": run.spec.title,
        "profile": run.settings.profile,
        "seed": run.seeds.data,
        "items": len(counts),
        "valid_users": len(task.valid.visits),
        "test_users": len(task.test.visits),
        "cold_user": COLD_USER,
        "cold_item": COLD_ITEM,
        "cold_users": int((task.test.visits.lengths < COLD_USER).sum()),
        "cold_items": int((counts[task.test.item] < COLD_ITEM).sum()),
        "in_force": run.settings.recommendations.scored_by,
        "by_shortlist": _by_shortlist(task, run.settings.recommendations.order) if task.answers is not None else [],
        "cost": step_costs(run.inputs, run.settings),
        "provenance": provenance_of(run, "recommendations"),
    }


def _shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """`ndcg_at_10_item_knn` and the like: single numbers, which the UI plots over partitions and time."""
    shown = {
        f"{measure}_{name}": one["test"][measure]["value"]
        for name, one in report["methods"].items()
        for measure in names_of(("ndcg", "recall"))
        if one["test"][measure]["value"] is not None
    }
    return {"chosen": report["chosen"], "test_users": report["test_users"], **shown}
