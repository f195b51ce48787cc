"""Beginnings that prompts share are computed once, and no prompt is lost or read behind another's beginning."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.language_models.kernels.sections import MIN_SHARED, Plan, _best_groups, plan_apart, plan_shared

BUDGET = 64
COMMON = [1] * 10

# Few distinct pieces of a length that is worth sharing, so that prompts do begin alike.
pieces = st.integers(2, 4).map(lambda token: [token] * (MIN_SHARED + token))
prompts = st.lists(
    st.tuples(st.lists(pieces, max_size=3), st.lists(st.integers(5, 7), min_size=1, max_size=6)).map(
        lambda parts: [token for piece in parts[0] for token in piece] + parts[1]
    ),
    min_size=1,
    max_size=14,
)


def computed(plan: Plan, asked: Sequence[Sequence[int]]) -> int:
    """Tokens that go through the model."""
    total = plan.common
    for section in plan.sections:
        total += (section.shared - plan.common) * len(section.groups) * (section.shared > plan.common)
        total += sum(len(asked[row]) - section.shared for row in section.rows)
    return total


@given(prompts, st.booleans())
def test_every_prompt_is_read_once_behind_its_own_beginning(asked: list[list[int]], alike: bool) -> None:
    if alike:
        asked = [[*COMMON, *prompt] for prompt in asked]
    plan = plan_shared(asked, BUDGET)
    assert sorted(row for section in plan.sections for row in section.rows) == list(range(len(asked)))
    for section in plan.sections:
        assert section.shared >= plan.common
        assert len(section.groups) == 1 or section.shared * len(section.groups) <= BUDGET
        assert [section.groups[n].count(row) for n, row in zip(section.group_of_rows, section.rows, strict=True)] == [
            1
        ] * len(section.rows)
        for group in section.groups:
            assert len({tuple(asked[row][: section.shared]) for row in group}) == 1
            assert all(len(asked[row]) > section.shared for row in group)
    longest = [max(len(asked[row]) for row in section.rows) for section in plan.sections]
    assert longest == sorted(longest, reverse=True)
    assert computed(plan, asked) <= sum(map(len, asked)) - plan.common * (len(asked) - 1)


def most_saved(rows: list[list[int]], common: int) -> int:
    """The same from the top down: all rows are a group, or those that go on alike are by themselves."""
    most = min(map(len, rows)) - 1
    shared = next((n for n in range(most) if len({tokens[n] for tokens in rows}) > 1), most)
    going_on: dict[int, list[list[int]]] = {}
    for tokens in rows:
        if len(tokens) > shared + 1:
            going_on.setdefault(tokens[shared], []).append(tokens)
    apart = sum(most_saved(alike, common) for alike in going_on.values() if len(alike) > 1)
    together = (len(rows) - 1) * (shared - common) if shared >= common + MIN_SHARED else 0
    return max(together, apart)


@given(prompts, st.booleans())
def test_no_other_groups_save_more(asked: list[list[int]], alike: bool) -> None:
    common = len(COMMON) if alike else 0
    ordered = sorted([*COMMON, *prompt] if alike else prompt for prompt in asked)
    best = _best_groups(ordered, common)
    assert best.saved == most_saved(ordered, common)
    assert best.saved == sum((end - start - 1) * (depth - common) for start, end, depth in best.groups)


def test_groups_of_one_section_are_cut_to_the_least_of_them() -> None:
    depths = (40, 37, 34, 20)
    asked = [[*COMMON, *[user] * (depth - 10), 100 + row] for user, depth in enumerate(depths, 50) for row in range(9)]
    plan = plan_shared(asked, tokens_per_batch=160)
    assert [(section.shared, len(section.groups)) for section in plan.sections] == [(34, 3), (20, 1)]


def test_a_profile_is_shared_by_the_prompts_of_its_user() -> None:
    profiles = [[10 + user] * 20 for user in range(3)]
    asked = [[*COMMON, *profile, 50 + item, item] for item in range(4) for profile in profiles]
    plan = plan_shared(asked, tokens_per_batch=256)
    assert plan.common == 10 and [section.shared for section in plan.sections] == [30]
    assert sorted(plan.sections[0].groups) == [tuple(range(user, 12, 3)) for user in range(3)]
    assert computed(plan, asked) == 10 + 3 * 20 + 12 * 2


def test_few_tokens_in_common_are_not_worth_it() -> None:
    asked = [[*COMMON, *[7] * 80, 1, 2], [*COMMON, *[7] * 80, 3, 4], *([*COMMON, n, *[n] * 90] for n in range(20, 30))]
    for tokens_per_batch, worth in ((320, True), (321, False)):
        shared = [section.shared for section in plan_shared(asked, tokens_per_batch).sections]
        assert sorted(shared) == ([10, 90] if worth else [10])


def test_thousands_of_prompts_within_one_another() -> None:
    asked = [[3] * length for length in range(1, 3001)]
    plan = plan_shared(asked, BUDGET)
    assert sorted(row for section in plan.sections for row in section.rows) == list(range(3000))


def test_nothing_is_shared_without_prompts() -> None:
    assert plan_shared([], BUDGET) == plan_apart(0) == Plan(0, ())
