"""Crops and symmetries stay in step, are drawn evenly and repeat under the same generator."""

from collections import Counter

import numpy as np
import pytest
import torch

from hriusr import basicsr_bridge  # noqa: F401 - before the import of basicsr in a test
from hriusr.data.transforms import Window, augment, choose_corner, crop_to_multiple, cut, luma, normalise


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_both_cuts_show_the_same_place(scale):
    rows, columns = np.mgrid[:20, :30]
    lq = np.stack([rows, columns, rows], -1).astype(np.uint8)
    gt = lq.repeat(scale, 0).repeat(scale, 1)
    window = Window(3, 7, 6, 5)
    lq_patch, gt_patch = cut(lq, window), cut(gt, window.scaled(scale))
    assert lq_patch[0, 0].tolist() == [3, 7, 3]
    assert lq_patch.shape == (6, 5, 3)
    np.testing.assert_array_equal(gt_patch, lq_patch.repeat(scale, 0).repeat(scale, 1))
    assert np.shares_memory(gt_patch, gt)


def test_every_corner_comes_up():
    corners = {choose_corner((5, 4), 3, generator(seed)) for seed in range(200)}
    assert corners == {(top, left) for top in range(3) for left in range(2)}


def test_all_eight_symmetries_come_up_equally_often_and_alike_for_the_pair():
    image = np.arange(9).reshape(3, 3, 1)
    seen = Counter()
    for seed in range(800):
        first, second = augment([image, image * 2], generator(seed))
        np.testing.assert_array_equal(first * 2, second)
        seen[first.tobytes()] += 1
    assert len(seen) == 8
    assert min(seen.values()) > 60


@pytest.mark.parametrize(("use_hflip", "use_rot", "count"), [(False, False, 1), (True, False, 2), (False, True, 4)])
def test_switches_limit_the_symmetries(use_hflip, use_rot, count):
    image = np.arange(9).reshape(3, 3, 1)
    augmented = [augment([image], generator(s), use_hflip=use_hflip, use_rot=use_rot)[0] for s in range(50)]
    assert len({image.tobytes() for image in augmented}) == count


def test_crop_to_multiple_cuts_bottom_and_right():
    image = np.arange(35).reshape(5, 7, 1)
    np.testing.assert_array_equal(crop_to_multiple(image, 3), image[:3, :6])
    np.testing.assert_array_equal(crop_to_multiple(image, 1), image)


def test_luma_equals_basicsr(photo):
    from basicsr.utils import bgr2ycbcr

    image = photo("coffee")[:50, :60]
    expected = bgr2ycbcr(image[..., ::-1].astype(np.float32) / 255, y_only=True)
    np.testing.assert_allclose(luma(image)[..., 0], expected, atol=1e-7)
    np.testing.assert_allclose(luma(image.astype(np.uint16) * 257), luma(image), atol=1e-6)


def test_normalise_equals_torchvision():
    from torchvision.transforms.functional import normalize

    image = torch.rand(3, 5, 6)
    expected = normalize(image, [0.4, 0.5, 0.6], [0.2, 0.3, 1.0])
    assert torch.equal(normalise(image, [0.4, 0.5, 0.6], [0.2, 0.3, 1.0]), expected)
