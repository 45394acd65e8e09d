"""Every file under options/ loads as train.py or test.py would load it, with the real networks, losses and metrics."""

import re
from pathlib import Path

import pytest
import yaml

from hriusr.archs.registry import complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.engine.registered import registered_components
from hriusr.errors import OptionsError
from hriusr.options import load_options
from hriusr.options.inheritance import read_with_bases

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "options").rglob("*.yml"))
# files without a network are for others to inherit
RUNNABLE = [path for path in FILES if {"type", "upscale"} <= read_with_bases(path).values.get("network_g", {}).keys()]


def _make_what_it_names(values: dict, root: Path) -> None:
    """Make empty folders and files at every path that an option file names."""
    for dataset in values["datasets"].values():
        for key in ("dataroot_gt", "dataroot_lq") if dataset else ():
            if dataset.get(key):
                (root / dataset[key]).mkdir(parents=True, exist_ok=True)
        if dataset and dataset.get("meta_info_file"):
            (root / dataset["meta_info_file"]).parent.mkdir(parents=True, exist_ok=True)
            (root / dataset["meta_info_file"]).touch()
    weights = values.get("path", {}).get("pretrain_network_g")
    if weights:
        (root / weights).parent.mkdir(parents=True, exist_ok=True)
        (root / weights).touch()


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_file_loads_without_a_word(path, tmp_path, monkeypatch):
    _make_what_it_names(read_with_bases(path).values, tmp_path)
    monkeypatch.chdir(tmp_path)
    is_train = path.parent.name == "train"
    options = load_options(path, is_train=is_train, **registered_components())
    assert options.run.warnings == ()
    assert options.name == path.stem
    assert options.name.endswith(f"_x{options.scale}")
    if not is_train:
        assert options.path.param_key_g == "params_ema", "the running mean is what is to be tested"
        assert all(entry.startswith("test") for entry in options.datasets)


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_named_size_is_the_one_of_the_table(path):
    if path.stem in VARIANTS:
        network_g = read_with_bases(path).values["network_g"]
        assert complete_network_opt(network_g) == complete_network_opt(VARIANTS[path.stem].network_opt())


def test_there_are_files_to_test():
    assert {path.parent.name for path in RUNNABLE} == {"train", "test"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_file_opens_with_what_it_gives(path):
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_test_file_takes_the_weights_of_its_training(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "test":
        assert values["path"]["pretrain_network_g"] == f"experiments/{path.stem}/models/net_g_latest.pth"


def test_hat_x4_after_x2_is_hats_recipe():
    """arXiv:2205.04437, sec. 4.1: the body of x2, half the iterations at half the rate."""
    values = read_with_bases(ROOT / "options/train/hat_x4.yml").values
    train, path = values["train"], values["path"]
    assert (train["total_iter"], float(train["optim_g"]["lr"])) == (250_000, 1e-4)
    assert train["scheduler"]["milestones"] == [125_000, 200_000, 225_000, 240_000]
    assert path["strict_load_g"] is False
    assert path["param_key_g"] == "params_ema"
    assert path["pretrain_network_g"] == "experiments/hat_x2/models/net_g_latest.pth"
    assert values["datasets"]["train"]["gt_size"] == 256  # 64 pixels of the input
    assert values["network_g"]["upscale"] == 4


RESTORATION = [path for path in RUNNABLE if path.stem.endswith("_x1")]


@pytest.mark.parametrize("path", RESTORATION, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_restoration_is_trained_and_measured_on_what_its_name_says(path):
    kind, level, is_grey = re.fullmatch(r"swinir_(noise|jpeg)(\d+)(_grey)?_x1", path.stem).groups()
    values = read_with_bases(path).values
    channel = None if not is_grey else {"noise": "grey", "jpeg": "y"}[kind]
    for dataset in filter(None, values["datasets"].values()):
        assert dataset[{"noise": "lq_noise", "jpeg": "lq_jpeg_quality"}[kind]] == int(level)
        assert dataset.get("color") == channel
        assert dataset["dataroot_lq"] is None
    assert values["network_g"].get("in_chans", 3) == (1 if channel else 3)
    assert list(values["val"]["metrics"]) == ["psnr", "ssim"] + ["psnrb"] * (kind == "jpeg")
    for metric in values["val"]["metrics"].values():
        assert (metric.get("crop_border", 0), metric["test_y_channel"]) == (0, False)


@pytest.mark.parametrize("kind", ["noise15", "noise50", "jpeg40", "jpeg10"])
def test_restoration_recipe_is_swinirs(kind):
    """cszn/KAIR, options/swinir: patches, steps, rates; other levels start at the mildest, halved."""
    values = read_with_bases(ROOT / f"options/train/swinir_{kind}_x1.yml").values
    train, first = values["train"], kind in ("noise15", "jpeg40")
    milestones = [800_000, 1_200_000, 1_400_000, 1_500_000]
    assert train["total_iter"] == (1_600_000 if first else 800_000)
    assert train["scheduler"]["milestones"] == (milestones if first else [step // 2 for step in milestones])
    assert float(train["optim_g"]["lr"]) == (2e-4 if first else 1e-4)
    assert values["datasets"]["train"]["gt_size"] == (128 if "noise" in kind else 126)
    assert values["network_g"]["window_size"] == (8 if "noise" in kind else 7)
    start = {"noise50": "swinir_noise15_x1", "jpeg10": "swinir_jpeg40_x1"}.get(kind)
    weights = values.get("path", {}).get("pretrain_network_g")
    assert weights == (f"experiments/{start}/models/net_g_latest.pth" if start else None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train:aux_opt=~", "train.aux_opt is missing: CompressedSRModel needs it"),
        ("train:aux_opt:type=L1Los", "unknown loss 'L1Los'; did you mean 'L1Loss'"),
        ("datasets:train:lq_jpeg_quality=~", "lq_jpeg_quality is missing: CompressedSRModel compares"),
        ("datasets:train:lq_jpeg_quality=101", "lq_jpeg_quality (=101): must be less than or equal to 100"),
        ("datasets:val:lq_noise=5", "datasets.val has lq_noise (=5) and lq_jpeg_quality (=10): keep one"),
    ],
)
def test_mistake_in_a_compressed_training_is_named(tmp_path, monkeypatch, override, message):
    path = ROOT / "options/train/swin2sr_compressed_x4.yml"
    _make_what_it_names(read_with_bases(path).values, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionsError, match=re.escape(message)):
        load_options(path, is_train=True, overrides=[override], **registered_components())
