"""PSNR and SSIM: BasicSR's values."""

import math

import numpy as np
import pytest

from hriusr.basicsr_bridge import METRIC_REGISTRY, REPLACED, calculate_metric, register_package
from hriusr.metrics.ssim_metric import calculate_ssim


@pytest.fixture(scope="module")
def pictures(photo):
    register_package()
    reference = photo("chelsea")[..., ::-1][:120, :151]
    noise = np.random.default_rng(0).integers(-20, 21, reference.shape)
    return np.clip(reference + noise, 0, 255).astype(np.uint8), np.ascontiguousarray(reference)


@pytest.mark.parametrize("test_y_channel", [True, False])
@pytest.mark.parametrize("crop_border", [0, 4])
def test_ssim_equals_that_of_basicsr(pictures, test_y_channel, crop_border):
    options = {"crop_border": crop_border, "test_y_channel": test_y_channel}
    expected = REPLACED["metric", "calculate_ssim"](*pictures, **options)
    assert calculate_ssim(*pictures, **options) == pytest.approx(expected, abs=1e-10)


def test_ssim_takes_other_layouts(pictures):
    transposed = [picture.transpose(2, 0, 1) for picture in pictures]
    expected = calculate_ssim(*pictures, crop_border=2)
    assert calculate_ssim(*transposed, crop_border=2, input_order="CHW") == expected
    grey = [picture[..., 0] for picture in pictures]
    assert calculate_ssim(*grey, crop_border=2) == calculate_ssim(grey[0][..., None], grey[1][..., None], crop_border=2)


def test_ssim_stands_under_the_name_of_option_files(pictures):
    assert METRIC_REGISTRY.get("calculate_ssim") is calculate_ssim
    metric_opt = {"type": "calculate_ssim", "crop_border": 4, "test_y_channel": True, "better": "higher"}
    data = {"img": pictures[0], "img2": pictures[1]}
    assert calculate_metric(data, metric_opt) == calculate_ssim(*pictures, crop_border=4, test_y_channel=True)


def test_ssim_of_equal_pictures_is_one(pictures):
    assert calculate_ssim(pictures[1], pictures[1], crop_border=0) == pytest.approx(1)


def test_ssim_of_a_tiny_picture_is_unknown():
    tiny = np.zeros((10, 40, 3), np.uint8)
    assert math.isnan(calculate_ssim(tiny, tiny, crop_border=0))


def test_pictures_of_different_size_are_refused(pictures):
    with pytest.raises(ValueError, match="differ in shape"):
        calculate_ssim(pictures[0], pictures[1][:-1], crop_border=0)


def test_border_that_leaves_nothing_is_refused(pictures):
    with pytest.raises(ValueError, match=r"crop_border \(=60\) leaves nothing of a picture of 151x120"):
        calculate_ssim(*pictures, crop_border=60)
