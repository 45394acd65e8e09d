"""Measure one picture against its ground truth with the metrics an option file names."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hriusr.basicsr_bridge import METRIC_REGISTRY, calculate_metric, register_package
from hriusr.errors import DataError, OptionsError

MetricOptions = dict[str, dict[str, Any]]


def check_metrics(metrics_opt: Mapping[str, Mapping[str, Any]] | None) -> MetricOptions:
    """Copy val.metrics, after a look at the names.

    Raises:
        OptionsError: a metric that is not registered.
    """
    register_package()
    for label, metric_opt in (metrics_opt or {}).items():
        if metric_opt.get("type") not in METRIC_REGISTRY:
            known = ", ".join(sorted(METRIC_REGISTRY.keys()))
            raise OptionsError(f"val.metrics.{label}.type: unknown metric {metric_opt.get('type')!r}; one of {known}")
    return {label: dict(metric_opt) for label, metric_opt in (metrics_opt or {}).items()}


def default_metrics(scale: int) -> MetricOptions:
    """Return PSNR and SSIM with the border that papers cut off: the scale, none where nothing is enlarged."""
    border = scale if scale > 1 else 0
    return {
        "psnr": {"type": "calculate_psnr", "crop_border": border},
        "ssim": {"type": "calculate_ssim", "crop_border": border},
    }


def with_both_colours(metrics_opt: Mapping[str, Mapping[str, Any]]) -> MetricOptions:
    """Measure Y and RGB, whichever the options name: psnr becomes psnr_y and psnr_rgb.

    Args:
        metrics_opt: label -> metric; one without test_y_channel in its signature stays as it is.
    """
    expanded: MetricOptions = {}
    for label, metric_opt in metrics_opt.items():
        if "test_y_channel" not in _parameters(metric_opt):
            expanded[label] = dict(metric_opt)
            continue
        stem = label.removesuffix("_y").removesuffix("_rgb")
        for ending, test_y_channel in (("y", True), ("rgb", False)):
            variant = {**metric_opt, "test_y_channel": test_y_channel}
            if variant not in expanded.values():
                new_label = f"{stem}_{ending}" if f"{stem}_{ending}" not in expanded else f"{label}_{ending}"
                expanded[new_label] = variant
    return expanded


def measure(
    image_HWC: np.ndarray,
    reference_HWC: np.ndarray | None,
    metrics_opt: Mapping[str, Mapping[str, Any]],
    *,
    on_failure: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Measure a picture.

    Args:
        image_HWC: RGB (or one channel) uint8.
        reference_HWC: of the same shape; None: only metrics that need none are measured.
        metrics_opt: label -> metric.
        on_failure: called with the reason, once a metric that cannot be measured; its value is NaN then.

    Returns:
        Label -> value.

    Raises:
        DataError: without on_failure, where the picture is too small for a metric or its border.
    """
    values = {}
    for label, metric_opt in metrics_opt.items():
        data = {"img": _to_bgr(image_HWC)}  # BasicSR's metrics take BGR: it matters for Y
        if "img2" in _parameters(metric_opt):
            if reference_HWC is None:
                continue
            data["img2"] = _to_bgr(reference_HWC)
        try:
            values[label] = _calculate(label, data, metric_opt)
        except DataError as error:
            if on_failure is None:
                raise
            on_failure(str(error))
            values[label] = math.nan
    return values


def _calculate(label: str, data: Mapping[str, np.ndarray], metric_opt: Mapping[str, Any]) -> float:
    height, width = data["img"].shape[:2]
    border = metric_opt.get("crop_border", 0)
    told = f"val.metrics.{label} cannot be measured on a picture of {width}x{height} with crop_border {border}"
    remedy = "lower crop_border, leave the picture out, or take the metric out"
    if min(height, width) <= 2 * border:
        raise DataError(f"{told}: nothing is left; {remedy}")
    try:
        value = float(calculate_metric(data, metric_opt))
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:  # what metrics of others raise
        raise DataError(f"{told} ({error}); {remedy}") from error
    if math.isnan(value):
        raise DataError(f"{told}: the value is not a number; {remedy}")
    return value


def _parameters(metric_opt: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(METRIC_REGISTRY.get(metric_opt["type"])).parameters


def _to_bgr(image_HWC: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image_HWC[..., ::-1])
