"""Noise and JPEG on lq: against OpenCV's own files and SwinIR's test script, patches against whole pictures."""

import cv2
import numpy as np
import pytest
import torch

from hriusr.data.image_io import write_image
from hriusr.data.lq_degradation import LqDegradation
from hriusr.data.matlab_resize import downsample
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.sampler import SampleKey
from hriusr.data.transforms import Window, crop_to_multiple, cut, luma
from hriusr.errors import DataError

SIZE = (118, 149)  # no multiples of JPEG's 8 and 16
WINDOWS = [(0, 0, *SIZE), (0, 0, 7, 7), (33, 47, 30, 31), (101, 120, 17, 29), (16, 32, 16, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    """Two photographs of sizes that fit nothing."""
    root = tmp_path_factory.mktemp("gt")
    for name in ("astronaut", "chelsea"):
        write_image(root / f"{name}.png", photo(name)[40 : 40 + SIZE[0], 90 : 90 + SIZE[1]])
    return root


def build(folder, phase="test", scale=1, **options):
    opt = {"name": "test", "dataroot_gt": str(folder), "phase": phase, "scale": scale}
    return PairedImageDataset(opt | ({"gt_size": 24} if phase == "train" else {}) | options)


def opencv_jpeg(image_HWC, quality):
    """What OpenCV writes and reads, RGB or one channel."""
    bgr_HWC = np.ascontiguousarray(image_HWC[..., ::-1])
    _, content = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_UNCHANGED).reshape(image_HWC.shape)[..., ::-1]


def to_uint8(image_CHW):
    return (image_CHW * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("quality", [10, 40, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_window_equals_the_cut_of_the_whole_compressed_picture(photo, channels, quality):
    image_HWC = photo("coffee")[20 : 20 + SIZE[0], 200 : 200 + SIZE[1], :channels]
    whole_HWC = opencv_jpeg(image_HWC, quality)
    degradation = LqDegradation.from_options({"lq_jpeg_quality": quality})
    asked = []

    def lq_of(window):
        asked.append(window)
        return cut(image_HWC, window)

    for window in map(Window._make, WINDOWS):
        np.testing.assert_array_equal(degradation.compress(lq_of, window, SIZE), cut(whole_HWC, window))
    assert asked[1] == (0, 0, 32, 32)  # not the whole picture


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_training_patch_is_cut_out_of_the_compressed_picture(folder, scale, cache):
    """With lq made from gt: bicubic, then JPEG, as Swin2SR's compressed pictures."""
    options = {"lq_jpeg_quality": 10, "use_hflip": False, "use_rot": False, "cache": cache}
    dataset = build(folder, "train", scale, **options)
    whole = build(folder, "test", scale, lq_jpeg_quality=10)
    clean = build(folder, "test", scale)
    for position in range(8):
        item = dataset[SampleKey(position % 2, position)]
        lq_CHW, (clean_CHW, gt_CHW) = whole[position % 2]["lq"], (clean[position % 2][key] for key in ("lq", "gt"))
        side = 24 // scale
        places = [
            (top, left)
            for top in range(gt_CHW.shape[1] // scale - side + 1)
            for left in range(gt_CHW.shape[2] // scale - side + 1)
            if torch.equal(gt_CHW[:, top * scale :, left * scale :][:, :24, :24], item["gt"])
        ]
        assert len(places) == 1
        ((top, left),) = places
        assert torch.equal(lq_CHW[:, top : top + side, left : left + side], item["lq"])
        assert torch.equal(clean_CHW[:, top : top + side, left : left + side], item["lq_clean"])


def test_whole_pictures_are_compressed_as_opencv_does_it(folder, photo):
    item = build(folder, scale=2, lq_jpeg_quality=30)[0]
    gt_HWC = crop_to_multiple(photo("astronaut")[40 : 40 + SIZE[0], 90 : 90 + SIZE[1]], 2)
    np.testing.assert_array_equal(to_uint8(item["lq"]), opencv_jpeg(downsample(gt_HWC, 2), 30))
    np.testing.assert_array_equal(to_uint8(item["gt"]), gt_HWC)
    assert "lq_clean" not in item


@pytest.mark.parametrize("color", ["y", "grey"])
def test_one_channel_is_taken_before_it_is_compressed(folder, photo, color):
    """As SwinIR's script: Y of the picture, rounded, as a grey JPEG."""
    item = build(folder, color=color, lq_jpeg_quality=20)[0]
    gt_HWC = photo("astronaut")[40 : 40 + SIZE[0], 90 : 90 + SIZE[1]]
    if color == "y":
        one_HW1 = np.round(luma(gt_HWC) * 255).astype(np.uint8)
    else:
        one_HW1 = cv2.cvtColor(gt_HWC, cv2.COLOR_RGB2GRAY)[..., None]
    np.testing.assert_array_equal(to_uint8(item["lq"]), opencv_jpeg(one_HW1, 20))
    np.testing.assert_array_equal(to_uint8(item["gt"]), one_HW1)


@pytest.mark.parametrize("color", [None, "grey"])
def test_whole_pictures_get_the_noise_of_swinirs_script(folder, photo, color):
    """There in BGR, `np.random.seed(0)` before each picture, not clipped."""
    dataset = build(folder, color=color, lq_noise=50)
    for index, name in enumerate(("astronaut", "chelsea")):
        gt_HWC = photo(name)[40 : 40 + SIZE[0], 90 : 90 + SIZE[1]]
        bgr_HWC = cv2.cvtColor(gt_HWC, cv2.COLOR_RGB2GRAY)[..., None] if color else gt_HWC[..., ::-1]
        np.random.seed(seed=0)  # noqa: NPY002
        noisy_HWC = bgr_HWC.astype(np.float32) / 255 + np.random.normal(0, 50 / 255, bgr_HWC.shape)  # noqa: NPY002
        expected_CHW = torch.from_numpy(noisy_HWC[..., ::-1].transpose(2, 0, 1).copy()).float()
        torch.testing.assert_close(dataset[index]["lq"], expected_CHW, rtol=0, atol=1e-6)
    assert dataset[0]["lq"].min() < 0


@pytest.mark.parametrize("sigma", [15, 50])
def test_training_noise_has_its_sigma_and_depends_on_seed_and_position_alone(folder, sigma):
    dataset, clean = build(folder, "train", lq_noise=sigma), build(folder, "train")
    keys = [SampleKey(position % 2, position, seed) for seed in (0, 1) for position in range(12)]
    noise = torch.stack([dataset[key]["lq"] - clean[key]["lq"] for key in keys])
    assert noise.std().item() == pytest.approx(sigma / 255, rel=0.02)
    assert abs(noise.mean().item()) < 4 * sigma / 255 / noise.numel() ** 0.5
    assert len({patch.numpy().tobytes() for patch in noise}) == len(keys)
    for key in keys[:3]:
        assert torch.equal(dataset[key]["lq"], build(folder, "train", lq_noise=sigma)[key]["lq"])
        assert torch.equal(dataset[key]["gt"], clean[key]["gt"])


def test_noise_comes_before_mean_and_std(folder):
    key = SampleKey(0, 3)
    plain = build(folder, "train", lq_noise=25)[key]["lq"]
    normalised = build(folder, "train", lq_noise=25, mean=[0.5] * 3, std=[0.2] * 3)[key]["lq"]
    torch.testing.assert_close(normalised, (plain - 0.5) / 0.2)


def test_16_bits_are_compressed_as_8(tmp_path, photo):
    gt_HWC = photo("coffee")[:40, :50]
    write_image(tmp_path / "deep.png", gt_HWC.astype(np.uint16) * 257)
    item = build(tmp_path, lq_jpeg_quality=50)[0]
    np.testing.assert_array_equal(to_uint8(item["lq"]), opencv_jpeg(gt_HWC, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lq_noise": 15, "lq_jpeg_quality": 40}, r"lq_noise \(=15\) and lq_jpeg_quality \(=40\): keep one"),
        ({"lq_noise": -1}, r"lq_noise \(=-1\).*above 0"),
        ({"lq_jpeg_quality": 101}, r"lq_jpeg_quality \(=101\).*1 to 100"),
    ],
)
def test_wrong_options_are_named(folder, options, message):
    with pytest.raises(DataError, match=message):
        build(folder, **options)
