"""Which prompts are read after which beginning: a beginning that several prompts share is computed once.

All prompts of a call share the words of their form, and those of one user share the profile too. A section holds groups
of prompts. All prompts of a group begin with the same tokens, and all groups of a section share equally many, so that
any rows of a section can be batched together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

MIN_SHARED = 8  # tokens: below this, copying the keys of the prefix costs what it saves
LEAST_SAVING = 0.25  # passes: a section that saves less is not worth the smaller batches that it leads to


@dataclass(frozen=True)
class Section:
    """Prompts by group; all of a group begin with the same `shared` tokens."""

    shared: int
    groups: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> list[int]:
        """The prompts of all groups, one group after the other."""
        return [row for group in self.groups for row in group]

    @property
    def group_of_rows(self) -> list[int]:
        """For each of `rows`, the number of its group."""
        return [number for number, group in enumerate(self.groups) for _ in group]


@dataclass(frozen=True)
class Plan:
    """How a list of prompts is read: every one is in one section."""

    common: int
    """Tokens that all begin with."""
    sections: tuple[Section, ...]


@dataclass
class _Node:
    """Consecutive prompts in order that share `depth` tokens, and the best way to group those seen so far."""

    depth: int
    start: int
    saved: int = 0
    groups: list[tuple[int, int, int]] = field(default_factory=list)
    """(first, behind the last, shared tokens)"""

    def take(self, inner: _Node) -> None:
        self.saved += inner.saved
        self.groups += inner.groups

    def closed(self, end: int, common: int) -> _Node:
        """The node as one group where that saves at least as much as the groups within it, else with these groups."""
        saved = (end - self.start - 1) * (self.depth - common)
        if saved < self.saved:
            return _Node(self.depth, self.start, self.saved, self.groups)
        return _Node(self.depth, self.start, saved, [(self.start, end, self.depth)])


def distinct_rows(prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """The distinct ones of `prompts` in their order, and for each prompt the number of its own among them."""
    number = {key: at for at, key in enumerate(dict.fromkeys(map(tuple, prompts)))}
    return [list(key) for key in number], [number[tuple(prompt)] for prompt in prompts]


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share, at least one token of each left over."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return max(0, min(sum(1 for _ in alike), min(map(len, prompts)) - 1))


def worthwhile_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """`shared_prefix`, or 0 where it is too short, or the prompts too few, to be worth it."""
    shared = shared_prefix(prompts) if len(prompts) > 1 else 0
    return shared if shared >= MIN_SHARED else 0


def plan_apart(count: int) -> Plan:
    """A plan in which nothing is shared."""
    return Plan(0, (Section(0, (tuple(range(count)),)),) if count else ())


def plan_singly(count: int) -> Plan:
    """A plan in which each prompt is read by itself: what comes out depends on nothing else that is asked."""
    return Plan(0, tuple(Section(0, ((row,),)) for row in range(count)))


def plan_shared(prompts: Sequence[Sequence[int]], tokens_per_batch: int) -> Plan:
    """The plan that saves most tokens; the section with the longest prompt comes first.

    At least one token of each prompt is its own. The beginnings of a section stay within the budget.
    """
    common = worthwhile_prefix(prompts)
    order = sorted(range(len(prompts)), key=lambda row: tuple(prompts[row]))
    best = _best_groups([prompts[row] for row in order], common)
    grouped = [(depth, tuple(order[start:end])) for start, end, depth in best.groups]
    least = LEAST_SAVING * tokens_per_batch
    made = [section for section in _of_equal_length(grouped, tokens_per_batch) if _saved(section, common) >= least]
    alone = set(range(len(prompts))).difference(*(section.rows for section in made))
    if alone:
        made.append(Section(common, (tuple(sorted(alone)),)))
    return Plan(common, tuple(sorted(made, key=lambda section: -max(len(prompts[row]) for row in section.rows))))


def _best_groups(ordered: Sequence[Sequence[int]], common: int) -> _Node:
    """The groups that save most tokens beyond `common`; prompts that begin alike may be one group or several.

    One pass goes over the tree of common beginnings, bottom up: either a node is a group, or its children are.
    """
    depths = [_shared(left, right) for left, right in pairwise(ordered)]
    depths = [depth if depth >= common + MIN_SHARED else common for depth in depths]
    path = [_Node(common, 0)]
    for end, depth in enumerate([*depths, common], start=1):
        inner = _Node(depth, end - 1)
        while path[-1].depth > depth:
            node = path.pop()
            node.take(inner)
            inner = node.closed(end, common)
        if path[-1].depth < depth:
            path.append(_Node(depth, inner.start))
        path[-1].take(inner)
    return path[0]


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Common leading tokens, one of each left over."""
    most = min(len(left), len(right)) - 1
    return next((n for n in range(most) if left[n] != right[n]), max(0, most))


def _saved(section: Section, common: int) -> int:
    return sum(len(group) - 1 for group in section.groups) * (section.shared - common)


def _of_equal_length(groups: Sequence[tuple[int, tuple[int, ...]]], most: int) -> Iterator[Section]:
    """Sections of groups of similar depth, as many as `most` tokens hold; each shares what its least group does."""
    waiting: list[tuple[int, ...]] = []
    deepest = shared = 0
    for depth, rows in sorted(groups, reverse=True):
        if waiting and (deepest * (len(waiting) + 1) > most or depth + MIN_SHARED < deepest):
            yield Section(shared, tuple(waiting))
            waiting = []
        deepest = deepest if waiting else depth
        shared = depth
        waiting.append(rows)
    if waiting:
        yield Section(shared, tuple(waiting))
