"""Asset checks: what must hold of the lake, proven from the files and not from the code that wrote them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from rallrec_pipeline.datasets.histories import LIKED_BOUNDS, evaluated
from rallrec_pipeline.datasets.order import exact_times
from rallrec_pipeline.datasets.spec import Statistic
from rallrec_pipeline.datasets.tables import bad_ratings, refused_ratings
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.inference.methods import ADAPTERS
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.provenance import read_sidecar
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.orchestration.assets.embeddings import read_vectors
from rallrec_pipeline.orchestration.assets.engine import tuning_model_version
from rallrec_pipeline.orchestration.assets.model import checkpoint
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.orchestration.run import StageRun
from rallrec_pipeline.retrieval.index import (
    MIN_RECALL,
    RECALL_AT,
    max_disagreement_with_brute_force,
    read_index,
    recall,
    sampled_rows,
)
from rallrec_pipeline.retrieval.inverted_lists import has_lists

INDEX_TOLERANCE = 1e-4
EMBEDDINGS = ("title", "description", "text", "collaborative", "aligned", "item")


@dataclass(frozen=True)
class Verdict:
    """Whether a check holds, and the figures it rests on."""

    passed: bool
    figures: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One check of one asset; a blocking one holds back everything downstream."""

    asset: str
    name: str
    description: str
    judge: Callable[[StageRun], Verdict]
    blocking: bool = True
    also_reads: tuple[str, ...] = ()


def few_rejected_rows(run: StageRun) -> Verdict:
    """The dataset's own bound on the share of raw ratings that were refused."""
    reasons, kept = refused_ratings(run.read(tables.REJECTED_ROWS)), run.read(tables.INTERACTIONS).height
    bad = bad_ratings(reasons, run.spec.is_implicit)
    share, bound = bad / max(1, reasons.len() + kept), run.spec.max_rejected
    return Verdict(share <= bound, {"rejected": reasons.len(), "counted": bad, "share": share, "bound": bound})


def k_core_holds(run: StageRun) -> Verdict:
    """Ratings of each user and item lie within the protocol's bounds."""
    core, rules = run.read(tables.CORE_INTERACTIONS), run.spec.protocol
    # An item limit that cuts after the fixed point, as the published code does, leaves users with fewer.
    cut_after = rules.item_limit is not None and not rules.item_limit_first
    users = _within(core, "user_id", 1 if cut_after else rules.user_core, rules.user_cap)
    items = _within(core, "item_id", rules.item_core, rules.item_cap)
    return Verdict(users["holds"] and items["holds"], {"users": users, "items": items})


