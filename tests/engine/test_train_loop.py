"""The training loop: what it writes, that a resumed run is the uninterrupted one, how it ends when it cannot go on."""

import json
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hriusr.archs.weights import network_from_weights
from hriusr.engine import training_run
from hriusr.engine.train_loop import train
from hriusr.errors import DataError, HriusrError, OptionsError, WeightsError
from hriusr.models.sr_model import RestorationModel
from hriusr.options import load_options

REPOSITORY = Path(__file__).parents[2]
TIMES = ("it_per_s", "data_share")


def records(folder="experiments/tiny"):
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same_checkpoint(first, second, iteration=8):
    for kind in ("models/net_g_{}.pth", "training_states/{}.state"):
        contents = [torch.load(Path(folder, kind.format(iteration)), weights_only=True) for folder in (first, second)]
        for content in contents:
            content.get("run", {}).pop("seconds", None)
        assert_same(*contents, kind)


def assert_same(first, second, place):
    assert type(first) is type(second), place
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, place
        assert torch.equal(first, second), place
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_same(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), place
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{place}/{number}")
    else:
        assert first == second, place


def test_run_writes_checkpoints_records_log_and_origin(run_opt, caplog):
    summary = train(run_opt(logger__use_tb_logger=True))
    folder = Path("experiments/tiny")
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "net_g_4.pth",
        "net_g_8.pth",
        "net_g_latest.pth",
    ]
    assert sorted(path.name for path in (folder / "training_states").iterdir()) == ["4.state", "8.state"]
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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_equals_the_uninterrupted_one(run_opt, precision, num_workers):
    changes = {"precision": precision, "datasets__train__num_worker_per_gpu": num_workers}
    train(run_opt(**changes))
    expected = records()
    shutil.move("experiments/tiny", "whole")

    train(run_opt(**changes, train__total_iter=5, logger__save_checkpoint_freq=5))
    for later in ("models/net_g_latest.pth",):
        Path("experiments/tiny", later).unlink()
    torch.manual_seed(1)
    train(run_opt(**changes, auto_resume=True))
    resumed = [line for line in records() if line["iter"] != 5 or line["kind"] == "train"]  # 5 was a run's end
    assert resumed == expected
    assert_best_and_weights_agree("whole", "experiments/tiny")


def assert_best_and_weights_agree(first, second):
    states = [torch.load(f"{folder}/training_states/8.state", weights_only=True) for folder in (first, second)]
    for state in states:
        state["run"].pop("seconds")
        state.pop("best_metric_results")  # one run was validated once more, at 5
    assert_same(*states, "state")
    weights = [torch.load(f"{folder}/models/net_g_8.pth", weights_only=True) for folder in (first, second)]
    assert_same(*weights, "weights")


class _Killed(BaseException):
    """Stands for kill -9: nothing that follows is run."""


@pytest.mark.parametrize("during", ["a step", "the checkpoint", "validation"])
def test_run_killed_anywhere_ends_up_the_same(run_opt, monkeypatch, during):
    train(run_opt())
    expected = records()
    shutil.move("experiments/tiny", "whole")

    with monkeypatch.context() as patch:
        if during == "a step":
            original = RestorationModel.optimize_parameters

            def die_in_step_6(self, current_iter):
                if current_iter == 6:
                    raise _Killed
                original(self, current_iter)

            patch.setattr(RestorationModel, "optimize_parameters", die_in_step_6)
        elif during == "the checkpoint":

            def die_between_files(model, iteration, extra):
                (path, content), _ = model.checkpoint_files(0, iteration, extra).items()
                path.write_bytes(content[: len(content) // 2])
                raise _Killed

            patch.setattr(training_run, "save_checkpoint", die_between_files)
        else:

            def die(*_, **__):
                raise _Killed

            patch.setattr(training_run, "validate", die)
        with pytest.raises(_Killed):
            train(run_opt())
    train(run_opt(auto_resume=True))
    assert records() == expected
    assert_same_checkpoint("whole", "experiments/tiny")


def test_damaged_checkpoint_is_passed_over_aloud(run_opt, capsys):
    train(run_opt())
    newest = Path("experiments/tiny/training_states/8.state")
    newest.write_bytes(newest.read_bytes()[:2000])
    train(run_opt(auto_resume=True))
    errors = capsys.readouterr().err
    assert re.search(r"8\.state (cannot be read|is damaged).*going back to the checkpoint before", errors)
    assert "going on from iteration 4" in errors


def test_weights_missing_beside_a_state_are_noticed(run_opt):
    train(run_opt())
    Path("experiments/tiny/models/net_g_4.pth").unlink()
    with pytest.raises(WeightsError, match=r"4\.state has no weights beside it"):
        train(run_opt(path__resume_state="experiments/tiny/training_states/4.state"))


def test_how_often_a_run_validates_does_not_change_what_it_learns(run_opt):
    train(run_opt())
    shutil.move("experiments/tiny", "often")
    train(run_opt(val__val_freq=1000, train__total_iter=8))
    weights = [
        torch.load(f"{folder}/models/net_g_8.pth", weights_only=True) for folder in ("often", "experiments/tiny")
    ]
    assert_same(*weights, "weights")


def test_second_start_keeps_the_first_run(run_opt):
    train(run_opt(train__total_iter=1))
    Path("experiments/tiny/mine.txt").touch()
    train(run_opt(train__total_iter=1))
    (archived,) = Path("experiments").glob("tiny_archived_*")
    assert (archived / "mine.txt").exists()
    assert not Path("experiments/tiny/mine.txt").exists()


def test_finished_run_started_again_with_auto_resume_just_says_so(run_opt):
    train(run_opt())
    before = records()
    summary = train(run_opt(auto_resume=True))
    assert (summary.iteration, records()) == (8, before)


def test_longer_run_goes_on_from_a_finished_one(run_opt):
    train(run_opt())
    summary = train(run_opt(auto_resume=True, train__total_iter=10))
    assert summary.iteration == 10
    assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 11))


