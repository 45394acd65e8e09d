"""Testing: published baselines, BasicSR's numbers, reports and pictures, tiles, faults."""

import csv
import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import read_image, write_image
from hriusr.data.loader import build_val_loader
from hriusr.data.matlab_resize import imresize
from hriusr.engine.build import build_dataset, build_model
from hriusr.engine.evaluate import test as run_test
from hriusr.engine.validation import picture_name, validate
from hriusr.errors import DataError, OptionsError, WeightsError
from hriusr.metrics.measure import measure

RESNET = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}


@pytest.fixture
def weights(tmp_path):
    network, ema = build_network(RESNET), build_network(RESNET)
    with torch.no_grad():
        ema.conv_last.weight.normal_(std=0.02)
    save_weights(tmp_path / "net.pth", network, RESNET, ema=ema)
    return str(tmp_path / "net.pth")


def test_run_reports_every_picture_beside_bicubic_and_saves_it(run_opt, weights, capsys):
    (mean,) = run_test(run_opt(is_train=False, path__pretrain_network_g=weights))
    lines = list(csv.DictReader(Path("results/tiny/report.csv").read_text().splitlines()))
    assert [line["image"] for line in lines] == ["astronaut", "chelsea", "coffee", "mean"]
    assert [float(line["psnr_y"]) for line in lines[:3]] != [float(line["bicubic_psnr_y"]) for line in lines[:3]]
    assert float(lines[3]["psnr_y"]) == pytest.approx(np.mean([float(line["psnr_y"]) for line in lines[:3]]))
    assert mean.metrics["psnr_y"] == float(lines[3]["psnr_y"])
    report = json.loads(Path("results/tiny/report.json").read_text())
    assert report["protocol"]["weights"] == weights
    assert report["protocol"]["weights_key"] == "params_ema"
    assert report["protocol"]["metrics"]["psnr_y"]["crop_border"] == 2
    assert "psnr_rgb" in Path("results/tiny/report.md").read_text()
    picture = read_image("results/tiny/visualization/photos/chelsea_tiny.png")
    assert picture.shape == (80, 72, 3)
    captured = capsys.readouterr()
    assert "photos" in captured.out  # the table
    assert "photos (3 pictures): psnr_y" in captured.err


def test_values_equal_those_of_basicsr_validation(run_opt, weights):
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    opt["val"]["metrics"]["psnr_rgb"] = {"type": "calculate_psnr", "crop_border": 2}
    model = build_model(opt)
    loader = build_val_loader(build_dataset("test_1", opt["datasets"]["test_1"]))
    rows = validate(model, loader, dataset_name="photos", metrics_opt=opt["val"]["metrics"])
    model.nondist_validation(loader, 0, None, save_img=False)  # BasicSR's own loop, inherited
    for label, value in model.metric_results.items():
        assert np.mean([row.metrics[label] for row in rows]) == pytest.approx(value, abs=1e-9)


