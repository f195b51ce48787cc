"""The experts on made-up worlds: they learn, and none looks at what it must not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.expert_features import Describer
from rallrec_pipeline.baselines.experts import EXPERTS, GROUPS, Predicted, predict_experts
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.metrics import evaluate
from rallrec_pipeline.settings import ExpertSettings
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, World, world

SETTINGS = ExpertSettings(trees=2)


def predicted(made: World, split: str = "test") -> dict[str, Predicted]:
    return predict_experts(made.evidence, made.places(split), LIKE_ABOVE, SETTINGS, seed=0)


def all_features(made: World, places: np.ndarray) -> dict[str, np.ndarray]:
    """Features of samples after the whole training split."""
    log = RatingLog.of(made.core, made.samples, made.item_ids)
    describer = Describer(log, made.vectors, LIKE_ABOVE, seed=0)
    seen = log.whole_training()
    return {name: v for group in GROUPS for name, v in describer.features(group, seen, log.rows[places]).items()}


def out_of_time(made: World) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(places, features) of the training rows that experts are fitted on."""
    log = RatingLog.of(made.core, made.samples, made.item_ids)
    describer = Describer(log, made.vectors, LIKE_ABOVE, seed=0)
    (fold,) = log.folds(0, 10**6)
    found = {n: v for group in GROUPS for n, v in describer.features(group, fold.seen, log.rows[fold.rows]).items()}
    return fold.rows, found


def rerated(made: World, which: pl.Expr) -> World:
    """The world in which the ratings of some rows of the core, numbered by `row`, are turned round."""
    turned = pl.when(which).then(6 - pl.col("rating")).otherwise(pl.col("rating"))
    core = made.core.with_row_index("row").with_columns(turned.cast(pl.Float32).alias("rating")).drop("row")
    return made.with_core(core)


def place_in_core(made: World, sample: int) -> int:
    row = made.samples.row(sample, named=True)
    same = (pl.col("user_id") == row["user_id"]) & (pl.col("item_id") == row["item_id"])
    return int(made.core.with_row_index("row").filter(same)["row"][0])


def test_every_expert_gives_each_row_a_probability_and_beats_chance() -> None:
    made = world(users=80, each=20)
    found = predicted(made)
    labels = made.samples[made.places("test")]["label"].to_numpy()
    assert list(found) == list(EXPERTS)
    for name, one in found.items():
        assert one.p_yes.shape == labels.shape and ((one.p_yes > 0) & (one.p_yes < 1)).all(), name
        assert one.seconds >= 0 and one.training_rows > 0
        if name != "prompt_logistic":  # the last ratings do not tell of which kind they are of
            assert evaluate(labels, one.p_yes).auc > 0.85, name


def test_nothing_later_than_a_row_changes_its_features() -> None:
    """The leak test: the row's own rating, its user's later ones and all of validation and test are turned round."""
    made = world()
    places = made.places("valid")[::7]
    before = all_features(made, places)
    for number, sample in enumerate(places):
        own = rerated(made, pl.col("row") >= place_in_core(made, int(sample)))
        after = all_features(own, places[[number]])
        for name, values in before.items():
            assert after[name][0] == pytest.approx(values[number], abs=1e-5), name


def test_earlier_ratings_of_a_user_do_change_them() -> None:
    made = world()
    place = made.places("test")[-1:]
    user = made.samples[int(place[0])]["user_id"][0]
    earlier = (pl.col("user_id") == user) & (pl.col("row") < place_in_core(made, int(place[0])))
    first, second = (all_features(one, place) for one in (made, rerated(made, earlier)))
    changed = {name for name in first if first[name][0] != pytest.approx(second[name][0], abs=1e-4)}
    assert {"user_mean", "factorisation", "co_rating_5", "text_40", "last_3"} <= changed


def test_rows_to_fit_on_are_described_by_a_fit_that_ends_before_the_first_of_them() -> None:
    made = world()
    rows, before = out_of_time(made)
    assert len(rows) == pytest.approx(0.4 * len(made.places("train")), abs=1)
    late = made.core.with_row_index("row")["row"] >= place_in_core(made, int(rows[0]))
    others = made.samples[rows]["user_id"][-1]
    turned = rerated(made, late & (pl.col("user_id") != others))
    mine = (made.samples[rows]["user_id"] == others).to_numpy()
    for name, values in out_of_time(turned)[1].items():
        assert values[mine] == pytest.approx(before[name][mine], abs=1e-5), name