def test_accumulation_multiplies_the_batch(run_opt):
    train(run_opt(train__accumulation=2, train__total_iter=2))
    shutil.move("experiments/tiny", "parts")
    train(run_opt(datasets__train__batch_size_per_gpu=4, train__total_iter=2))
    losses = [
        [line["l_pix"] for line in records(folder) if "l_pix" in line] for folder in ("parts", "experiments/tiny")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_log_lines_between_checkpoints_survive_a_resume(run_opt):
    changes = {"logger__print_freq": 3, "train__total_iter": 9}
    train(run_opt(**changes))
    expected = records()
    train(run_opt(logger__print_freq=3, train__total_iter=4, val=None))
    train(run_opt(auto_resume=True, **changes))
    kept = [line for line in expected if line["kind"] == "train"]
    assert [line for line in records() if line["kind"] == "train"] == kept


def test_pictures_of_validation_are_saved_on_wish(run_opt):
    train(run_opt(val__save_img=True, train__total_iter=4))
    assert Path("experiments/tiny/visualization/chelsea/chelsea_4.png").exists()


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

    def test_several_processes_are_refused(self, run_opt):
        with pytest.raises(OptionsError, match="several processes"):
            train(run_opt(dist=True))

    def test_full_disk_stops_the_run_and_keeps_the_older_checkpoint(self, run_opt, monkeypatch):
        original, count = os.fsync, []

        def full_at_the_second_checkpoint(descriptor):
            if ".pth" in os.readlink(f"/proc/self/fd/{descriptor}"):
                count.append(descriptor)
                if len(count) == 2:
                    raise OSError(28, "No space left on device")
            original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_at_the_second_checkpoint)
            with pytest.raises(HriusrError, match=r"of iteration 8 was not saved.*No space left.*--auto_resume"):
                train(run_opt())
        assert sorted(path.name for path in Path("experiments/tiny/training_states").iterdir()) == ["4.state"]
        assert not list(Path("experiments/tiny").rglob("*.tmp"))
        (log,) = Path("experiments/tiny").glob("train_*.log")
        assert "No space left" in log.read_text()

    def test_exception_of_a_step_comes_out(self, run_opt, monkeypatch):
        def fail(*_):
            raise RuntimeError("CUDA error: an illegal memory access")

        monkeypatch.setattr(RestorationModel, "optimize_parameters", fail)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            train(run_opt())

    def test_run_gives_up_after_too_many_steps_that_are_not_finite(self, run_opt, monkeypatch, capsys):
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
        assert "iteration 3: loss or gradient is not finite" in capsys.readouterr().err
        losses = [line["l_pix"] for line in records() if line["kind"] == "train"]
        assert losses[2] is None
        assert all(math.isfinite(loss) for number, loss in enumerate(losses) if number not in (2, 5, 6))


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_up_the_same(run_opt, tmp_path):
    opt = run_opt(train__total_iter=40, datasets__train__num_worker_per_gpu=1, auto_resume=True)
    opt["logger"]["save_checkpoint_freq"] = 3
    opt["val"]["val_freq"] = 10
    train(opt)
    expected = records()
    shutil.move("experiments/tiny", "whole")
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    (tmp_path / "slow.py").write_text(SLOW_RUN.replace("0.3", "0.02"))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    moments = random.Random(1)
    for patience in (*(moments.uniform(0.1, 1.0) for _ in range(6)), 300):
        with subprocess.Popen(
            [sys.executable, "slow.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr:
                if "INFO: steps " in line:
                    break
            try:
                process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
    assert process.returncode == 0
    assert records() == expected
    assert_same_checkpoint("whole", "experiments/tiny", 40)


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


# steps take long, so that the death of a loading process would hit one
SLOW_RUN = """
import json, time
from hriusr.engine.train_loop import train
from hriusr.models.sr_model import RestorationModel

step = RestorationModel.optimize_parameters
RestorationModel.optimize_parameters = lambda self, iteration: (step(self, iteration), time.sleep(0.3))
train(json.load(open("opt.json")))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_says_how_to_go_on(run_opt, number, status, tmp_path):
    opt = run_opt(train__total_iter=100_000, datasets__train__num_worker_per_gpu=1, val=None)
    opt["logger"]["save_checkpoint_freq"] = 100_000
    (tmp_path / "opt.json").write_text(json.dumps(opt))
    (tmp_path / "slow.py").write_text(SLOW_RUN)
    with subprocess.Popen(
        [sys.executable, "slow.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stderr:
            if "[5/" in line:
                os.killpg(process.pid, number)  # the whole group, loading processes too, as a terminal and SLURM do
                break
        errors = process.stderr.read()
        assert process.wait(timeout=60) == status, errors
    iteration = int(re.search(r"stopped by SIG\w+ at iteration (\d+) of 100000", errors).group(1))
    assert "start again with --auto_resume" in errors
    assert "Traceback" not in errors
    assert Path(f"experiments/tiny/training_states/{iteration}.state").exists()
    summary = train({**opt, "auto_resume": True, "train": {**opt["train"], "total_iter": iteration + 2}})
    assert summary.iteration == iteration + 2
