"""PairedImageDataset, SingleImageDataset and HAT's ImageNetPairedDataset: options, faults, agreement with BasicSR."""

import contextlib
import pickle
import random
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hriusr.basicsr_bridge import DATASET_REGISTRY, REPLACED, register_package
from hriusr.data import host_memory, picture_cache
from hriusr.data.image_io import encode_image, image_to_tensor, read_image, write_image
from hriusr.data.lmdb_store import write_lmdb
from hriusr.data.matlab_resize import downsample
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.prepare import prepare_bicubic, prepare_lmdb
from hriusr.data.sampler import SampleKey
from hriusr.data.single_image_dataset import SingleImageDataset
from hriusr.errors import DataError

PHOTOS = ("astronaut", "chelsea", "coffee")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, photo):
    """Three photographs, 96x72 and a little more, with LR x2; as folders and as databases."""
    root = tmp_path_factory.mktemp("data")
    for number, name in enumerate(PHOTOS):
        gt = photo(name)[50 : 50 + 72 + 2 * number, 60 : 60 + 96]
        lq = downsample(gt, 2)
        write_image(root / "gt" / f"{name}.png", gt)
        write_image(root / "lq" / f"{name}.png", lq)
        write_image(root / "lqx2" / f"{name}x2.png", lq)
    for kind in ("gt", "lq"):
        images = {name: read_image(root / kind / f"{name}.png") for name in PHOTOS}
        pictures = [(name, encode_image(image, ".png"), image.shape) for name, image in images.items()]
        write_lmdb(root / f"{kind}.lmdb", pictures, map_size=10**7, compression=3)
    (root / "list.txt").write_text("coffee.png (76,96,3)\nastronaut.png (72,96,3)\n")
    return root


def options(root, phase="val", **changed):
    opt = {
        "name": "test",
        "type": "PairedImageDataset",
        "dataroot_gt": str(root / "gt"),
        "dataroot_lq": str(root / "lq"),
        "io_backend": {"type": "disk"},
        "phase": phase,
        "scale": 2,
    }
    if phase == "train":
        opt |= {"gt_size": 32, "use_hflip": True, "use_rot": True}
    return {key: value for key, value in (opt | changed).items() if value is not None}


def same(first, second):
    return torch.equal(first["lq"], second["lq"]) and torch.equal(first["gt"], second["gt"])


def is_pair(item):
    """Whether lq is what shrinking gt gives, away from the border that a patch does not know."""
    gt = (item["gt"] * 255).round().byte().permute(1, 2, 0).numpy()
    inner = downsample(gt, 2)[3:-3, 3:-3].astype(int)
    lq = (item["lq"] * 255).round().permute(1, 2, 0).numpy()[3:-3, 3:-3].astype(int)
    return np.abs(inner - lq).max() <= 1  # a transposed picture is rounded after the other axis


def test_registered_under_basicsrs_names():
    register_package()
    assert DATASET_REGISTRY.get("PairedImageDataset") is PairedImageDataset
    assert DATASET_REGISTRY.get("SingleImageDataset") is SingleImageDataset
    assert REPLACED["dataset", "PairedImageDataset"].__module__ == "basicsr.data.paired_image_dataset"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"color": "y"},
        {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 1.0]},
        {"filename_tmpl": "{}x2", "dataroot_lq": "lqx2"},
        {"meta_info_file": "list.txt"},
        {"io_backend": {"type": "lmdb"}, "dataroot_gt": "gt.lmdb", "dataroot_lq": "lq.lmdb"},
    ],
    ids=["plain", "luma", "normalised", "template", "meta_info", "lmdb"],
)
def test_whole_pictures_equal_those_of_basicsr(folders, changed):
    changed = {
        key: str(folders / value) if key in ("dataroot_lq", "dataroot_gt", "meta_info_file") else value
        for key, value in changed.items()
    }
    opt = options(folders, **changed)
    theirs = REPLACED["dataset", "PairedImageDataset"](
        {key: dict(value) if key == "io_backend" else value for key, value in opt.items()}
    )
    expected = {item["gt_path"]: item for item in (theirs[index] for index in range(len(theirs)))}
    del theirs  # LMDB allows one handle a process
    ours = PairedImageDataset(opt)
    assert len(ours) == len(expected) == (2 if "meta_info_file" in changed else 3)
    for index in range(len(ours)):
        item = ours[index]
        other = expected[item["gt_path"]]
        torch.testing.assert_close(item["lq"], other["lq"], rtol=0, atol=2e-7)
        torch.testing.assert_close(item["gt"], other["gt"], rtol=0, atol=2e-7)
        assert item["lq_path"] == other["lq_path"]


