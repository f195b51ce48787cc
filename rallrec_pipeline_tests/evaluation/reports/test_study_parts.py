"""Tables with a reference of their own, figures and claims of a study, against figures worked out here."""

from __future__ import annotations

import pytest

from rallrec_pipeline.evaluation.measures.significance import holm
from rallrec_pipeline.evaluation.pages.study_tables import claims_told, tables_told, winner
from rallrec_pipeline.evaluation.reports.papers import published_rows
from rallrec_pipeline.evaluation.reports.study_parts import StudyParts
from rallrec_pipeline_tests.evaluation.examples import parts, study


def test_a_table_has_its_rows_in_order_with_the_published_figures_where_a_row_names_them() -> None:
    table = study(parts=parts())["tables"]["main"]
    assert [row["row"] for row in table["rows"]] == ["zero_shot_rating", "boosted_trees", "rallrec"]
    assert (table["published_table"], table["published_dataset"]) == ("rallrec_table_1_main", "movielens-1m")
    zero_shot, trees, rallrec = table["rows"]
    paper = published_rows("rallrec_table_1_main")
    for row, key in ((zero_shot, "llama3.1"), (rallrec, "rallrec")):
        assert row["published_as"] == key and list(row["published"].values()) == paper[key]["movielens-1m"]
        assert list(row["published"]) == ["auc", "log_loss", "accuracy"]
    assert trees["published"] is None and trees["published_as"] is None and trees["title"] == "title of boosted_trees"


def test_a_table_is_compared_with_its_own_reference_and_corrected_by_itself() -> None:
    report = study(parts=parts())
    main, own = report["tables"]["main"], report["tables"]["own"]
    assert main["reference"] == report["reference"] == "recent"
    assert all(row["paired"] for row in main["rows"])  # the reference is no row of this table
    assert own["reference"] == "item_mean"
    rows = {row["row"]: row for row in own["rows"]}
    assert rows["item_mean"]["paired"] is None
    for name in ("rallrec", "recent"):
        for measure, found in rows[name]["paired"].items():
            both = (report["methods"][method][measure] for method in (name, "item_mean"))
            assert found["difference"] == pytest.approx(next(both) - next(both))
    for table in (main, own):
        found = [row["paired"]["auc"] for row in table["rows"] if row["paired"]]
        assert [f["p_holm"] for f in found] == pytest.approx(holm([f["p_value"] for f in found]))


@pytest.mark.parametrize(("published", "near"), [("rallrec_table_1_main", None), ("", "movielens-1m")])
def test_nothing_is_published_for_a_dataset_far_from_the_papers_or_a_table_of_no_paper(
    published: str, near: str | None
) -> None:
    main = {**parts().tables["main"], "published": published}
    report = study(parts=StudyParts({"main": main}, paper_dataset=near))
    table = report["tables"]["main"]
    assert table["published_dataset"] is None and [row["published"] for row in table["rows"]] == [None] * 3
    (told,) = tables_told(report)
    assert told["source"] is None
    assert ("no dataset near MovieLens-100K" in (told["caveat"] or "")) is bool(published)


def test_a_figure_has_the_figures_of_its_rows_by_x() -> None:
    report = study(parts=parts())
    figure = report["figures"]["size"]
    assert (figure["title"], figure["x"]) == ("More samples", "samples") and list(figure["lines"]) == ["tuned", "plain"]
    assert [(point["x"], point["row"]) for point in figure["lines"]["tuned"]] == [("64", "recent"), ("256", "rallrec")]
    for line in figure["lines"].values():
        for point in line:
            for key in ("auc", "auc_se", "auc_ci", "uauc", "log_loss"):
                assert point[key] == report["methods"][point["row"]][key]


def test_a_claim_holds_is_refuted_or_is_open_by_its_own_measure() -> None:
    claims = study(parts=parts())["claims"]
    assert [claim["verdict"] for claim in claims] == ["holds", "refuted", "holds", "refuted", "open"]
    for claim in claims:
        found = claim["paired"][claim["by"]]
        assert found["significant"] is (claim["verdict"] != "open")
    loss = claims[2]
    assert loss["by"] == "log_loss" and loss["paired"]["log_loss"]["difference"] < 0  # lower is better
    every = [claim["paired"][claim["by"]] for claim in claims]
    assert [one["p_holm"] for one in every] == pytest.approx(holm([one["p_value"] for one in every]))


def test_a_claim_on_a_measure_that_is_not_defined_is_open_and_says_so() -> None:
    report = study(parts=parts(), one_class=True)
    assert [claim["verdict"] for claim in report["claims"]][:2] == ["open", "open"]
    assert next(claims_told(report))["words"] == "the difference is not defined"


def test_a_table_has_a_winner_only_where_the_best_is_known_to_differ_from_the_next() -> None:
    report = study(parts=parts())
    table = report["tables"]["own"]  # rallrec, recent, item_mean, compared with item_mean
    report["best"]["auc"] |= {"method": "rallrec", "significant": False}
    assert winner(report, table) is None
    report["best"]["auc"]["significant"] = True
    assert winner(report, table) == "rallrec"
    report["best"]["auc"]["significant"] = False
    two = table | {"rows": [row for row in table["rows"] if row["row"] != "recent"]}
    assert winner(report, two) == "rallrec"  # the next is the reference
    next(row for row in two["rows"] if row["row"] == "rallrec")["paired"]["auc"]["p_holm"] = 0.2
    assert winner(report, two) is None
    report["methods"]["rallrec"]["auc"] = None
    assert winner(report, two) is None


def test_no_parts_are_none() -> None:
    report = study()
    assert report["tables"] == report["figures"] == {} and report["claims"] == []