def published_bicubic(folder, scale):
    """Measure bicubic on Set5 as SRCNN did: Y alone, resized in floating point, rounded at the end."""
    values = []
    for path in sorted(folder.iterdir()):
        gt_HWC = read_image(path)
        height, width = (side // scale * scale for side in gt_HWC.shape[:2])
        y_HW = np.round(gt_HWC[:height, :width] @ np.array([65.481, 128.553, 24.966]) / 255 + 16)
        enlarged_HW = imresize(imresize(y_HW / 255, scale=1 / scale), size=(height, width)) * 255
        metric_opt = {"type": "calculate_psnr", "crop_border": scale}
        values.append(measure(np.round(enlarged_HW)[..., None], y_HW[..., None], {"psnr": metric_opt})["psnr"])
    return np.mean(values)


@pytest.mark.parametrize(("scale", "published", "ours"), [(2, 33.66, 33.67), (3, 30.39, 30.40), (4, 28.42, 28.43)])
def test_bicubic_on_set5_is_the_published_one(run_opt, shared_data, scale, published, ours):
    set5 = shared_data / "benchmarks" / "Set5"
    assert round(published_bicubic(set5 / "HR", scale), 2) == published

    opt = run_opt(is_train=False, scale=scale, val__metrics=None, val__save_img=False)
    opt["network_g"] = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": scale}
    opt["datasets"]["test_1"].update(
        scale=scale,
        dataroot_gt=str(set5 / "HR"),
        dataroot_lq=str(set5 / "LR_bicubic" / f"X{scale}"),
        filename_tmpl=f"{{}}x{scale}",
    )
    (mean,) = run_test(opt)
    # from the official 8-bit RGB files, and Y not rounded: a hundredth more
    assert round(mean.bicubic["psnr_y"], 2) == ours


def test_ending_of_saved_pictures_is_the_suffix(run_opt, weights):
    run_test(run_opt(is_train=False, path__pretrain_network_g=weights, val__suffix="x2"))
    assert Path("results/tiny/visualization/photos/coffee_x2.png").exists()


def test_pictures_are_not_saved_unasked(run_opt, weights):
    run_test(run_opt(is_train=False, path__pretrain_network_g=weights, val__save_img=False))
    assert not Path("results/tiny/visualization").exists()


@pytest.mark.parametrize("has_gt", [True, False])
def test_pictures_that_differ_in_their_ending_alone_are_all_saved(run_opt, weights, has_gt):
    write_image("gt/chelsea.bmp", read_image("gt/coffee.png"))
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    dataset_opt = opt["datasets"]["test_1"]
    del dataset_opt["dataroot_lq"]
    if not has_gt:
        dataset_opt.update(type="SingleImageDataset", dataroot_lq=dataset_opt.pop("dataroot_gt"))
    run_test(opt)
    names = sorted(path.name for path in Path("results/tiny/visualization/photos").iterdir())
    assert names == ["astronaut_tiny.png", "chelsea.bmp_tiny.png", "chelsea.png_tiny.png", "coffee_tiny.png"]


def test_several_sets_with_and_without_ground_truth(run_opt, weights):
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    opt["datasets"]["test_2"] = {"name": "own", "phase": "test", "type": "SingleImageDataset", "dataroot_lq": "lq"}
    opt["datasets"]["test_2"]["scale"] = 2
    first, second = run_test(opt)
    assert (first.dataset, second.dataset) == ("photos", "own")
    assert second.metrics == {}
    assert second.num_pictures == 3
    assert Path("results/tiny/visualization/own/chelsea_tiny.png").exists()


def test_tiled_test_agrees_with_the_whole(run_opt, weights):
    whole = run_test(run_opt(is_train=False, path__pretrain_network_g=weights))
    tiled = run_test(
        run_opt(
            is_train=False, path__pretrain_network_g=weights, tile={"tile_size": 16, "tile_pad": 16, "batch_size": 2}
        )
    )
    assert tiled[0].metrics == pytest.approx(whole[0].metrics, abs=1e-4)
    assert json.loads(Path("results/tiny/report.json").read_text())["protocol"]["tile"]["tile_size"] == 16


def test_precision_is_respected(run_opt, weights):
    values = [
        run_test(run_opt(is_train=False, path__pretrain_network_g=weights, precision=precision))[0].metrics["psnr_y"]
        for precision in ("fp32", "bf16")
    ]
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], abs=0.3)


def test_weights_key_decides_what_is_tested(run_opt, weights):
    values = [
        run_test(run_opt(is_train=False, path__pretrain_network_g=weights, path__param_key_g=key))[0].metrics["psnr_y"]
        for key in ("params", "params_ema")
    ]
    assert values[0] != values[1]


def test_results_of_an_earlier_test_are_kept(run_opt, weights):
    for _ in range(2):
        run_test(run_opt(is_train=False, path__pretrain_network_g=weights))
    assert len(list(Path("results").glob("tiny_archived_*"))) == 1


def test_window_network_of_basicsr_takes_any_size(run_opt):
    importlib.import_module("hriusr.basicsr_bridge")
    network_opt = {"type": "SwinIR", "img_size": 16, "window_size": 8, "depths": [2], "num_heads": [2], "embed_dim": 12}
    opt = run_opt(is_train=False, network_g={**network_opt, "upscale": 2, "upsampler": "pixelshuffledirect"})
    model = build_model(opt)
    assert model.upscale(torch.rand(1, 3, 13, 21)).shape == (1, 3, 26, 42)


class TestFaults:
    def test_missing_weights_are_named_before_anything_is_written(self, run_opt):
        with pytest.raises(WeightsError, match=r"weights none\.pth: not there"):
            run_test(run_opt(is_train=False, path__pretrain_network_g="none.pth"))
        assert not Path("results").exists()

    def test_untrained_network_is_warned_of(self, run_opt, capsys):
        run_test(run_opt(is_train=False))
        assert "an untrained network is tested" in capsys.readouterr().err

    def test_run_without_test_set_is_refused(self, run_opt):
        with pytest.raises(OptionsError, match="no test set"):
            run_test(run_opt(is_train=False, datasets={}))

    def test_two_sets_of_one_name_are_refused(self, run_opt):
        opt = run_opt(is_train=False)
        opt["datasets"]["test_2"] = dict(opt["datasets"]["test_1"])
        with pytest.raises(OptionsError, match="two test sets are called 'photos'"):
            run_test(opt)

    def test_network_of_another_scale_is_named(self, run_opt):
        opt = run_opt(is_train=False, network_g={**RESNET, "upscale": 4})
        with pytest.raises(DataError, match="photos/astronaut: the result is 144x160x3, the ground truth 72x80x3"):
            run_test(opt)