def test_training_items_are_paired_patches(folders):
    dataset = PairedImageDataset(options(folders, "train"))
    for position in range(12):
        item = dataset[SampleKey(position % 3, position)]
        assert item["gt"].shape == (3, 32, 32)
        assert item["lq"].shape == (3, 16, 16)
        assert is_pair(item)


def test_sample_depends_on_seed_and_position(folders):
    dataset = PairedImageDataset(options(folders, "train"))
    assert same(dataset[SampleKey(0, 5, 1)], dataset[SampleKey(0, 5, 1)])
    assert not same(dataset[SampleKey(0, 5, 1)], dataset[SampleKey(0, 6, 1)])
    assert not same(dataset[SampleKey(0, 5, 1)], dataset[SampleKey(0, 5, 2)])


def test_plain_index_takes_its_luck_from_the_module_random(folders):
    dataset = PairedImageDataset(options(folders, "train"))
    random.seed(1)
    first, second = dataset[0], dataset[0]
    random.seed(1)
    assert same(dataset[0], first)
    assert not same(first, second)


@pytest.mark.parametrize(("switch", "count"), [("use_hflip", 2), ("use_rot", 4), (None, 1)])
def test_flip_and_turn_are_switches(folders, switch, count):
    opt = options(folders, "train", use_hflip=switch == "use_hflip", use_rot=switch == "use_rot")
    (folders / "square").mkdir(exist_ok=True)
    write_image(folders / "square" / "x.png", read_image(folders / "gt" / "coffee.png")[:32, :32])
    dataset = PairedImageDataset({**opt, "dataroot_gt": str(folders / "square"), "dataroot_lq": None})
    seen = {dataset[SampleKey(0, position)]["gt"].numpy().tobytes() for position in range(40)}
    assert len(seen) == count


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize("cache", ["none", "memory"])
@pytest.mark.parametrize("way", [{"dataroot_lq": None}, {"lq_on_the_fly": True}])
def test_lq_made_on_the_fly_equals_the_files(folders, phase, cache, way):
    from_files = PairedImageDataset(options(folders, phase))
    made = PairedImageDataset(options(folders, phase, cache=cache, **way))
    for position in range(6):
        key = SampleKey(position % 3, position)
        assert same(made[key], from_files[key])
    assert made[0]["lq_path"] == made[0]["gt_path"]


def test_on_the_fly_crops_gt_to_the_scale(folders):
    dataset = PairedImageDataset(options(folders, dataroot_lq=None, scale=5))
    assert dataset[0]["gt"].shape == (3, 70, 95)
    assert dataset[0]["lq"].shape == (3, 14, 19)


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize("dataroot_lq", ["lq", None])
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cache_changes_nothing_and_reads_once(folders, phase, dataroot_lq, cache, monkeypatch):
    root = str(folders / dataroot_lq) if dataroot_lq else None
    plain = PairedImageDataset(options(folders, phase, dataroot_lq=root))
    cached = PairedImageDataset(options(folders, phase, dataroot_lq=root, cache=cache))
    cached.preload(2)
    monkeypatch.setattr(cached, "_read_gt", None)
    monkeypatch.setattr(cached, "_read_lq", None)
    for position in range(6):
        assert same(cached[SampleKey(position % 3, position)], plain[SampleKey(position % 3, position)])


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_forked_processes_that_fill_a_cache_get_what_they_ask_for(folders, cache):
    plain, cached = (PairedImageDataset(options(folders, "val", cache=way)) for way in ("none", cache))
    asked = [0, 1, 2, 2, 1, 0] * 2
    loader = torch.utils.data.DataLoader(cached, sampler=asked, batch_size=None, num_workers=2)
    assert all(torch.equal(got["gt"], plain[item]["gt"]) for got, item in zip(loader, asked, strict=True))