def splits_follow_time(run: StageRun) -> Verdict:
    """No training sample is later than a validation sample, none of those later than a test sample.

    Where the protocol splits users: no user is in two splits, none has two targets, and (in a source with times) none
    has rated anything of the core after the target.
    """
    samples = run.read(tables.SAMPLES)
    if run.spec.protocol.split == "user":
        splits = samples.group_by("user_id").agg(pl.col("split").n_unique(), pl.col("history_length").n_unique())
        torn = splits.filter((pl.col("split") > 1) | (pl.col("history_length") > 1)).height
        late = _targets_before_others(run, samples)
        figures = {"users": splits.height, "users_in_two_splits": torn, "targets_before_others": late}
        return Verdict(torn == 0 and late == 0, figures)
    spans = {
        split: (low, high)
        for split, low, high in samples.group_by("split")
        .agg(pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"))
        .iter_rows()
    }
    ordered = [spans[split] for split in ("train", "valid", "test") if split in spans]
    holds = all(earlier[1] <= later[0] for earlier, later in pairwise(ordered))
    return Verdict(holds and "train" in spans and "test" in spans, {k: list(v) for k, v in spans.items()})


def fitted_on_training_only(run: StageRun) -> Verdict:
    """The interactions that LightGCN was given hold no held-out one and nothing later than the first of them."""
    fitted, samples = run.read(tables.FITTED_INTERACTIONS), run.read(tables.SAMPLES)
    held_out = samples.filter(pl.col("split") != "train")
    leaked = fitted.join(held_out, on=["user_id", "item_id"], how="semi").height
    first = held_out["timestamp"].min()
    late = 0 if first is None else fitted.filter(pl.col("timestamp") > first).height
    figures = {"fitted": fitted.height, "held_out": held_out.height, "leaked": leaked, "too_late": late}
    return Verdict(fitted.height > 0 and leaked == 0 and late == 0, figures)


def labels_balanced(run: StageRun) -> Verdict:
    """Each split has samples, liked ones and others; of the test split those count that the protocol evaluates."""
    samples = evaluated(run.read(tables.SAMPLES), run.spec.protocol)
    shares = dict(samples.group_by("split").agg(pl.col("label").mean()).iter_rows())
    low, high = LIKED_BOUNDS
    return Verdict(set(shares) >= {"train", "valid", "test"} and all(low <= v <= high for v in shares.values()), shares)


def paper_statistics(run: StageRun) -> Verdict:
    """The figures that the protocol expects of the full official files; of a subset nothing is compared.

    They must be equal, or differ by no more than the protocol's `tolerance`; each is told beside what was found.
    """
    expected = dict(run.spec.protocol.expected)
    if not expected:
        return Verdict(True, {"note": "this protocol expects no figures: nothing was compared"})
    full = expected.pop("raw_interactions", None)
    raw = run.read(tables.INTERACTIONS).height + refused_ratings(run.read(tables.REJECTED_ROWS)).len()
    if full is None:
        return Verdict(True, {"note": "without an expected `raw_interactions` a subset may be present: not compared"})
    if raw != full:
        return Verdict(True, {"note": f"a subset ({raw:,} of {full:,} ratings) is present: nothing was compared"})
    found, tolerance = _statistics(run), run.spec.protocol.tolerance
    compared = {name: {"found": found[name], "expected": value} for name, value in sorted(expected.items())}
    different = [
        name for name, pair in compared.items() if abs(pair["found"] - pair["expected"]) > tolerance * pair["expected"]
    ]
    figures = {"raw_interactions": raw, "tolerance": tolerance, "compared": compared, "different": different}
    return Verdict(not different, figures)


def tuning_rows_are_training_rows(run: StageRun) -> Verdict:
    """No tuning prompt asks about, or shows, a validation or test interaction."""
    prompts = run.read(tables.prompts_table("tuning"))
    splits = run.read(tables.SAMPLES).select("sample_id", "split")
    true_split = prompts.select("sample_id").join(splits, on="sample_id", how="left")["split"]
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "train")
    held_out = run.read(tables.SAMPLES).filter(pl.col("split") != "train").select("user_id", "item_id")
    shown = pl.concat(
        [
            histories.select("user_id", pl.col(column).alias("item_id")).explode("item_id").drop_nulls()
            for column in ("recent", "relevant", "reranked")
        ]
    )
    leaked = shown.join(held_out, on=["user_id", "item_id"], how="semi").height
    wrong = int((true_split != "train").sum())
    return Verdict(wrong == 0 and leaked == 0, {"wrong_split": wrong, "leaked_history_items": leaked})


def finite_vectors(kind: str) -> Callable[[StageRun], Verdict]:
    """Every kept item has one finite vector of one size."""

    def judge(run: StageRun) -> Verdict:
        table, items = run.read(tables.embeddings_table(kind)), run.read(tables.CORE_ITEMS)
        vectors = vectors_of(table)
        same_items = sorted(table["item_id"]) == sorted(items["item_id"])
        zero = int((np.abs(vectors).max(axis=1) == 0).sum()) if vectors.size else 0
        figures = {"rows": len(vectors), "dimensions": int(vectors.shape[1]), "zero_vectors": zero}
        return Verdict(same_items and bool(np.isfinite(vectors).all()) and len(vectors) > 0, figures)

    return judge


def every_item_described(run: StageRun) -> Verdict:
    described = run.read(tables.ITEM_DESCRIPTIONS)
    words = described["description"].str.split(" ").list.len()
    items = run.read(tables.CORE_ITEMS)
    missing = items.join(described, on="item_id", how="anti").height
    empty = int((described["description"].str.strip_chars() == "").sum())
    written = described.filter(pl.col("status") != "template")["description"].str.split(" ").list.len()
    longest = int(written.max() or 0)  # type: ignore[arg-type]
    limit = run.settings.descriptions.max_words
    share = described.filter(pl.col("status") == "template").height / max(1, described.height)
    passed = missing == 0 and empty == 0 and longest <= limit
    return Verdict(passed, {"missing": missing, "longest": longest, "template_share": share, "words": words.mean()})


