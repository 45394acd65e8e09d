"""Datasets for blind degradations, and the pool of pairs."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from hriusr.basicsr_bridge import DATASET_REGISTRY, register_package
from hriusr.data.degradations.pair_pool import PairPool
from hriusr.data.image_io import image_to_tensor, write_image
from hriusr.data.loader import build_train_loader
from hriusr.data.realesrgan_dataset import RealESRGANDataset
from hriusr.data.realesrgan_paired_dataset import RealESRGANPairedDataset
from hriusr.data.sampler import SampleKey
from hriusr.errors import DataError


@pytest.fixture
def folder(tmp_path, photo):
    for name in ("astronaut", "chelsea"):
        write_image(tmp_path / "gt" / f"{name}.png", photo(name)[60:156, 100:180])
    return tmp_path / "gt"


def make(folder, **changes):
    opt = {"dataroot_gt": str(folder), "scale": 4, "phase": "train", "gt_size": 32, "crop_pad_size": 48}
    return RealESRGANDataset({**opt, **changes})


@pytest.mark.parametrize(
    ("name", "dataset_class"),
    [("RealESRGANDataset", RealESRGANDataset), ("RealESRGANPairedDataset", RealESRGANPairedDataset)],
)
def test_dataset_stands_under_the_name_of_basicsrs(name, dataset_class):
    register_package()
    assert DATASET_REGISTRY.get(name) is dataset_class


def test_item_is_a_crop_of_the_picture_with_kernels(folder):
    item = make(folder, use_hflip=False, use_rot=False)[SampleKey(0, 5, 1)]
    assert item["gt"].shape == (3, 48, 48)
    from hriusr.data.image_io import read_image

    whole = image_to_tensor(read_image(item["gt_path"]))
    windows = whole.unfold(1, 48, 1).unfold(2, 48, 1)
    assert (windows == item["gt"][:, None, None]).all(-1).all(-1).all(0).any()
    for name in ("kernel1", "kernel2", "sinc_kernel"):
        assert item[name].shape == (21, 21)
        assert item[name].sum() == pytest.approx(1, abs=1e-5)


def test_item_follows_from_seed_and_position(folder):
    dataset = make(folder)
    first, again, other = (dataset[key] for key in (SampleKey(1, 7, 2), SampleKey(1, 7, 2), SampleKey(1, 8, 2)))
    assert all(torch.equal(first[name], again[name]) for name in ("gt", "kernel1", "kernel2", "sinc_kernel"))
    assert not torch.equal(first["kernel1"], other["kernel1"])


def test_number_of_workers_does_not_change_batches(folder):
    opt = {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    loaders = [build_train_loader(make(folder), {**opt, "num_worker_per_gpu": n}, seed=3) for n in (0, 2)]
    for _ in range(3):
        first, second = (next(loader) for loader in loaders)
        assert torch.equal(first["gt"], second["gt"])
        assert torch.equal(first["kernel2"], second["kernel2"])
        assert first["sample"].position.tolist() == second["sample"].position.tolist()
    for loader in loaders:
        loader.close()


def test_key_survives_the_collation_on_the_cpu(folder):
    batch = default_collate([make(folder)[SampleKey(0, position, 9)] for position in (4, 6)])
    assert batch["sample"].position.tolist() == [4, 6]
    assert batch["sample"].seed.tolist() == [9, 9]
    assert not torch.is_tensor(batch["sample"])  # so that prefetching leaves it where it can be read


def test_small_picture_is_continued_by_reflection(folder):
    item = make(folder, crop_pad_size=160, use_hflip=False, use_rot=False)[SampleKey(0, 0)]
    assert item["gt"].shape == (3, 160, 160)
    assert torch.equal(item["gt"][:, 96], item["gt"][:, 94])


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_small_picture_is_enlarged_or_left_out_on_demand(folder, photo, cache, caplog):
    write_image(folder / "zebra.png", photo("coffee")[:40, :90])
    enlarged = make(folder, enlarge_small=True, cache=cache, use_hflip=False, use_rot=False)
    assert len(enlarged) == 3
    item = enlarged[SampleKey(2, 0)]
    rows = item["gt"].permute(1, 2, 0).numpy()
    assert rows.shape == (48, 48, 3)
    assert not np.array_equal(rows[40:], rows[38:30:-1])  # continued by reflection without enlarge_small
    plain = make(folder, use_hflip=False, use_rot=False)[SampleKey(2, 0)]["gt"].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(plain[40:], plain[38:30:-1])
    assert len(make(folder, skip_small=True, cache=cache)) == 2
    assert "1 of 3 pictures are smaller than crop_pad_size (=48): left out" in caplog.text
    with pytest.raises(DataError, match=r"all pictures .* are smaller than crop_pad_size \(=160\)"):
        make(folder, skip_small=True, crop_pad_size=160)
    assert len(make(folder, skip_small=True, enlarge_small=True, crop_pad_size=160)) == 3


def test_values_of_no_effect_are_let_pass(folder):
    opt = {"color": "n", "mean": [0, 0, 0], "std": [1, 1, 1], "filename_tmpl": "{}", "skip_small": False}
    assert len(make(folder, **opt)) == 2


def test_cache_and_list_give_the_same_items(folder, tmp_path):
    plain = make(folder)[SampleKey(1, 3)]
    (tmp_path / "list.txt").write_text("astronaut.png (96,80,3)\nchelsea.png (96,80,3)\n")
    cached = make(folder, cache="memory", meta_info_file=str(tmp_path / "list.txt"))
    cached.preload()
    assert torch.equal(plain["gt"], cached[SampleKey(1, 3)]["gt"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataroot_gt": None}, "needs dataroot_gt"),
        ({"phase": "val"}, "is for training"),
        ({"crop_pad_size": 50}, r"crop_pad_size \(=50\)"),
        ({"crop_pad_size": 28}, r"at least gt_size \(=32\)"),
        ({"filename_tmpl": "{}x4"}, "leave filename_tmpl out"),
        ({"color": "y"}, "leave color, mean and std out"),
        ({"mean": [0.5, 0.5, 0.5]}, "leave color, mean and std out"),
        ({"std": [1, 1, 2]}, "leave color, mean and std out"),
    ],
)
def test_wrong_options_are_named(folder, changes, words):
    with pytest.raises(DataError, match=words):
        make(folder, **changes)


def test_list_of_pairs_names_both_pictures(folder, tmp_path):
    for name in ("astronaut", "chelsea"):
        write_image(tmp_path / "lq" / f"real_{name}.png", np.zeros((24, 20, 3), np.uint8))
    (tmp_path / "pairs.txt").write_text("chelsea.png, real_chelsea.png\nastronaut.png, real_astronaut.png\n")
    opt = {"dataroot_gt": str(folder), "dataroot_lq": str(tmp_path / "lq"), "scale": 4, "phase": "train", "gt_size": 32}
    opt["meta_info_file"] = str(tmp_path / "pairs.txt")
    dataset = RealESRGANPairedDataset(opt)
    assert [pair.gt.rsplit("/")[-1] for pair in dataset.pairs] == ["chelsea.png", "astronaut.png"]
    assert dataset[SampleKey(0, 0)]["lq"].shape == (3, 8, 8)
    (tmp_path / "pairs.txt").write_text("chelsea.png, other.png\n")
    with pytest.raises(DataError, match=r"pairs.txt:1: .*other.png does not exist"):
        RealESRGANPairedDataset(opt)


def pairs(first, count):
    """Pairs that bear their number in every pixel."""
    numbers = torch.arange(first, first + count).view(-1, 1, 1, 1) / 255
    return numbers.expand(-1, 3, 2, 2).clone(), numbers.expand(-1, 3, 4, 4).clone()


def numbers_of(batch):
    return (batch[:, 0, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 30])
def test_pool_loses_and_doubles_no_pair(batch_size):
    pool, given, taken = PairPool(10), [], []
    for step in range(8):
        lq, gt = pairs(step * batch_size, batch_size)
        given += numbers_of(lq)
        lq, gt = pool.exchange(lq, gt, np.random.default_rng(step))
        assert numbers_of(lq) == numbers_of(gt)
        taken.append(numbers_of(lq))
    inside = numbers_of(pool.state_dict()["lq"].float() / 255)
    filling = given[:10]  # given back as they came, and kept
    assert sorted([number for batch in taken for number in batch] + inside) == sorted(given + filling)


def test_full_pool_mixes_batches():
    pool = PairPool(12)
    for step in range(3):
        assert numbers_of(pool.exchange(*pairs(4 * step, 4), np.random.default_rng(step))[0]) == list(
            range(4 * step, 4 * step + 4)
        )
    mixed = numbers_of(pool.exchange(*pairs(12, 4), np.random.default_rng(9))[0])
    assert set(mixed) <= set(range(12))
    assert len(set(mixed)) == 4


def test_pool_of_no_size_gives_everything_back():
    lq, gt = pairs(3, 4)
    assert all(map(torch.equal, PairPool(0).exchange(lq, gt, np.random.default_rng(0)), (lq, gt)))


def test_restored_pool_goes_on_the_same():
    pool = PairPool(6)
    for step in range(3):
        pool.exchange(*pairs(4 * step, 4), np.random.default_rng(step))
    restored = PairPool(6)
    restored.load_state_dict({name: tensor.clone() for name, tensor in pool.state_dict().items()}, torch.device("cpu"))
    for step in range(3, 6):
        first, second = (each.exchange(*pairs(4 * step, 4), np.random.default_rng(step)) for each in (pool, restored))
        assert all(map(torch.equal, first, second))


def test_pool_holds_8_bits_a_value():
    pool = PairPool(5)
    pool.exchange(*pairs(0, 3), np.random.default_rng(0))
    state = pool.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.uint8}
    assert len(state["lq"]) == 3