def test_cache_that_does_not_fit_is_refused_before_memory_runs_out(folders, monkeypatch):
    monkeypatch.setattr(picture_cache, "available_memory", lambda: 1000)
    monkeypatch.setattr(picture_cache, "_PROBED", 1)
    with pytest.raises(DataError, match=r"cache: memory of dataset test needs .*set cache: disk"):
        PairedImageDataset(options(folders, cache="memory")).preload()
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"cache: disk of dataset test needs .*another folder \(TMPDIR\)"):
        PairedImageDataset(options(folders, cache="disk")).preload()


def test_cache_on_a_disk_that_becomes_full_is_one_line(folders, monkeypatch):
    dataset = PairedImageDataset(options(folders, cache="disk"))
    dataset.cache._held._file = open("/dev/full", "wb")
    with pytest.raises(DataError, match=r"cache: disk of dataset test: cannot write in .* \(No space left on device\)"):
        dataset.preload()
    with contextlib.suppress(OSError):
        dataset.cache._held._file.close()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_cache_on_disk_is_one_mapped_file_without_a_name(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = PairedImageDataset(options(folders, cache="disk"))
    before = set(tmp_path.iterdir())
    dataset.preload(2)
    items = [dataset[SampleKey(index, index)] for index in range(len(dataset))]
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if f"{tmp_path}/" in line]
    assert len(maps) == 1
    assert maps[0].endswith("(deleted)")
    assert maps[0].split()[1] == "rw-s"
    assert set(tmp_path.iterdir()) == before
    again = pickle.loads(pickle.dumps(dataset))  # as a spawned loading process gets it
    assert all(same(again[SampleKey(index, index)], item) for index, item in enumerate(items))


def test_available_memory_is_bounded_by_the_container(monkeypatch):
    assert host_memory.available_memory() > 1e8
    monkeypatch.setattr(host_memory, "container_bytes", lambda: 12345)
    assert picture_cache.available_memory() == 12345


def test_databases_give_what_folders_give(folders):
    databases = {f"dataroot_{kind}": str(folders / f"{kind}.lmdb") for kind in ("gt", "lq")}
    from_folder = PairedImageDataset(options(folders, "train"))
    from_database = PairedImageDataset(options(folders, "train", io_backend={"type": "lmdb"}, **databases))
    for position in range(3):
        assert same(from_database[SampleKey(position, position)], from_folder[SampleKey(position, position)])
    assert from_database[0]["gt_path"] == "astronaut"


def test_16_bit_pictures_keep_their_depth(folders, tmp_path):
    deep = read_image(folders / "gt" / "coffee.png").astype(np.uint16) * 257 + 5
    write_image(tmp_path / "gt" / "x.png", deep)
    item = PairedImageDataset(options(tmp_path, dataroot_lq=None))[0]
    assert torch.equal(item["gt"], image_to_tensor(deep))


def test_val_crops_gt_to_lq(folders, tmp_path):
    write_image(tmp_path / "gt" / "x.png", read_image(folders / "gt" / "coffee.png")[:71, :95])
    write_image(tmp_path / "lq" / "x.png", read_image(folders / "lq" / "coffee.png")[:35, :47])
    assert PairedImageDataset(options(tmp_path))[0]["gt"].shape == (3, 70, 94)


@pytest.mark.parametrize("kind", ["none", "memory", "disk", "lmdb"])
@pytest.mark.parametrize("scale", [2, 3])
def test_pictures_of_odd_sizes_train_as_if_they_were_cropped_first(tmp_path, photo, kind, scale):
    for number, name in enumerate(PHOTOS):
        write_image(tmp_path / "gt" / f"{name}.png", photo(name)[50 : 50 + 73 + number, 60 : 60 + 97 - number])
    prepare = {"scale": scale, "filename_tmpl": "{}", "num_processes": 1, "progress": False}
    prepare_bicubic(tmp_path / "gt", tmp_path / "lq", cropped_hr_folder=tmp_path / "cropped", **prepare)
    changed = {"scale": scale, "gt_size": 36}
    cropped = PairedImageDataset(options(tmp_path, "train", dataroot_gt=str(tmp_path / "cropped"), **changed))
    if kind == "lmdb":
        for side in ("gt", "lq"):
            prepare_lmdb(tmp_path / side, tmp_path / f"{side}.lmdb", num_processes=1, progress=False)
            changed[f"dataroot_{side}"] = str(tmp_path / f"{side}.lmdb")
        changed["io_backend"] = {"type": "lmdb"}
    else:
        changed["cache"] = kind
    dataset = PairedImageDataset(options(tmp_path, "train", **changed))
    dataset.preload()
    for position in range(12):
        key = SampleKey(position % 3, position)
        assert same(dataset[key], cropped[key])