def index_equals_brute_force(run: StageRun) -> Verdict:
    """A flat index gives the best inner products; an approximate one finds MIN_RECALL of the nearest items."""
    index, item_ids = read_index(run.lake / "index" / f"{run.dataset}.faiss")
    vectors = read_vectors(run, "item")
    rows = sampled_rows(len(vectors), run.seed)
    same_items = item_ids == run.read(tables.CORE_ITEMS)["item_id"].to_list()
    figures: dict[str, Any] = {"same_items": same_items, "queries": len(rows)}
    if has_lists(index):
        found = recall(index, vectors, rows)
        figures |= {"kind": "ivf", f"recall_at_{RECALL_AT}": found, "bound": MIN_RECALL}
        figures |= {"lists": index.nlist, "probes": index.nprobe}
        return Verdict(same_items and found >= MIN_RECALL, figures)
    worst = max_disagreement_with_brute_force(index, vectors, vectors[rows], RECALL_AT)
    return Verdict(same_items and worst <= INDEX_TOLERANCE, figures | {"kind": "flat", "largest_difference": worst})


def prompts_fit_context(split: str) -> Callable[[StageRun], Verdict]:
    """Every prompt, in tokens of the base model, leaves room for the chat template and the answer."""

    def judge(run: StageRun) -> Verdict:
        from tokenizers import Tokenizer  # a second faster to load than transformers

        folder = model_folder(run.lake, run.settings.model)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        room = int(read_json(folder / "config.json")["max_position_embeddings"]) - 128
        prompts = run.read(tables.prompts_table(split))["prompt"].to_list()
        longest = max((len(e.ids) for e in tokenizer.encode_batch(prompts)), default=0)
        return Verdict(longest <= room, {"longest": longest, "room": room, "prompts": len(prompts)})

    return judge


def adapter_is_whole(run: StageRun) -> Verdict:
    """Each adapter has its weights as safetensors and a provenance that names the current base model."""
    validation_auc, bad = {}, []
    for adapter in ADAPTERS:
        folder = checkpoint(run, adapter)
        provenance = read_json(folder / "provenance.json")
        validation_auc[adapter] = max(epoch["validation_auc"] for epoch in provenance["tuning"]["epochs"])
        current = provenance["base_model"]["fingerprint"] == tuning_model_version(run)
        if not current or not (folder / "adapter_model.safetensors").exists():
            bad.append(adapter)
    return Verdict(not bad, {"validation_auc": validation_auc, "bad": bad})


def probabilities_valid(run: StageRun) -> Verdict:
    """All methods scored the same test rows, with finite probabilities."""
    wanted = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "test")["sample_id"].sort().to_list()
    methods = list(_recorded(run, "predictions")["seconds"])
    bad = []
    for method in methods:
        rows = run.read(tables.predictions_table(method)).filter(pl.col("split") == "test")
        inside = rows.filter(pl.col("p_yes").is_between(0, 1)).height == rows.height
        if rows["sample_id"].sort().to_list() != wanted or not inside:
            bad.append(method)
    return Verdict(not bad, {"methods": len(methods), "bad": bad, "rows": len(wanted)})


