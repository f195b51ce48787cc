"""The command that shows what is recommended to a user."""

from __future__ import annotations

import json as documents
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.terminal import console, say
from rallrec_pipeline.settings import RecommendationSettings, lake_root, load_settings
from rallrec_pipeline.text import clean_text, escaped_json

if TYPE_CHECKING:
    from rallrec_pipeline.pipeline.recommended import Recommended


def recommend(
    dataset: Annotated[str, typer.Argument(help="A dataset.")],
    user_id: Annotated[str, typer.Argument(help="A user of it, as in the raw files.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Items, at most.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
    profile: Profile = None,
) -> None:
    """Print the next items of a user, as the profile has them: P(yes), rated items near."""
    from rallrec_pipeline.pipeline.recommended import as_json, recommended_to
    from rallrec_pipeline.prompts.render import shown_title

    settings = load_settings(profile)
    found = recommended_to(lake_root(), dataset, user_id, settings, n)
    if json:
        typer.echo(escaped_json(documents.dumps(as_json(found), indent=2, ensure_ascii=False)))
        return
    by = ("by",) if found.rows["method"].n_unique() > 1 else ()
    heading = Text(clean_text(f"{dataset} ({found.variant}): user {user_id}, made at {found.made_at}", 200))
    table = Table("rank", "item", "title", "P(yes)", *by, "rated items beside it", title=heading)
    for row in found.rows.iter_rows(named=True):
        why = ", ".join(_rated(found, item) for item in row["because"])
        title = Text(shown_title(found.titles.get(row["item_id"]), 60))
        first = (str(row["rank"]), Text(clean_text(row["item_id"])), title, f"{row['p_yes']:.3f}")
        table.add_row(*first, *([row["method"]] if by else []), Text(why))
    console.print(table)
    if found.rows.height:
        methods = found.rows["method"].unique(maintain_order=True).to_list()
        say(_how(methods, settings.recommendations if found.is_fresh else None))
    for note in found.notes:
        say(note)


def _how(methods: list[str], settings: RecommendationSettings | None) -> str:
    """Whose P(yes) it is, what the rank goes by where the `settings` are known, and what the last column is."""
    ranked = ""
    if settings is not None:
        near = f"the score of `{settings.source}`"
        order = {"p_yes": "P(yes)", "source": near, "both": f"P(yes) times {near}"}[settings.order]
        ranked = f", ranked by {order}"
    return (
        f"P(yes) by {' and '.join(f'`{name}`' for name in methods)}{ranked}; "
        "the last column has what a prompt about the item would show of the user's ratings, liked or not"
    )


def _rated(found: Recommended, item: str) -> str:
    """The title of an item, and what the user gave it."""
    from rallrec_pipeline.prompts.render import rating_text

    rating = f" ({rating_text(found.ratings[item])})" if item in found.ratings else ""
    return clean_text(found.titles.get(item) or item, 40) + rating