@pytest.mark.parametrize(("phase", "rows"), [("val", 29), ("val", 38), ("train", 35), ("train", 37)])
def test_sizes_that_do_not_fit_name_both_files_and_sizes(folders, tmp_path, phase, rows):
    write_image(tmp_path / "gt" / "x.png", read_image(folders / "gt" / "chelsea.png")[:72])
    lq = read_image(folders / "lq" / "coffee.png")
    write_image(tmp_path / "lq" / "x.png", lq[:rows])
    rows = min(rows, lq.shape[0])
    message = rf"gt .*gt/x\.png \(96x72\) is not 2 times as large as lq .*lq/x\.png \(48x{rows}\).*prepare bicubic"
    with pytest.raises(DataError, match=message):
        PairedImageDataset(options(tmp_path, phase, gt_size=32))[0]


@pytest.mark.parametrize("changed", [{}, {"dataroot_lq": None}, {"cache": "memory"}])
def test_picture_smaller_than_the_patch_is_named(folders, changed):
    changed = {"gt_size": 80} | changed
    with pytest.raises(DataError, match=r"astronaut\.png \(96x72\) is smaller than gt_size \(=80\).*lower gt_size"):
        PairedImageDataset(options(folders, "train", **changed))[0]


@pytest.mark.parametrize("changed", [{}, {"dataroot_lq": None}, {"cache": "memory"}])
def test_pictures_smaller_than_the_patch_are_left_out_on_demand(folders, tmp_path, changed, caplog):
    shutil.copytree(folders / "gt", tmp_path / "gt")
    shutil.copytree(folders / "lq", tmp_path / "lq")
    write_image(tmp_path / "gt" / "small.png", read_image(folders / "gt" / "chelsea.png")[:30])
    write_image(tmp_path / "lq" / "small.png", read_image(folders / "lq" / "chelsea.png")[:15])
    dataset = PairedImageDataset(options(tmp_path, "train", gt_size=32, skip_small=True, **changed))
    names = {Path(pair.gt).name for pair in dataset.pairs}
    assert names == {path.name for path in (folders / "gt").iterdir()}
    assert f"1 of {len(names) + 1} pictures are smaller than gt_size (=32): left out" in caplog.text
    assert dataset[len(names) - 1]["gt"].shape[1:] == (32, 32)
    with pytest.raises(DataError, match=r"all pictures .* are smaller than gt_size \(=500\)"):
        PairedImageDataset(options(tmp_path, "train", gt_size=500, skip_small=True, **changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataroot_gt": "none"}, "folder none does not exist"),
        ({"gt_size": None}, "needs gt_size"),
        ({"gt_size": 33}, r"gt_size \(=33\).*multiple of scale \(=2\): set gt_size: 32"),
        ({"dataroot_gt": None}, "needs dataroot_gt"),
        ({"mean": [0.5]}, r"mean \(=\[0\.5\]\).*must have 3 numbers"),
        ({"color": "y", "mean": [0.5] * 3}, "must have 1 numbers"),
        ({"std": [1, 0, 1]}, "must not hold 0"),
        ({"io_backend": {"type": "memcached"}}, r"io_backend type \(=memcached\).*use disk or lmdb"),
        ({"io_backend": {"type": "lmdb"}}, r"not named \.lmdb"),
        ({"enlarge_small": True}, r"enlarge_small .* leave dataroot_lq out.* or take skip_small"),
        ({"enlarge_small": True, "skip_small": True}, r"enlarge_small .* leave dataroot_lq out"),
    ],
)
def test_options_that_do_not_fit_say_the_remedy(folders, changed, message):
    with pytest.raises(DataError, match=message):
        PairedImageDataset(options(folders, "train", **changed))


