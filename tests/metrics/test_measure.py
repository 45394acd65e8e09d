"""Metrics of an option file, applied to RGB pictures."""

import numpy as np
import pytest

from hriusr.basicsr_bridge import calculate_metric
from hriusr.errors import DataError, OptionsError
from hriusr.metrics.measure import check_metrics, default_metrics, measure, with_both_colours


@pytest.fixture(scope="module")
def pictures(photo):
    reference = photo("coffee")[:90, :101]
    noise = np.random.default_rng(0).integers(-9, 10, reference.shape)
    return np.clip(reference + noise, 0, 255).astype(np.uint8), reference


@pytest.mark.parametrize("type_name", ["calculate_psnr", "calculate_ssim"])
def test_values_equal_those_of_basicsr_on_its_bgr_pictures(pictures, type_name):
    metric_opt = {"type": type_name, "crop_border": 3, "test_y_channel": True, "better": "higher"}
    bgr = [np.ascontiguousarray(picture[..., ::-1]) for picture in pictures]
    expected = calculate_metric({"img": bgr[0], "img2": bgr[1]}, metric_opt)
    assert measure(*pictures, {"m": metric_opt})["m"] == expected
    as_if_rgb_were_bgr = calculate_metric({"img": pictures[0], "img2": pictures[1]}, metric_opt)
    assert as_if_rgb_were_bgr != pytest.approx(expected, abs=1e-3)


def test_both_colours_are_measured_once_each():
    psnr = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}
    expanded = with_both_colours({"psnr": psnr, "psnr_rgb": {**psnr, "test_y_channel": False}})
    assert {label: metric_opt["test_y_channel"] for label, metric_opt in expanded.items()} == {
        "psnr_y": True,
        "psnr_rgb": False,
    }


def test_metrics_of_different_borders_are_kept_apart():
    metrics = {
        "psnr": {"type": "calculate_psnr", "crop_border": 2},
        "psnr_y": {"type": "calculate_psnr", "crop_border": 0},
    }
    expanded = with_both_colours(metrics)
    assert len(expanded) == 4
    assert sorted(metric_opt["crop_border"] for metric_opt in expanded.values()) == [0, 0, 2, 2]


def test_default_border_is_the_scale(pictures):
    values = measure(*pictures, with_both_colours(default_metrics(4)))
    assert list(values) == ["psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"]
    cropped = [picture[4:-4, 4:-4] for picture in pictures]
    assert values["psnr_y"] == measure(*cropped, with_both_colours(default_metrics(0)))["psnr_y"]


def test_without_ground_truth_only_metrics_that_need_none_are_measured(pictures):
    metrics = {
        "psnr": {"type": "calculate_psnr", "crop_border": 0},
        "niqe": {"type": "calculate_niqe", "crop_border": 0},
    }
    large = np.tile(pictures[0], (3, 3, 1))
    values = measure(large, None, metrics)
    assert list(values) == ["niqe"]
    assert 0 < values["niqe"] < 30


def test_unknown_metric_is_named():
    with pytest.raises(OptionsError, match=r"val\.metrics\.lpips\.type: unknown metric 'calculate_lpips'"):
        check_metrics({"lpips": {"type": "calculate_lpips"}})


@pytest.mark.parametrize(("scale", "border"), [(1, 0), (2, 2), (4, 4)])
def test_default_border_is_the_one_of_papers(scale, border):
    assert {metric["crop_border"] for metric in default_metrics(scale).values()} == {border}


@pytest.mark.parametrize("type_name", ["calculate_psnr", "calculate_ssim", "calculate_psnrb"])
def test_border_that_leaves_nothing_is_named(pictures, type_name):
    small = [picture[:4, :20] for picture in pictures]
    told = r"val.metrics.m cannot be measured on a picture of 20x4 with crop_border 2: nothing is left"
    with pytest.raises(DataError, match=told):
        measure(*small, {"m": {"type": type_name, "crop_border": 2}})
