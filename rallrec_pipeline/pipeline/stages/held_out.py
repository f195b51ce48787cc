"""What a method of the LLM says of the candidates of held-out users: so the report ranks by it and asks nothing."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.rescoring import LlmRescoring
from rallrec_pipeline.recommendation.cascade import Answers, rescored
from rallrec_pipeline.recommendation.measures import Held, held_out
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.today import Visits


def held_out_users(run: StageRun, recommender: Recommender) -> tuple[Held, Held]:
    """Users of the validation and of the test split, as the report takes them; `recommender` is that of the core."""
    samples, most = run.read(tables.SAMPLES), run.settings.recommendations.report_users
    valid, test = (held_out(samples, split, recommender.ratings, most) for split in ("valid", "test"))
    return valid, test


def ask_held_out(run: StageRun, asked: LlmRescoring) -> pl.DataFrame:
    """The table `rescored_candidates`: the shortlists of the report's users at their moments, with what is answered."""
    recommender = asked.recommender
    parts = [pl.DataFrame(schema=tables.RESCORED_CANDIDATES.columns)]
    for held in held_out_users(run, recommender):
        for block in held.visits.blocks(len(recommender.catalogue.item_ids)):
            parts.append(_asked_about(held.visits[block], asked))
    return pl.concat(parts).unique(tables.RESCORED_CANDIDATES.key, keep="first", maintain_order=True)


def _asked_about(visits: Visits, asked: LlmRescoring) -> pl.DataFrame:
    recommender, settings = asked.recommender, asked.recommender.settings
    found = recommender.candidates(visits)
    by_expert = recommender.expert(visits, found.items)
    best = rescored(found, by_expert, visits, settings, asked, found.items.shape[1])
    row, column = np.nonzero(best.asked)
    users, items = recommender.ratings.sequences.user_ids, recommender.ratings.sequences.item_ids
    return pl.DataFrame(
        {
            "user_id": pl.Series(users, dtype=pl.String).gather(visits.users[row]),
            "history_length": pl.Series(visits.lengths[row], dtype=pl.Int32),
            "item_id": pl.Series(items, dtype=pl.String).gather(best.items[row, column]),
            "p_yes": best.p_yes[row, column],
        }
    )


def read_answers(run: StageRun, recommender: Recommender) -> Answers | None:
    """What `rescored_candidates` holds, in the codes of `recommender`; None where no method of the LLM is asked."""
    if run.settings.recommendations.method is None or not run.has(tables.RESCORED_CANDIDATES):
        return None
    rows, sequences = run.read(tables.RESCORED_CANDIDATES), recommender.ratings.sequences
    users, items = sequences.user_codes(rows["user_id"]).tolist(), sequences.item_codes(rows["item_id"]).tolist()
    keys = zip(users, rows["history_length"].to_list(), items, strict=True)
    return Answers(dict(zip(keys, rows["p_yes"].to_list(), strict=True)))
