"""PSNR-B against its definition, difference by difference, and on JPEG files."""

import math

import cv2
import numpy as np
import pytest

from hriusr.basicsr_bridge import METRIC_REGISTRY, calculate_metric
from hriusr.metrics.psnrb_metric import calculate_psnrb


def psnrb_by_loops(image, reference):
    """IEEE TIP 20(1), eq. 7 to 13, for one channel."""
    height, width = image.shape
    at_borders, elsewhere = [], []
    for row in range(height):
        for column in range(width):
            if column + 1 < width:
                kind = at_borders if (column + 1) % 8 == 0 else elsewhere
                kind.append((float(image[row, column]) - float(image[row, column + 1])) ** 2)
            if row + 1 < height:
                kind = at_borders if (row + 1) % 8 == 0 else elsewhere
                kind.append((float(image[row, column]) - float(image[row + 1, column])) ** 2)
    border, other = sum(at_borders) / len(at_borders), sum(elsewhere) / len(elsewhere)
    weight = math.log2(8) / math.log2(min(height, width)) if border > other else 0
    error = np.mean((image.astype(float) - reference.astype(float)) ** 2) + weight * (border - other)
    return 10 * math.log10(255**2 / error)


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("size", [(32, 48), (29, 43), (9, 8)], ids=str)
@pytest.mark.parametrize("quality", [10, 90])
def test_equals_its_definition(photo, size, quality):
    reference = photo("coffee")[100 : 100 + size[0], 200 : 200 + size[1], 0]
    image = jpeg(reference, quality)
    assert calculate_psnrb(image, reference) == pytest.approx(psnrb_by_loops(image, reference), abs=1e-9)


def test_penalty_sees_steps_at_the_borders_of_blocks_alone(photo):
    reference = photo("chelsea")[:128, :128, 1]
    blocky = jpeg(reference, 5)
    psnr = calculate_metric({"img": blocky, "img2": reference}, {"type": "calculate_psnr", "crop_border": 0})
    assert calculate_psnrb(blocky, reference) < psnr - 0.5
    moved = [np.roll(image, (4, 4), (0, 1)) for image in (blocky, reference)]
    assert calculate_psnrb(*moved) == pytest.approx(psnr)


def test_stands_under_its_name_and_measures_y():
    assert METRIC_REGISTRY.get("calculate_psnrb") is calculate_psnrb
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    metric_opt = {"type": "calculate_psnrb", "crop_border": 0, "test_y_channel": True}
    grey = np.repeat(image[..., :1], 3, axis=2)
    value = calculate_metric({"img": grey, "img2": image}, metric_opt)
    assert value == calculate_psnrb(grey, image, test_y_channel=True)
    assert value != calculate_psnrb(grey, image)


def test_without_borders_of_blocks_it_is_unknown():
    tiny = np.zeros((8, 8, 3), np.uint8)
    assert math.isnan(calculate_psnrb(tiny, tiny))
    assert calculate_psnrb(np.zeros((16, 16)), np.zeros((16, 16))) == math.inf
