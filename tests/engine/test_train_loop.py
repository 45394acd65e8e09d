"""The training loop: what it writes, and how it ends when it cannot go on."""

import json
import logging
import math
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from hriusr.archs.weights import network_from_weights
from hriusr.engine.train_loop import train
from hriusr.engine.training_run import TrainingRun
from hriusr.errors import DataError, HriusrError, OptionsError, WeightsError
from hriusr.models.left_out_steps import LeftOutStep
from hriusr.models.sr_model import RestorationModel
from hriusr.options import load_options


def test_run_writes_checkpoints_records_log_and_origin(run_opt, caplog, records):
    summary = train(run_opt(logger__use_tb_logger=True))
    folder = Path("experiments/tiny")
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "SHA256SUMS",
        "net_g_4.pth",
        "net_g_8.pth",
        "net_g_best.pth",
        "net_g_latest.pth",
    ]
    assert sorted(path.name for path in (folder / "training_states").iterdir()) == [
        "4.state",
        "8.state",
        "SHA256SUMS",
    ]
    assert network_from_weights(summary.weights)(torch.rand(1, 3, 9, 7)).shape == (1, 3, 18, 14)
    lines = records()
    assert [line["iter"] for line in lines if line["kind"] == "train"] == list(range(1, 9))
    assert [(line["iter"], line["dataset"]) for line in lines if line["kind"] == "validation"] == [
        (4, "first"),
        (4, "second"),
        (8, "first"),
        (8, "second"),
    ]
    assert [line["lr"] for line in lines if line["kind"] == "train"] == pytest.approx(
        [1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-4]
    )
    assert 20 < summary.metrics["first"]["psnr"] < 50
    assert summary.best["first"]["psnr"]["val"] >= summary.metrics["first"]["psnr"]
    assert list(Path("tb_logger/tiny").glob("events*"))
    (log,) = folder.glob("train_tiny_*.log")
    assert "[8/8] l_pix" in log.read_text()
    assert "eta 0:00:" in log.read_text()
    assert json.loads((folder / "versions.json").read_text())["torch"] == torch.__version__.split("+")[0] or "+" in (
        torch.__version__
    )
    assert yaml.safe_load((folder / "options_in_force.yml").read_text())["train"]["total_iter"] == 8
    assert logging.getLogger("hriusr").propagate


def test_second_start_keeps_the_first_run(run_opt):
    train(run_opt(train__total_iter=1))
    Path("experiments/tiny/mine.txt").touch()
    train(run_opt(train__total_iter=1))
    (archived,) = Path("experiments").glob("tiny_archived_*")
    assert (archived / "mine.txt").exists()
    assert not Path("experiments/tiny/mine.txt").exists()