@pytest.mark.parametrize(
    ("path", "dataset_opt", "name"),
    [
        ("sets/hr/baby.png", {"dataroot_gt": "sets/hr"}, "baby"),
        ("sets/hr/a/1.v2.png", {"dataroot_lq": None, "dataroot_gt": "sets/hr"}, "a/1.v2"),
        ("sets/lr/a/1.png", {"dataroot_lq": "sets/lr", "dataroot_gt": "sets/hr"}, "a/1"),
        ("elsewhere/1.png", {"dataroot_gt": "sets/hr"}, "1"),
        ("p.1", {"dataroot_gt": "hr.lmdb", "io_backend": {"type": "lmdb"}}, "p.1"),
    ],
)
def test_pictures_of_a_set_have_names_of_their_own(path, dataset_opt, name):
    assert picture_name(path, dataset_opt) == name


def test_pictures_of_folders_below_do_not_overwrite_each_other(run_opt, weights):
    for folder in ("a", "b"):
        shutil.copytree("gt", f"both/{folder}")
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    opt["datasets"]["test_1"].update(dataroot_gt="both", dataroot_lq=None, recursive=True)
    run_test(opt)
    assert len(list(Path("results/tiny/visualization/photos").rglob("chelsea_tiny.png"))) == 2


def test_normalised_pictures_are_measured_and_saved_as_they_were(run_opt, weights):
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    rows = {}
    for name, changes in (("plain", {}), ("normalised", {"mean": [0.4, 0.45, 0.5], "std": [0.5, 0.25, 0.2]})):
        dataset_opt = {**opt["datasets"]["test_1"], **changes}
        loader = build_val_loader(build_dataset("test_1", dataset_opt))
        model = build_model(opt)
        model.upscale = lambda lq_BCHW: torch.nn.functional.interpolate(lq_BCHW, scale_factor=2)
        rows[name] = validate(model, loader, dataset_name="photos", metrics_opt=opt["val"]["metrics"])
    for plain, normalised in zip(rows["plain"], rows["normalised"], strict=True):
        assert normalised.metrics == pytest.approx(plain.metrics, abs=1e-3)


def test_what_no_picture_can_be_measured_by_is_an_error_behind_the_report(run_opt, weights, capsys):
    opt = run_opt(is_train=False, path__pretrain_network_g=weights)
    opt["val"]["metrics"]["niqe"] = {"type": "calculate_niqe", "crop_border": 2}
    with pytest.raises(DataError, match="photos: no picture could be measured by niqe; the warnings above say why"):
        run_test(opt)
    told = "photos/astronaut: val.metrics.niqe cannot be measured on a picture of 72x80 with crop_border 2"
    assert told in " ".join(capsys.readouterr().err.split())
    assert json.loads(Path("results/tiny/report.json").read_text())["means"][0]["psnr_y"] > 20


def test_small_picture_is_left_out_of_the_mean(run_opt, weights, capsys):
    for folder, side in (("gt", 10), ("lq", 5)):
        write_image(
            Path(folder, "tiny.png"), np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        )
    (mean,) = run_test(run_opt(is_train=False, path__pretrain_network_g=weights))
    rows = json.loads(Path("results/tiny/report.json").read_text())["pictures"]
    values = [row["ssim_y"] for row in rows]
    assert values.count(None) == 1
    assert mean.metrics["ssim_y"] == pytest.approx(np.mean([value for value in values if value is not None]))
    assert mean.metrics["psnr_y"] == pytest.approx(np.mean([row["psnr_y"] for row in rows]))
    words = " ".join(capsys.readouterr().err.split())
    assert "photos/tiny: val.metrics.ssim_y cannot be measured on a picture of 10x10 with crop_border 2" in words
    assert "photos: ssim_y is the mean of 3 of 4 pictures" in words


def test_weights_that_give_nan_are_no_result(run_opt, weights, tmp_path, capsys):
    content = torch.load(weights, weights_only=True)
    broken = {
        key: {name: tensor * torch.nan for name, tensor in content[key].items()} for key in ("params", "params_ema")
    }
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(DataError, match="no picture could be measured by psnr_y"):
        run_test(run_opt(is_train=False, path__pretrain_network_g=str(tmp_path / "nan.pth")))
    assert "photos/astronaut: the network's output is NaN or infinite" in " ".join(capsys.readouterr().err.split())
