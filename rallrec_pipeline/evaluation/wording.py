"""The report in words, shared by the HTML page and the console: numbers, order of methods, headline, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallrec_pipeline.evaluation.report import MAIN, REFERENCE

NONE = "–"
_ALPHA = 0.05
Report = Mapping[str, Any]


def ranked(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    """Methods with their figures, best AUC first."""
    return sorted(report["methods"].items(), key=lambda pair: -pair[1]["auc"])


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Fixed decimals with a true minus sign; a dash for None."""
    if value is None:
        return NONE
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def with_error(value: float | None, se: float | None, digits: int = 3, sign: bool = False) -> str:
    """`0.750 ± 0.005`."""
    return f"{number(value, digits, sign)} ± {number(se, digits)}" if se is not None else number(value, digits, sign)


def duration(seconds: float | None) -> str:
    """`0.6 s`, `12 s`, `6 min 43 s`, `2 h 5 min`."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def counted(number: int, noun: str) -> str:
    """`1 variant`, `2,000 variants`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def p_text(p_value: float | None, resamples: int) -> str:
    """`p = 0.034`; below what the resamples can resolve, `p < 0.002`."""
    if p_value is None:
        return f"p {NONE}"
    smallest = 2 / (resamples + 1)
    return f"p < {smallest:.2g}" if p_value < smallest else f"p = {p_value:.2g}"


def headline(report: Report) -> str:
    """One sentence: the best method by AUC and the rows it was measured on."""
    _, best = ranked(report)[0]
    return (
        f"Best by AUC: {best['title']}, {with_error(best['auc'], best['auc_se'])}"
        f" on {report['n_test']:,} test rows of {report['dataset_title']}."
    )


def verdict(report: Report) -> str:
    """Whether the LLM earns its cost: RALLRec against boosted trees on the same rows, with the paired error."""
    pair = report["paired"].get(f"{MAIN} - {REFERENCE}")
    if pair is None:
        return "Whether the LLM earns its cost is open: RALLRec and boosted trees were not both scored."
    auc, loss = pair["auc"], pair["log_loss"]
    answer = {
        1: "The LLM earns its cost in ranking",
        0: "The LLM does not show that it earns its cost: the two cannot be told apart",
        -1: "The LLM does not earn its cost in ranking",
    }[direction(auc)]
    main, reference = (report["methods"][name]["seconds"] for name in (MAIN, REFERENCE))
    cost = (
        f". Scoring took {duration(main)} against {duration(reference)}, without tuning"
        if None not in (main, reference)
        else ""
    )
    return (
        f"{answer}. RALLRec minus boosted trees on the same rows: AUC"
        f" {with_error(auc['difference'], auc['se'], 4, sign=True)} ({p_text(auc['p_value'], report['resamples'])}),"
        f" log loss {with_error(loss['difference'], loss['se'], 4, sign=True)}"
        f" ({p_text(loss['p_value'], report['resamples'])}; lower is better){cost}."
    )


def paper_caveat(report: Report) -> str:
    """Why the papers' figures are no yardstick for this run."""
    title = report["paper"]["title"]
    if title is None:
        return "The papers report no dataset near this one."
    return (
        f"Published for {title}, the LLM methods with Llama-3.1-8B, on the papers' own samples and split. This run is"
        f" on {report['dataset_title']} with its own core, split, samples and model: the figures stand beside each"
        " other for orientation and do not compare method with method."
    )


def paper_main(report: Report) -> Mapping[str, Any] | None:
    """The row of RALLRec in its own paper."""
    rows = report["paper"]["rows"]
    return next((row for row in rows if row["method"] == MAIN and row["paper"] == "rallrec"), None)


def highlighted(report: Report, others: int = 3) -> list[str]:
    """Few methods that a crowded plot can show: RALLRec, boosted trees, and the best `others`, best first."""
    order = [name for name, _ in ranked(report)]
    rest = [name for name in order if name not in (MAIN, REFERENCE)][:others]
    return [name for name in order if name in (MAIN, REFERENCE, *rest)]


def direction(difference: Mapping[str, Any]) -> int:
    """1 or -1 for a difference that is significant at 5%, else 0."""
    p_value = difference["p_value"]
    if p_value is None or p_value >= _ALPHA:
        return 0
    return 1 if difference["difference"] > 0 else -1
