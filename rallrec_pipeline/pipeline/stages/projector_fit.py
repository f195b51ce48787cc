"""The projector as a stage: where its weights lie, and whether a fit may start from them."""

from __future__ import annotations

from rallrec_pipeline.embeddings.alignment import (
    Projector,
    ProjectorResult,
    project,
    train_projector,
)
from rallrec_pipeline.embeddings.weights import Weights, fit_id, write_weights
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.warm_start import Fit, Judge, Vectors, choose, fitting_settings
from rallrec_pipeline.settings import AlignmentSettings

VERSION = "projector 1"  # raise the number when the fit itself changes


def fit_projector(run: StageRun, text: Vectors, collaborative: Vectors, space: str | None, auc: Judge) -> Fit:
    """The projector by its settings; `space` says which axes the `collaborative` vectors have.

    `auc` judges item vectors where a cold and a warm fit are compared.
    """
    settings, report = run.settings.alignment, run.progress("projector epochs")
    path = run.lake / "embeddings" / "aligned" / f"{run.dataset}.projector.safetensors"
    chosen = choose(
        run,
        settings.warm_start,
        path,
        fit_id(VERSION, fitting_settings(settings), run.seeds.fits, text, collaborative),
        lambda found: _as_found(found, text),
        lambda found: _start(found, text, collaborative, settings, space),
        lambda start: train_projector(
            text, collaborative, settings, run.seeds.fits, lambda done, total, _: report(done, total), start
        ),
    )
    result = chosen.result
    history = {"losses": result.losses, "loss": result.loss, "accuracy": result.accuracy}
    write_weights(path, Weights(result.projector.tensors, {**chosen.origin, "space": space, "history": history}))
    metadata = {
        "epochs": len(result.losses),
        "loss_first": result.loss[0],
        "loss_last": result.loss[1],
        "accuracy_first": result.accuracy[0],
        "accuracy_last": result.accuracy[1],
    }
    compared = chosen.comparison("loss", lambda fit: (fit.loss[1], len(fit.losses), auc(fit.vectors)))
    return Fit(result.vectors, [path], metadata | chosen.metadata | compared)


def _as_projector(found: Weights) -> Projector:
    return Projector(dict(found.tensors), found.record["history"]["loss"][1])


def _as_found(found: Weights, text: Vectors) -> ProjectorResult:
    projector = _as_projector(found)
    return ProjectorResult(project(projector, text), projector, **found.record["history"])


def _start(
    found: Weights, text: Vectors, collaborative: Vectors, settings: AlignmentSettings, space: str | None
) -> tuple[Projector, bool]:
    """The earlier projector. Raises StaleArtefactError where it is of another shape or between other spaces."""
    projector, shape = _as_projector(found), (text.shape[1], settings.hidden, collaborative.shape[1])
    if projector.shape != shape:
        raise StaleArtefactError(f"its dimensions {projector.shape} are not those of now, {shape}")
    if space is None or space != found.record["space"]:
        raise StaleArtefactError("the collaborative vectors are of a new fit, or one that had to forget tuning targets")
    return projector, True