CHECKS: tuple[Check, ...] = (
    Check(
        "interactions",
        "few_rejected_rows",
        "No more raw ratings are refused than the dataset allows.",
        few_rejected_rows,
        also_reads=("rejected_rows",),
    ),
    Check("core_interactions", "k_core_holds", "Every user and item has enough ratings, none too many.", k_core_holds),
    Check("samples", "labels_balanced", "Between 10% and 90% of each split is liked.", labels_balanced),
    Check(
        "samples",
        "splits_follow_time",
        "Train, valid and test follow one another in time; split by user, each one's target is the last rating.",
        splits_follow_time,
        also_reads=("interactions", "core_interactions"),
    ),
    Check(
        "samples",
        "paper_statistics",
        "Of the full official files: the published numbers of users, items and samples.",
        paper_statistics,
        blocking=False,
        also_reads=("interactions", "rejected_rows", "core_interactions"),
    ),
    Check("item_descriptions", "every_item_described", "Each item has a text within bounds.", every_item_described),
    *(
        Check(f"{kind}_embeddings", f"finite_{kind}_vectors", "One finite vector per item.", finite_vectors(kind))
        for kind in EMBEDDINGS
    ),
    Check(
        "collaborative_embeddings",
        "fitted_on_training_only",
        "LightGCN saw no held-out rating.",
        fitted_on_training_only,
    ),
    Check("item_index", "index_equals_brute_force", "FAISS finds what brute force finds.", index_equals_brute_force),
    Check("tuning_prompts", "tuning_prompts_fit", "Prompts fit the model's context.", prompts_fit_context("tuning")),
    Check(
        "tuning_prompts", "tuned_on_training_only", "No held-out interaction in tuning.", tuning_rows_are_training_rows
    ),
    Check(
        "evaluation_prompts",
        "evaluation_prompts_fit",
        "Prompts fit the model's context.",
        prompts_fit_context("evaluation"),
    ),
    Check("lora_adapter", "adapter_is_whole", "Weights and provenance are there.", adapter_is_whole),
    Check("predictions", "probabilities_valid", "Same rows for all methods, finite.", probabilities_valid),
)


def build_checks(partitions: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks as Dagster asset checks, partitioned like their assets."""
    with warnings.catch_warnings():  # partitioned checks are a preview, relied on knowingly: Dagster is pinned
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")
        return [_asset_check(check, partitions) for check in CHECKS]


def _asset_check(check: Check, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.asset,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        additional_deps=list(check.also_reads),
        partitions_def=partitions,
    )
    def evaluate(context: dg.AssetCheckExecutionContext, project: Project) -> dg.AssetCheckResult:
        try:
            verdict = check.judge(stage_run(context, project, context.partition_key))
        except RallrecError as error:
            return dg.AssetCheckResult(passed=False, metadata={"error": str(error)})
        return dg.AssetCheckResult(passed=verdict.passed, metadata={k: _shown(v) for k, v in verdict.figures.items()})

    return evaluate


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value


def _statistics(run: StageRun) -> dict[Statistic, int]:
    """The figures that a protocol may expect, counted in the tables."""
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    splits = dict(samples["split"].value_counts().iter_rows())
    return {
        "interactions": core.height,
        "users": core["user_id"].n_unique(),
        "items": core["item_id"].n_unique(),
        "samples": samples.height,
        "sample_users": samples["user_id"].n_unique(),
        "sample_items": samples["item_id"].n_unique(),
        "train": splits.get("train", 0),
        "valid": splits.get("valid", 0),
        "test": splits.get("test", 0),
    }


def _within(core: pl.DataFrame, key: str, least: int, most: int | None) -> dict[str, Any]:
    """Fewest and most ratings of a user or item, the bounds, and whether they hold."""
    counts = core[key].value_counts()["count"].to_list()
    fewest, largest = min(counts, default=0), max(counts, default=0)
    holds = least <= fewest and (most is None or largest <= most)
    return {"fewest": fewest, "most": largest, "at_least": least, "at_most": most, "holds": holds}


def _targets_before_others(run: StageRun, samples: pl.DataFrame) -> int:
    """Targets that are older than another core rating of their user; without times none."""
    pair = ["user_id", "item_id"]
    rated = run.read(tables.INTERACTIONS)
    times = rated.select(*pair, exact_times(rated).alias("time"))
    core = run.read(tables.CORE_INTERACTIONS).select(pair).join(times, on=pair)
    last = core.group_by("user_id").agg(pl.col("time").max().alias("last"))
    targets = samples.select(pair).join(core, on=pair).join(last, on="user_id")  # sampled negatives have no time
    return targets.filter(pl.col("time") < pl.col("last")).height


def _recorded(run: StageRun, artefact: str) -> dict[str, Any]:
    record = read_sidecar(run.lake, artefact, run.dataset)
    return dict(record.metadata) if record else {}