def test_answers_of_validation_and_test_rows_change_no_prediction() -> None:
    made = world()
    held = pl.col("split") != "train"
    samples = made.samples.with_columns(
        label=pl.when(held).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.Int8),
        rating=pl.when(held).then(6 - pl.col("rating")).otherwise(pl.col("rating")),
    )
    first, second = (predicted(World(made.core, s, made.item_ids, made.vectors)) for s in (made.samples, samples))
    for name in EXPERTS:
        if name != "lightgcn":  # here it was fitted on all training ratings, so validation rows make its curve
            np.testing.assert_array_equal(first[name].p_yes, second[name].p_yes)


def test_lightgcn_is_judged_by_training_rows_that_it_was_not_fitted_on() -> None:
    made = world(users=80, each=20)
    spared = made.samples.filter(pl.col("split") == "train")[:150]
    evidence = made.evidence
    fitted = evidence.fitted.join(spared, on=["user_id", "item_id"], how="anti")
    places = made.places("test")
    found = predict_experts(
        type(evidence)(**(vars(evidence) | {"fitted": fitted})), places, LIKE_ABOVE, SETTINGS, seed=0
    )
    assert found["lightgcn"].training_rows == 150
    assert predicted(made)["lightgcn"].training_rows == len(made.places("valid"))


def test_the_order_of_the_rows_that_are_asked_for_does_not_matter() -> None:
    made = world()
    places = made.places("test")
    order = np.random.default_rng(0).permutation(len(places))
    first = predict_experts(made.evidence, places, LIKE_ABOVE, SETTINGS, seed=0)
    second = predict_experts(made.evidence, places[order], LIKE_ABOVE, SETTINGS, seed=0)
    for name in EXPERTS:
        assert first[name].p_yes[order] == pytest.approx(second[name].p_yes, abs=1e-5), name


def test_same_seed_same_predictions() -> None:
    first, second = (predicted(world()) for _ in range(2))
    for name in EXPERTS:
        np.testing.assert_array_equal(first[name].p_yes, second[name].p_yes)


@pytest.mark.parametrize("implicit", [False, True])
def test_where_users_are_split_each_target_is_foretold_without_itself(implicit: bool) -> None:
    made = world(users=60, split="user", implicit=implicit)
    log = RatingLog.of(made.core, made.samples, made.item_ids)
    folds = log.folds(0, 10**6)
    assert sorted(np.concatenate([fold.rows for fold in folds])) == list(made.places("train"))
    for fold in folds:
        seen = set(zip(fold.seen.ratings.users.tolist(), fold.seen.ratings.items.tolist(), strict=True))
        judged = set(zip(fold.seen.judged.users.tolist(), fold.seen.judged.items.tolist(), strict=True))
        held = log.rows[np.concatenate([fold.rows, made.places("valid"), made.places("test")])]
        targets = set(zip(held.users.tolist(), held.targets.tolist(), strict=True))
        assert seen and not targets & (seen | judged)
    for name, one in predicted(made).items():
        assert np.isfinite(one.p_yes).all(), name


def test_implicit_feedback_is_judged_by_sampled_negatives() -> None:
    made = world(users=80, each=8, implicit=True)
    found = predicted(made)
    labels = made.samples[made.places("test")]["label"].to_numpy()
    for name in ("text_trees", "expert_trees", "item_knn"):
        assert evaluate(labels, found[name].p_yes).auc > 0.6, name


@pytest.mark.parametrize(("users", "items", "each"), [(1, 20, 20), (4, 6, 5), (20, 4, 4)])
def test_a_handful_of_ratings_is_enough(users: int, items: int, each: int) -> None:
    made = world(users=users, items=items, each=each)
    found = predicted(made)
    for name, one in found.items():
        assert np.isfinite(one.p_yes).all() and len(one.p_yes) == len(made.places("test")) > 0, name


def test_late_rows_of_one_class_give_way_to_all_rows() -> None:
    made = world(users=4, items=20, each=20)
    place = int(0.6 * len(made.places("train")))
    late = (pl.int_range(pl.len()) >= place) & (pl.col("split") == "train")
    samples = made.samples.with_columns(label=pl.when(late).then(1).otherwise(pl.col("label")).cast(pl.Int8))
    log = RatingLog.of(made.core, samples, made.item_ids)
    (fold,) = log.folds(0, 10**6)
    assert list(fold.rows) == list(made.places("train"))
    assert len(fold.seen.ratings) == place_in_core(made, 0)


def test_training_samples_of_one_class_are_refused() -> None:
    made = world()
    alike = World(made.core, made.samples.with_columns(label=pl.lit(1, pl.Int8)), made.item_ids, made.vectors)
    with pytest.raises(DataError, match="one class"):
        predicted(alike)
