"""Which validation metric decides on net_g_best.pth, and what is written into it."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hriusr.archs.weights import load_torch_file
from hriusr.checked_file import link_checked, remove_checked
from hriusr.engine.run_state import BestMetrics, RunState
from hriusr.errors import OptionsError, WeightsError
from hriusr.models.sr_model import RestorationModel

logger = logging.getLogger(__name__)

_NAME = "net_g_best.pth"


class ChosenMetric(NamedTuple):
    """Metric that decides."""

    dataset: str
    label: str


def choose_metrics(wanted: str | None, datasets: Iterable[str], labels: Iterable[str]) -> list[ChosenMetric]:
    """Find the metrics that val.best_metric names; the first of them that is measured decides.

    Args:
        wanted: label, or dataset/label; None: any.
        datasets: names of the validation sets, in their order.
        labels: of the metrics, in their order.

    Returns:
        Empty: nothing is measured.

    Raises:
        OptionsError: no such metric.
    """
    known = [ChosenMetric(dataset, label) for dataset in datasets for label in labels]
    if not known:
        return []
    fitting = [metric for metric in known if wanted in (None, metric.label, "/".join(metric))]
    if not fitting:
        raise OptionsError(f"val.best_metric (={wanted!r}) is none of {', '.join(map('/'.join, known))}")
    return fitting


def deciding_metric(state: RunState, metrics: Iterable[ChosenMetric]) -> ChosenMetric | None:
    """Return the first metric that was measured; None: none was, as PSNR of pictures without ground truth."""
    return next((metric for metric in metrics if metric.label in state.best.get(metric.dataset, {})), None)


def is_best_now(state: RunState, metric: ChosenMetric | None) -> bool:
    """Tell whether the validation that just ended is the best so far.

    Args:
        state: with the metrics of this validation in it.
        metric: that decides; None: none does.
    """
    return metric is not None and state.best[metric.dataset][metric.label]["iter"] == state.iteration


def best_weights(model: RestorationModel, state: RunState, metric: ChosenMetric) -> dict[Path, Mapping[str, Any]]:
    """Copy the weights: path of net_g_best.pth -> its content.

    Args:
        model: its options name the folder.
        state: with the metrics of this validation in it, the best so far.
        metric: that decides.
    """
    return {Path(model.opt["path"]["models"], _NAME): model.weights_copy(_metadata(state, metric))}


def best_in_reach(
    state: RunState,
    metrics: Iterable[ChosenMetric],
    models: Path,
    others: Iterable[Path],
    *,
    repeats_until: float,
) -> BestMetrics:
    """Return the best values of a state that a run starts from, if their weights can be had; else none.

    Args:
        state: as read from the checkpoint.
        metrics: those that may decide.
        models: folder of the run; gets the weights, where it has none. Those of another attempt are set aside.
        others: where the run that wrote the state may have them.
        repeats_until: iteration up to which the run does what was done in its folder before, the validations too: best
            weights from then may stay, as they come again.
    """
    own, metric = models / _NAME, deciding_metric(state, metrics)
    wanted = None if metric is None else _metadata(state, metric)
    if own.is_file():
        found = _metadata_in(own)
        if found is not None and (found == wanted or state.iteration <= found["iteration"] <= repeats_until):
            return state.best
        _set_aside(own)
    if wanted is None:
        return {}
    for source in (folder / _NAME for folder in others):
        if source.is_file() and _metadata_in(source) == wanted:
            link_checked(source, own)
            return state.best
    iteration = wanted["iteration"]
    logger.warning(
        "the best weights so far, of iteration %d, are not there: the next ones count as the best", iteration
    )
    return {}


def _metadata(state: RunState, metric: ChosenMetric) -> dict[str, Any]:
    record = state.best[metric.dataset][metric.label]
    told = {"dataset": metric.dataset, "label": metric.label, "value": record["val"], "better": record["better"]}
    return {"iteration": record["iter"], "metric": told}


def _metadata_in(path: Path) -> dict[str, Any] | None:
    """Read what _metadata wrote; None: the file is damaged or not of ours."""
    try:
        metadata = load_torch_file(path).get("metadata")
    except (WeightsError, AttributeError):
        return None
    return metadata if isinstance(metadata, dict) and "iteration" in metadata else None


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.set_aside")
    path.replace(aside)
    remove_checked(path)
    logger.warning("%s is not the best of what this run goes on from and is kept as %s", path, aside.name)
