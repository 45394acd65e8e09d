"""HAT's ImageNetPairedDataset on pictures of every kind that ImageNet has."""

import numpy as np
import pytest
import torch

from hriusr.basicsr_bridge import DATASET_REGISTRY, register_package
from hriusr.data.image_io import image_to_tensor, read_image
from hriusr.data.matlab_resize import downsample
from hriusr.data.sampler import SampleKey


@pytest.fixture
def imagenet(tmp_path, photo):
    """Folders of classes with what ImageNet has: JPEGs in colour, grey, CMYK, a PNG called JPEG, a tiny one."""
    from PIL import Image

    photograph = Image.fromarray(photo("coffee")[:203, :301])
    for name, mode in (("n01/n01_1.JPEG", "RGB"), ("n01/n01_2.JPEG", "L"), ("n02/n02_1.JPEG", "CMYK")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photograph.convert(mode).save(tmp_path / name, "JPEG", quality=95)
    photograph.save(tmp_path / "n02/n02_2.JPEG", "PNG")
    photograph.crop((0, 0, 75, 50)).save(tmp_path / "n02/n02_3.JPEG", "JPEG")
    register_package()
    opt = {"name": "ImageNet", "dataroot_gt": str(tmp_path), "scale": 4, "phase": "train", "gt_size": 64}
    return DATASET_REGISTRY.get("ImageNetPairedDataset")(opt)


def test_imagenet_of_every_kind_gives_patches_in_colour(imagenet):
    assert [pair.gt.rsplit("/", 1)[1] for pair in imagenet.pairs] == [
        *(f"n01_{number}.JPEG" for number in (1, 2)),
        *(f"n02_{number}.JPEG" for number in (1, 2, 3)),
    ]
    whole = image_to_tensor(read_image(imagenet.pairs[0].gt))
    for index, pair in enumerate(imagenet.pairs):
        item = imagenet[SampleKey(index, index)]
        assert item["gt"].shape == (3, 64, 64), pair
        assert item["lq"].shape == (3, 16, 16), pair
        if index == 2:  # CMYK: the colours of the RGB file, but for two conversions and the JPEG
            assert (image_to_tensor(read_image(pair.gt)) - whole).abs().mean() < 0.03


def test_imagenet_patch_equals_that_of_the_whole_shrunk_picture(imagenet):
    switches = {"use_hflip": False, "use_rot": False}
    imagenet.opt = {**imagenet.opt, **switches}
    for index in (0, 2, 3):
        gt = read_image(imagenet.pairs[index].gt)
        gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
        lq = downsample(gt, 4)
        for position in range(8):
            item = imagenet[SampleKey(index, position)]
            top, left = np.argwhere(
                (
                    np.lib.stride_tricks.sliding_window_view(lq, (16, 16), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
                    == (item["lq"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
                ).all(axis=(2, 3, 4))
            )[0]
            assert torch.equal(item["gt"], image_to_tensor(gt[top * 4 : top * 4 + 64, left * 4 : left * 4 + 64]))
