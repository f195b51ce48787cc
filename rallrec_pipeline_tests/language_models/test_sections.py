"""Beginnings that prompts share are computed once, and no prompt is lost or read behind another's beginning."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.language_models.batching import HELD
from rallrec_pipeline.language_models.sections import MIN_SHARED, Plan, plan_apart, plan_shared

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
        assert len(section.groups) == 1 or section.shared * len(section.groups) <= HELD * BUDGET
        assert [section.groups[n].count(row) for n, row in zip(section.group_of_rows, section.rows, strict=True)] == [
            1
        ] * len(section.rows)
        for group in section.groups:
            assert len({tuple(asked[row][: section.shared]) for row in group}) == 1
            assert all(len(asked[row]) > section.shared for row in group)
    longest = [max(len(asked[row]) for row in section.rows) for section in plan.sections]
    assert longest == sorted(longest, reverse=True)
    assert computed(plan, asked) <= sum(map(len, asked)) - plan.common * (len(asked) - 1)


def fewest(ordered: list[list[int]], common: int) -> int:
    """The most tokens that one level of groups can save, by trying all cuts of the ordered list."""
    best = [0] * (len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        best[end] = best[end - 1]
        for start in range(end - 1):
            group = ordered[start:end]
            most = min(map(len, group)) - 1
            shared = next((n for n in range(most) if len({tokens[n] for tokens in group}) > 1), most)
            if shared >= common + MIN_SHARED:
                best[end] = max(best[end], best[start] + (end - start - 1) * (shared - common))
    return best[-1]


@given(prompts)
def test_the_groups_save_as_much_as_any(asked: list[list[int]]) -> None:
    plan = plan_shared(asked, tokens_per_batch=10**6)
    saved = sum(map(len, asked)) - plan.common * (len(asked) - 1) - computed(plan, asked)
    most = fewest(sorted(asked), plan.common)
    # Groups of a section are cut to the least of them, by less than MIN_SHARED tokens a prompt.
    assert saved <= most <= max(saved, 0.04 * sum(map(len, asked))) + MIN_SHARED * len(asked)


def test_a_profile_is_shared_by_the_prompts_of_its_user() -> None:
    profiles = [[10 + user] * 20 for user in range(3)]
    asked = [[*COMMON, *profile, 50 + item, item] for item in range(4) for profile in profiles]
    plan = plan_shared(asked, tokens_per_batch=1024)
    assert plan.common == 10 and [section.shared for section in plan.sections] == [30]
    assert sorted(plan.sections[0].groups) == [tuple(range(user, 12, 3)) for user in range(3)]
    assert computed(plan, asked) == 10 + 3 * 20 + 12 * 2


def test_few_tokens_in_common_are_not_worth_it() -> None:
    asked = [[*COMMON, *[7] * 8, 1, 2], [*COMMON, *[7] * 8, 3, 4], *([*COMMON, n, *[n] * 90] for n in range(20, 30))]
    plan = plan_shared(asked, tokens_per_batch=1024)
    assert [section.shared for section in plan.sections] == [10] and len(plan.sections[0].groups) == 1


def test_thousands_of_prompts_within_one_another() -> None:
    asked = [[3] * length for length in range(1, 3001)]
    plan = plan_shared(asked, BUDGET)
    assert sorted(row for section in plan.sections for row in section.rows) == list(range(3000))


def test_nothing_is_shared_without_prompts() -> None:
    assert plan_shared([], BUDGET) == plan_apart(0) == Plan(0, ())
