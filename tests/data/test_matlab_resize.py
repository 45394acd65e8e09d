"""MATLAB's bicubic: against the official files, the published baselines and a loop that follows the definition."""

import math
import time

import numpy as np
import pytest

from hriusr.basicsr_bridge import calculate_metric
from hriusr.data.image_io import list_images, read_image
from hriusr.data.matlab_resize import downsample, imresize


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def brute_force_rows(image, length, scale):
    """Weighted sum over all source pixels, mirrored three times on either side; image (H, W) float64."""
    height = image.shape[0]
    mirrored = np.concatenate([image, image[::-1]] * 8)[: 13 * height]  # starts 6 periods before pixel 0
    stretch = min(scale, 1.0)
    rows = []
    for row in range(length):
        centre = (row + 0.5) / scale - 0.5
        taps = range(math.floor(centre - 2 / stretch), math.ceil(centre + 2 / stretch) + 1)
        weights = np.array([cubic(stretch * (centre - tap)) for tap in taps])
        values = np.stack([mirrored[tap + 6 * height] for tap in taps])
        rows.append((weights / weights.sum()) @ values)
    return np.stack(rows)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_equals_the_official_set5(shared_data, scale):
    set5 = shared_data / "benchmarks" / "Set5"
    names = list_images(set5 / "HR")
    assert len(names) == 5
    for path in names:
        lr = read_image(set5 / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")
        hr = read_image(path)[: lr.shape[0] * scale, : lr.shape[1] * scale]
        np.testing.assert_array_equal(imresize(hr, 1 / scale), lr)


def mean_psnr_of_bicubic(folder, scale, enlarge):
    psnr = []
    for path in list_images(folder / "HR"):
        lr = read_image(folder / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")
        hr = read_image(path)[: lr.shape[0] * scale, : lr.shape[1] * scale]
        sr, hr = enlarge(lr, hr)
        data = {"img": sr[..., ::-1], "img2": hr[..., ::-1]}  # BasicSR's metrics take BGR
        metric = {"type": "calculate_psnr", "crop_border": scale, "test_y_channel": True}
        psnr.append(calculate_metric(data, metric))
    return np.mean(psnr)


@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_of_the_luma_gives_the_published_baseline(shared_data, scale, published):
    """The published numbers come from SRCNN's protocol: Y rounded to 8 bits, then shrunk and enlarged as floats."""

    def enlarge(_, hr):
        luma = np.floor(16 + hr @ np.array([65.481, 128.553, 24.966]) / 255 + 0.5)
        enlarged = imresize(imresize(luma, 1 / scale), scale)
        return np.floor(np.clip(enlarged, 0, 255) + 0.5)[..., None], luma[..., None]

    assert round(mean_psnr_of_bicubic(shared_data / "benchmarks" / "Set5", scale, enlarge), 2) == published


@pytest.mark.parametrize(("scale", "expected"), [(2, 33.67), (3, 30.40), (4, 28.43)])
def test_bicubic_of_the_official_lr_is_0_01_db_above_the_published_baseline(shared_data, scale, expected):
    """The protocol of networks: the RGB LR files enlarged to 8 bits, Y without rounding."""
    enlarge = lambda lr, hr: (imresize(lr, scale), hr)  # noqa: E731
    assert round(mean_psnr_of_bicubic(shared_data / "benchmarks" / "Set5", scale, enlarge), 2) == expected


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 0.7, 1.0, 2.0, 3.0, 2.5])
@pytest.mark.parametrize("shape", [(17, 23), (5, 31), (12, 8)])
def test_equals_the_definition(scale, shape):
    image = np.random.default_rng(0).random(shape)
    size = tuple(math.ceil(side * scale) for side in shape)
    expected = brute_force_rows(brute_force_rows(image, size[0], scale).T, size[1], scale).T
    np.testing.assert_allclose(imresize(image, scale), expected, atol=1e-12)


def test_integer_pictures_are_rounded_after_each_axis():
    image = np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8)
    rows = np.clip(np.floor(brute_force_rows(image.astype(float), 20, 0.5) + 0.5), 0, 255)
    both = np.clip(np.floor(brute_force_rows(rows.T, 26, 0.5).T + 0.5), 0, 255)
    np.testing.assert_array_equal(imresize(image, 0.5), both.astype(np.uint8))


def test_the_axis_that_shrinks_more_goes_first():
    image = np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image, size=(30, 13)), imresize(image.T, size=(13, 30)).T)


@pytest.mark.parametrize("factor", range(1, 9))
def test_downsample_takes_whole_factors(factor):
    image = np.random.default_rng(0).integers(0, 256, (factor * 49, factor * 7, 3), dtype=np.uint8)
    small = downsample(image, factor)
    assert small.shape == (49, 7, 3)
    np.testing.assert_array_equal(small, imresize(image, 1 / factor)[:49, :7])
    np.testing.assert_array_equal(downsample(image, factor, window=(3, 2, 5, 4)), small[3:8, 2:6])
    if factor > 1:
        with pytest.raises(ValueError, match=f"multiples of factor \\(={factor}\\)"):
            downsample(image[1:], factor)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 2.0])
@pytest.mark.parametrize("corner", [(0, 0), (9, 11), (-1, -1)])
def test_window_equals_crop_of_the_whole(scale, corner, photo):
    image = photo("chelsea")[:60, :78]
    whole = imresize(image, scale)
    height, width = 8, 10
    top, left = (corner[0] % (whole.shape[0] - height + 1), corner[1] % (whole.shape[1] - width + 1))
    part = imresize(image, scale, window=(top, left, height, width))
    np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_uint16_keeps_its_depth_and_float32_its_type():
    image = np.full((8, 8, 3), 40000, np.uint16)
    assert imresize(image, 0.5).dtype == np.uint16
    assert (imresize(image, 0.5) == 40000).all()
    assert imresize(image.astype(np.float32), 2).dtype == np.float32


def test_a_single_pixel_can_be_resized():
    assert imresize(np.full((1, 1, 3), 7, np.uint8), 4).tolist() == np.full((4, 4, 3), 7).tolist()
    assert imresize(np.full((1, 1), 7, np.uint8), 0.25).tolist() == [[7]]


def test_2k_picture_takes_less_than_a_third_of_a_second():
    image = np.zeros((1080, 2040, 3), np.uint8)
    imresize(image, 0.5)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        imresize(image, 0.5)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of scale"),
        ({"scale": 2, "size": (2, 2)}, "exactly one of scale"),
        ({"scale": 0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"size": (0, 4)}, "size"),
        ({"scale": 0.5, "window": (0, 0, 9, 2)}, "window"),
    ],
)
def test_impossible_requests_name_their_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        imresize(np.zeros((8, 8), np.uint8), **arguments)


@pytest.mark.parametrize("image", [np.zeros((0, 4), np.uint8), np.zeros((4, 4), np.int32), np.zeros(4)])
def test_impossible_pictures_are_refused(image):
    with pytest.raises(ValueError, match="image"):
        imresize(image, 0.5)