def test_accumulation_multiplies_the_batch(run_opt, records):
    train(run_opt(train__accumulation=2, train__total_iter=2))
    shutil.move("experiments/tiny", "parts")
    train(run_opt(datasets__train__batch_size_per_gpu=4, train__total_iter=2))
    losses = [
        [line["l_pix"] for line in records(folder) if "l_pix" in line] for folder in ("parts", "experiments/tiny")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_pictures_of_validation_are_saved_on_wish(run_opt):
    opt = run_opt(val__save_img=True, train__total_iter=4)
    train(opt)
    folder = Path("experiments/tiny/visualization/chelsea")
    assert sorted(path.name for path in folder.iterdir()) == ["chelsea_first_4.png", "chelsea_second_4.png"]
    del opt["datasets"]["val_2"]
    train(opt)
    assert [path.name for path in folder.iterdir()] == ["chelsea_4.png"]  # as BasicSR


def test_debug_run_writes_no_tensorboard(run_opt):
    train(run_opt(name="debug_tiny", logger__use_tb_logger=True, train__total_iter=1))
    assert not Path("tb_logger").exists()


class TestFaults:
    def test_wrong_data_leaves_the_old_run_alone(self, run_opt):
        train(run_opt(train__total_iter=1))
        with pytest.raises(DataError, match="nowhere"):
            train(run_opt(datasets__train__dataroot_gt="nowhere"))
        assert sorted(path.name for path in Path("experiments").iterdir()) == ["tiny"]

    def test_unknown_names_are_errors_of_the_options(self, run_opt):
        with pytest.raises(OptionsError, match="model_type: 'ESRGANModel' cannot be trained"):
            train(run_opt(model_type="ESRGANModel"))
        with pytest.raises(OptionsError, match="unknown dataset 'Pictures'"):
            train(run_opt(datasets__train__type="Pictures"))
        with pytest.raises(OptionsError, match="unknown metric 'psnr'"):
            train(run_opt(val__metrics={"psnr": {"type": "psnr"}}))
        assert not Path("experiments").exists()

    def test_missing_resume_state_is_named(self, run_opt):
        with pytest.raises(WeightsError, match=r"no training state gone\.state"):
            train(run_opt(path__resume_state="gone.state"))

    def test_processes_that_no_launcher_started_are_refused(self, run_opt):
        with pytest.raises(OptionsError, match=r"where process 0 listens.*torchrun"):
            train(run_opt(dist=True))

    def test_full_disk_stops_the_run_and_keeps_the_older_checkpoint(self, run_opt, monkeypatch):
        original, count = os.fsync, []

        def full_at_the_second_checkpoint(descriptor):
            if "net_g_4.pth" in (name := os.readlink(f"/proc/self/fd/{descriptor}")) or "net_g_8.pth" in name:
                count.append(descriptor)
                if len(count) == 2:
                    raise OSError(28, "No space left on device")
            original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_at_the_second_checkpoint)
            with pytest.raises(
                HriusrError,
                match=r"of iteration 8 was not saved.*No space left.*same command without path:resume_state=new to",
            ):
                train(run_opt(path__resume_state="new"))
        assert [path.name for path in Path("experiments/tiny/training_states").glob("*.state")] == ["4.state"]
        assert not list(Path("experiments/tiny").rglob("*.tmp"))
        (log,) = Path("experiments/tiny").glob("train_*.log")
        assert "No space left" in log.read_text()

    def test_exception_of_a_step_comes_out(self, run_opt, monkeypatch):
        def fail(*_):
            raise RuntimeError("CUDA error: an illegal memory access")

        monkeypatch.setattr(RestorationModel, "optimize_parameters", fail)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            train(run_opt())

    def test_run_gives_up_after_too_many_steps_that_are_not_finite(self, run_opt, monkeypatch, capsys, records):
        original = RestorationModel.feed_data

        def poison(self, data):
            self.calls = getattr(self, "calls", 0) + 1
            original(
                self,
                {**data, "gt": data["gt"] * math.nan} if self.calls in (3, 6, 7, 8) and self.net_g.training else data,
            )

        monkeypatch.setattr(RestorationModel, "feed_data", poison)
        with pytest.raises(
            HriusrError, match=r"3 steps in a row.*max_nonfinite_steps: 3.*checkpoint is .*4\.state.*lr"
        ):
            train(run_opt(train__max_nonfinite_steps=3))
        said = capsys.readouterr().err
        assert "iteration 3: loss or gradient is not finite" in said
        assert re.search(r"its pictures: (gt|lq).\w+\.png, ", said)
        losses = [line["l_pix"] for line in records() if line["kind"] == "train"]
        assert losses[2] is None
        assert all(math.isfinite(loss) for number, loss in enumerate(losses) if number not in (2, 5, 6))


def test_option_file_is_kept_beside_the_options_in_force(run_opt):
    opt = run_opt(train__total_iter=3, val=None)
    for key in ("is_train", "dist", "rank", "world_size", "auto_resume", "root_path"):
        del opt[key]
    opt["path"] = {}
    for dataset_opt in opt["datasets"].values():
        del dataset_opt["phase"], dataset_opt["scale"]
    Path("mine.yml").write_text("# a word of mine\n" + yaml.safe_dump(opt))
    train(load_options("mine.yml", is_train=True))
    assert Path("experiments/tiny/mine.yml").read_text().startswith("# a word of mine")
    assert (
        yaml.safe_load(Path("experiments/tiny/options_in_force.yml").read_text())["train"]["max_nonfinite_steps"] == 100
    )


def test_warning_of_a_step_left_out_counts_what_it_is_about(caplog):
    steps = [LeftOutStep(40, 250.0, ["a.png"]), LeftOutStep(41, float("nan"), ["b.png"])]
    counts = {"consecutive": 1, "total": 5, "spikes": {"total": 3}}
    model = SimpleNamespace(guard_counters=lambda: counts, left_out_steps=SimpleNamespace(take=lambda: steps))
    TrainingRun._check_finite(SimpleNamespace(model=model, state=SimpleNamespace(iteration=41), opt={"train": {}}))
    spike, not_finite = caplog.messages
    assert spike.endswith("its pictures: a.png (spikes: 3 in all)")
    assert not_finite.endswith("its pictures: b.png (not finite: 1 in a row, 5 in all)")