def test_empty_folder_is_named(folders, tmp_path):
    with pytest.raises(DataError, match="holds no picture"):
        PairedImageDataset(options(folders, dataroot_gt=str(tmp_path)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lq_on_the_fly": True}, "dataroot_lq is ignored"),
        ({"io_backend": {"type": "lmdb"}, "meta_info_file": "x"}, "meta_info_file is ignored"),
        ({"io_backend": {"type": "lmdb"}, "filename_tmpl": "{}x2"}, "filename_tmpl is ignored"),
    ],
)
def test_ignored_options_are_warned_of(folders, changed, message, caplog):
    if "io_backend" in changed:
        changed |= {f"dataroot_{kind}": str(folders / f"{kind}.lmdb") for kind in ("gt", "lq")}
    PairedImageDataset(options(folders, **changed))
    assert message in caplog.text


def test_single_pictures(folders):
    opt = {"name": "lr", "dataroot_lq": str(folders / "lq"), "phase": "test", "scale": 2}
    dataset = SingleImageDataset(opt)
    item = dataset[1]
    assert len(dataset) == 3
    assert torch.equal(item["lq"], image_to_tensor(read_image(folders / "lq" / "chelsea.png")))
    assert item["lq_path"] == str(folders / "lq" / "chelsea.png")
    cached = SingleImageDataset({**opt, "cache": "memory"})
    cached.preload()
    assert torch.equal(cached[1]["lq"], item["lq"])
    database = SingleImageDataset({**opt, "dataroot_lq": str(folders / "lq.lmdb"), "io_backend": {"type": "lmdb"}})
    assert torch.equal(database[1]["lq"], item["lq"])
    assert len(SingleImageDataset({**opt, "meta_info_file": str(folders / "list.txt")})) == 2
    assert SingleImageDataset({**opt, "color": "y"})[0]["lq"].shape[0] == 1
    with pytest.raises(DataError, match="needs dataroot_lq"):
        SingleImageDataset({"name": "lr"})


def test_single_pictures_are_taken_from_folders_below_on_demand(folders, tmp_path):
    shutil.copytree(folders / "lq", tmp_path / "lq" / "below")
    opt = {"name": "lr", "dataroot_lq": str(tmp_path / "lq"), "phase": "test", "scale": 2}
    assert len(SingleImageDataset({**opt, "recursive": True})) == 3
    with pytest.raises(DataError, match="holds no picture"):
        SingleImageDataset(opt)


def test_imagenet_dataset_enlarges_small_pictures(folders):
    register_package()
    opt = options(folders, "train", gt_size=80, dataroot_lq=str(folders / "gt"))
    dataset = DATASET_REGISTRY.get("ImageNetPairedDataset")(opt)
    item = dataset[SampleKey(0, 0)]
    assert item["gt"].shape == (3, 80, 80)
    assert is_pair(item)


def test_recursive_takes_the_pictures_of_folders_below(tmp_path, photo):
    for name in ("astronaut", "chelsea"):
        gt = photo(name)[:40, :40]
        write_image(tmp_path / "gt" / name[0] / f"{name}.png", gt)
        write_image(tmp_path / "lq" / name[0] / f"{name}.png", downsample(gt, 2))
    write_image(tmp_path / "gt" / "coffee.png", photo("coffee")[:40, :40])
    write_image(tmp_path / "lq" / "coffee.png", downsample(photo("coffee")[:40, :40], 2))
    assert len(PairedImageDataset(options(tmp_path))) == 1
    dataset = PairedImageDataset(options(tmp_path, recursive=True))
    assert [pair.gt[len(str(tmp_path)) :] for pair in dataset.pairs] == [
        "/gt/a/astronaut.png",
        "/gt/c/chelsea.png",
        "/gt/coffee.png",
    ]
    assert all(np.array_equal(downsample(read_image(pair.gt), 2), read_image(pair.lq)) for pair in dataset.pairs)
