"""The report in words, shared by the HTML page and the console: numbers, order of methods, headline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallrec_pipeline.evaluation.measures.metrics import MEASURES
from rallrec_pipeline.evaluation.measures.significance import ALPHA
from rallrec_pipeline.evaluation.reports.evaluation_report import FALLBACK, MAIN

NONE = "–"
LAID_OVER = "settings laid over it"
"""What is told of a profile that a file of RALLREC_SETTINGS lies over."""
_NAMES = {name: name.upper() for name in ("auc", "uauc", "gauc", "ece")}
_NAMES |= {f"{key}_se": f"{name} ±" for key, name in _NAMES.items()}
Report = Mapping[str, Any]


def ranked(report: Report) -> list[tuple[str, Mapping[str, Any]]]:
    """Methods with their figures, best AUC first; as they are where there is no AUC."""
    return sorted(report["methods"].items(), key=lambda pair: -(pair[1]["auc"] or 0))


def reference_of(report: Report) -> str | None:
    """The method that all others are compared with."""
    told = report.get("reference", FALLBACK)  # a report of an earlier version does not say
    name: str | None = told["method"] if isinstance(told, Mapping) else told
    return name


def stands_out(report: Report, name: str) -> bool:
    """Whether a method is the best by AUC, and told apart from the next best."""
    winner = report.get("best", {}).get("auc")
    return bool(winner and winner["method"] == name and winner["significant"])


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


def holm_text(found: Mapping[str, Any]) -> str:
    """`p = 0.034`, corrected by Holm's method for the other comparisons of its table."""
    return f"p {number(p)}" if (p := found.get("p_holm")) is None else f"p = {number(p)}"


def rows_told(report: Report) -> str:
    """`1,000 test rows of 74 users, 58% liked`."""
    share, users = report["share_liked"], report["users"]["n"]
    whose = "" if users is None else f" of {counted(users, 'user')}"
    return f"{counted(report['n_test'], 'test row')}{whose}" + ("" if share is None else f", {share:.0%} liked")


def undefined_told(report: Report) -> list[str]:
    """Which measures, errors and calibrations are not defined, and why; each once."""
    told = dict[str, list[str]]()
    for figures in report["methods"].values():
        for key, why in figures["not_defined"].items():
            if key.removesuffix("_se") in MEASURES or key == "calibration":
                told.setdefault(why, []).append(measure_title(key))
    return [f"{', '.join(dict.fromkeys(names))}: not defined, because {why}" for why, names in told.items()]


def measure_title(key: str) -> str:
    """`UAUC` of `uauc`, `log loss ±` of `log_loss_se`."""
    return _NAMES.get(key, key.replace("_se", " ±").replace("_", " "))


def headline(report: Report) -> str:
    """One sentence: the best method by AUC and the rows it was measured on."""
    _, best = ranked(report)[0]
    if best["auc"] is None:
        return f"No method has an AUC: {best['not_defined']['auc']}."
    return (
        f"Best by AUC: {best['title']}, {with_error(best['auc'], best['auc_se'])}"
        f" on {report['n_test']:,} test rows of {report['dataset_title']}."
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


def direction(difference: Mapping[str, Any]) -> int:
    """1 or -1 for a difference that is significant at 5%, among all of its table, else 0."""
    p_value = difference.get("p_holm", difference["p_value"])
    if p_value is None or p_value >= ALPHA:
        return 0
    return 1 if difference["difference"] > 0 else -1
