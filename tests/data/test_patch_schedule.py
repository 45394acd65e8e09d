"""Growing patches: sizes and samples of each step are a function of its number."""

import itertools

import pytest

from hriusr.data.image_io import write_image
from hriusr.data.loader import build_train_loader
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.errors import DataError

GROWING = [{"iter": 3, "gt_size": 32, "batch_size": 2}, {"iter": 5, "gt_size": 48}, {"iter": 6, "batch_size": 1}]


@pytest.fixture
def folder(tmp_path, photo):
    for name in ("astronaut", "chelsea", "coffee"):
        write_image(tmp_path / f"{name}.png", photo(name)[:64, :72])
    return tmp_path


def batches(folder, count, *, start=0, num_workers=0, rank=0, world_size=1, **changed):
    opt = {"batch_size_per_gpu": 4, "num_worker_per_gpu": num_workers, "progressive": GROWING, **changed}
    dataset = PairedImageDataset({"phase": "train", "scale": 2, "gt_size": 16, "dataroot_gt": str(folder), **opt})
    position = sum(([4] * 3 + [2] * 3 + [1] * 99)[:start])
    place = {"rank": rank, "world_size": world_size, "start_position": position, "start_iteration": start}
    stream = build_train_loader(dataset, opt, seed=7, **place)
    taken = list(itertools.islice(stream, count))
    stream.close()
    return taken


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_size_and_number_of_patches_follow_the_stages(folder, cache):
    shapes = [tuple(batch["gt"].shape) for batch in batches(folder, 8, cache=cache)]
    sizes = [(4, 16)] * 3 + [(2, 32)] * 2 + [(2, 48)] + [(1, 48)] * 2
    assert shapes == [(number, 3, side, side) for number, side in sizes]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", range(1, 8))
def test_resuming_at_any_step_goes_on_exactly(folder, start, num_workers):
    whole = batches(folder, 9)
    rest = batches(folder, 9 - start, start=start, num_workers=num_workers if start == 4 else 0)
    for expected, batch in zip(whole[start:], rest, strict=True):
        assert batch["gt"].equal(expected["gt"])
        assert batch["lq"].equal(expected["lq"])
        assert batch["gt_path"] == expected["gt_path"]


def test_no_sample_is_taken_twice_or_left_out_by_two_ranks(folder):
    names = [batch["gt_path"] for batch in batches(folder, 8)]
    shares = [[batch["gt_path"] for batch in batches(folder, 8, rank=rank, world_size=2)] for rank in range(2)]
    taken = [
        name for first, second in zip(*shares, strict=True) for pair in zip(first, second, strict=True) for name in pair
    ]
    assert taken[:18] == [name for batch in names for name in batch][:18]


def test_stage_that_does_not_fit_the_scale_is_named(folder):
    with pytest.raises(DataError, match=r"gt_size .=33. of dataset .* must be a multiple of scale .=2."):
        batches(folder, 1, progressive=[{"iter": 1, "gt_size": 33}])


def test_picture_smaller_than_a_later_patch_is_named_then(folder):
    with pytest.raises(DataError, match=r"is smaller than gt_size .=96."):
        batches(folder, 2, progressive=[{"iter": 1, "gt_size": 96}])
