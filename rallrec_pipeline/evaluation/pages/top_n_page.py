"""The report on recommendations as one self-contained HTML page, as a table of CSV, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.evaluation.pages.csv_tables import written
from rallrec_pipeline.evaluation.pages.markdown import table
from rallrec_pipeline.evaluation.pages.page import render
from rallrec_pipeline.evaluation.plots.canvas import BLUE, GRID, INK, OTHER, WIDTH, canvas, plain, png, svg
from rallrec_pipeline.evaluation.reports.wording import counted, number, with_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
CAPTION = "NDCG@10 of every method with its 95% interval, over the same test users"
MEASURES = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "popularity_lift": "Popularity lift",
    "novelty": "Novelty (bits)",
}
DEPTHS = (5, 10, 20)


def render_top_n_page(report: Report) -> str:
    """The page of a report from `build_top_n`."""
    return render(
        "recommendations.html.j2",
        {CAPTION: svg(_picture(report))},
        report["provenance"],
        title=f"{report['dataset_title']}: recommendations",
        facts=_facts(report),
        lead=list(lead(report)),
        report=report,
        order=ordered(report),
        finds_cold=any(one["cold_items"][f"recall_at_{DEPTHS[-1]}"]["value"] for one in report["methods"].values()),
        depths=DEPTHS,
        measures=MEASURES,
    )


def top_n_png(report: Report) -> bytes:
    """The picture for Dagster's UI."""
    return png(_picture(report), dpi=100)


def lead(report: Report) -> Iterator[str]:
    """What the report says, in a few sentences."""
    name = report["chosen"]
    one = report["methods"][name]
    if one["test"]["ndcg_at_10"]["value"] is None:
        yield "Nothing is measured, because no test user liked an item that he had not rated before."
        return
    figures = {m: with_error(one["test"][m]["value"], one["test"][m]["se"]) for m in ("ndcg_at_10", "recall_at_10")}
    yield (
        f"Chosen on validation users is {one['title']}: NDCG@10 {figures['ndcg_at_10']} and recall@10"
        f" {figures['recall_at_10']} over {counted(report['test_users'], 'test user')} (± over users)."
    )
    others = [found["ndcg_at_10"] for found in report["against_chosen"].values()]
    differences = [one["difference"] for one in others if one["significant"]]
    better = sum(difference > 0 for difference in differences)
    yield (
        f"Of {counted(len(others), 'other')} it is better by NDCG@10 than {better} and worse than"
        f" {len(differences) - better}, told apart at 5% after Holm's correction."
    )
    for asked, found in report["pairs"].items():
        told = found["ndcg_at_10"]
        change = f"{number(told['difference'], sign=True)} ± {number(told['se'])}"
        apart = "" if told["significant"] else ", which is not told apart from none"
        yield f"{report['methods'][asked]['title']}: asking the LLM changes NDCG@10 by {change}{apart}."
    yield f"Who competes: {report['candidates']}."


def ordered(report: Report) -> list[str]:
    """Methods, the best NDCG@10 of the test users first."""
    return sorted(report["methods"], key=lambda name: -(report["methods"][name]["test"]["ndcg_at_10"]["value"] or 0))


def summary(report: Report) -> str:
    """A Markdown table for the UI."""
    rows = []
    for name in ordered(report):
        one = report["methods"][name]
        errors = [with_error(one["test"][m]["value"], one["test"][m]["se"], 4) for m in ("recall_at_10", "ndcg_at_10")]
        rest = [number(one["coverage"]["coverage_at_10"]), number(one["test"]["popularity_lift_at_10"]["value"], 2)]
        rows.append([name, *errors, *rest])
    return "\n".join(table(["method", "recall@10", "NDCG@10", "coverage@10", "popularity lift@10"], rows, figures=True))


def top_n_csv(report: Report) -> str:
    """A line a method and part (validation, test, cold users, cold items), a column a figure."""
    names = [f"{measure}_at_{k}" for measure in MEASURES for k in DEPTHS]
    columns = [column for name in names for column in (name, f"{name}_se", f"{name}_low", f"{name}_high")]
    header = [
        "method",
        "title",
        "part",
        "users",
        *columns,
        *(f"coverage_at_{k}" for k in DEPTHS),
        "seconds_per_million",
    ]
    return written(header, _lines(report))


def _lines(report: Report) -> Iterator[dict[str, Any]]:
    for name, one in report["methods"].items():
        about = {"method": name, "title": one["title"], "seconds_per_million": one["seconds_per_million"]}
        yield about | {"part": "valid", **one["valid"]}
        for part in ("test", "cold_users", "cold_items"):
            line: dict[str, Any] = about | {"part": part, "users": one[part]["ndcg_at_10"]["users"]}
            for measure, told in one[part].items():
                low, high = told["ci"]
                line |= {measure: told["value"], f"{measure}_se": told["se"]}
                line |= {f"{measure}_low": low, f"{measure}_high": high}
            yield line | (dict(one["coverage"]) if part == "test" else {})


def _facts(report: Report) -> list[str]:
    return [
        f"dataset {report['dataset']}",
        f"profile {report['profile']}",
        counted(report["items"], "item"),
        f"{report['valid_users']:,} validation and {report['test_users']:,} test users with something liked",
        f"in force: {report['in_force']}",
    ]


def _picture(report: Report) -> Figure:
    names = ordered(report)[::-1]
    figure, axes = canvas(WIDTH, 0.8 + 0.5 * len(names))
    across = axes.get_yaxis_transform()  # places as a share of the width, and in rows
    for row, name in enumerate(names):
        axes.text(0, row + 0.22, plain(report["methods"][name]["title"]), fontsize=9, color=INK, transform=across)
        told = report["methods"][name]["test"]["ndcg_at_10"]
        if told["value"] is None:
            continue
        colour = BLUE if name == report["chosen"] else OTHER
        if told["ci"][0] is not None:
            axes.plot(told["ci"], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([told["value"]], [row], color=colour, marker="o", markersize=6)
    axes.set_yticks([])  # a title stands above its dot, so that a phone shows the plot at full width
    axes.set(xlabel="NDCG@10", ylim=(-0.6, len(names) - 0.2))
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure
