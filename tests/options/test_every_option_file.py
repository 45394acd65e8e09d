"""Every pair of files under options/ runs: train one step, validate, save, then test what was saved, on real pictures.

Deep networks run with one block; at their full size they are built without memory and compared with the table.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import write_image
from hriusr.data.matlab_resize import downsample
from hriusr.engine.evaluate import test as run_test
from hriusr.engine.registered import registered_components
from hriusr.engine.train_loop import train
from hriusr.options import load_options
from hriusr.options.inheritance import read_with_bases

ROOT = Path(__file__).resolve().parents[2]
TRAIN_FILES = sorted(
    path
    for path in (ROOT / "options/train").glob("*.yml")
    if {"type", "upscale"} <= read_with_bases(path).values.get("network_g", {}).keys()
)
by_stem = pytest.mark.parametrize("path", TRAIN_FILES, ids=lambda path: path.stem)


@functools.cache
def _values(path: Path) -> dict[str, Any]:
    return read_with_bases(path).values


@functools.cache
def _known_sizes() -> list[tuple[dict[str, Any], int]]:
    """List (complete network_g, parameters) of the table's rows."""
    return [(complete_network_opt(variant.network_opt()), variant.parameters) for variant in VARIANTS.values()]


def _named_parameters(network_g: Mapping[str, Any]) -> int | None:
    """Look up the number of parameters of a named size; None where the size has no row."""
    complete = complete_network_opt(network_g)
    return next((parameters for known, parameters in _known_sizes() if known == complete), None)


def _changes(network_g: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a network quick whose file names its depth: one group of one block. Light sizes of ours run whole."""
    if "depths" not in network_g:
        return {}
    depths, num_heads = network_g["depths"], network_g.get("num_heads")
    if isinstance(depths[0], list):  # HRViT-SR: branches of stages; the last stage has all branches
        return {"depths": [[1 for _ in depths[-1]]]}
    low_resolution = {"low_resolution_depth": 1} if network_g["type"] == "HRIUSR" else {}
    first_heads = {"num_heads": num_heads[:1]} if isinstance(num_heads, list) else {}
    return {"depths": [1], **first_heads, **low_resolution}


def _overrides(values: Mapping[str, Any], is_train: bool) -> list[str]:
    words = [f"network_g:{key}={value}" for key, value in _changes(values["network_g"]).items()]
    words += ["num_gpu=0", "precision=fp32"]
    if is_train:
        words += [
            f"datasets:train:gt_size={16 * values['scale']}",
            "datasets:train:batch_size_per_gpu=1",
            "datasets:train:num_worker_per_gpu=0",
            "datasets:train:cache=none",
            "train:total_iter=1",
            "train:warmup_iter=-1",
            "logger:use_tb_logger=false",
        ]
        if "perceptual_opt" in values["train"]:
            words.append("train:perceptual_opt:required=false")  # its weights are half a gigabyte
        if "accumulation" in values["train"]:
            words.append("train:accumulation=2")
    return words


def _make_pictures(dataset: Mapping[str, Any], scale: int, gt_HWC) -> None:
    """Make the one picture of a dataset, its low-resolution partner and its list, where an option file looks."""
    below = "n01440764" if dataset["type"] == "ImageNetPairedDataset" else ""
    write_image(Path(dataset["dataroot_gt"], below, "photo.png"), gt_HWC)
    if dataset.get("dataroot_lq"):
        name = dataset.get("filename_tmpl", "{}").format("photo")
        write_image(Path(dataset["dataroot_lq"], f"{name}.png"), downsample(gt_HWC, scale))
    if dataset.get("meta_info_file"):
        Path(dataset["meta_info_file"]).parent.mkdir(parents=True, exist_ok=True)
        Path(dataset["meta_info_file"]).write_text("photo.png (96,96,3)\n", encoding="utf-8")


def _make_weights(values: Mapping[str, Any]) -> None:
    """Make the weights that a training starts from: those of the file they are named after."""
    weights = values.get("path", {}).get("pretrain_network_g")
    if weights:
        earlier = _values(ROOT / "options/train" / f"{Path(weights).parts[1]}.yml")["network_g"]
        network_opt = {**earlier, **_changes(earlier)}
        network = build_network(network_opt)
        save_weights(weights, network, network_opt)


@by_stem
def test_file_trains_a_step_and_its_test_file_tests_the_result(path, tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    test_file = path.parents[1] / "test" / path.name
    values, test_values = _values(path), _values(test_file)
    for section in (values, test_values):
        for entry, dataset in section["datasets"].items():
            if dataset:
                side = 96 if entry == "train" else 24
                _make_pictures(dataset, values["scale"], photo("astronaut")[60 : 60 + side, 180 : 180 + side])
    _make_weights(values)
    components = registered_components()
    options = load_options(path, is_train=True, overrides=_overrides(values, True), **components)
    summary = train(options)
    assert summary.iteration == 1
    assert all(0 < value["psnr"] < 100 for value in summary.metrics.values())
    run_test(load_options(test_file, is_train=False, overrides=_overrides(test_values, False), **components))
    assert list(Path("results", path.stem).rglob("*.csv"))
    assert list(Path("results", path.stem).rglob("photo*.png"))


@by_stem
def test_file_builds_a_named_size_of_the_table(path):
    network_g = _values(path)["network_g"]
    assert _named_parameters(network_g), "give the size a row in archs/variants.py"
    with torch.device("meta"):
        network = build_network(network_g)
    assert sum(parameter.numel() for parameter in network.parameters()) == _named_parameters(network_g)


@by_stem
def test_readme_has_a_row_with_the_size_of_the_file(path):
    readme = (ROOT / "options/README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| train/{path.stem}\.yml \| ([\d.]+) M \|", readme, re.MULTILINE)
    assert row, "every training file has a row in options/README.md"
    assert float(row[1]) == pytest.approx(_named_parameters(_values(path)["network_g"]) / 1e6, abs=0.0051)


@pytest.mark.parametrize("path", sorted((ROOT / "options").rglob("*_x[1234].yml")), ids=lambda path: path.name)
def test_runnable_file_says_what_to_expect(path):
    if {"type", "upscale"} <= _values(path).get("network_g", {}).keys():
        assert re.match(r"(# .*\n)*# Expected: ", path.read_text(encoding="utf-8"))
