"""A run that was interrupted, killed or asked to stop goes on as if nothing had been: bit for bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from state_comparison import assert_same, assert_same_checkpoint

from hriusr.archs.weights import network_from_weights
from hriusr.atomic_file import torch_bytes
from hriusr.engine import training_run
from hriusr.engine.train_loop import train
from hriusr.errors import WeightsError
from hriusr.models.sr_model import RestorationModel

REPOSITORY = Path(__file__).parents[2]

# steps take long, so that the death of a loading process would hit one
SLOW_RUN = """
import json, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
from hriusr.engine.train_loop import train
from hriusr.models.sr_model import RestorationModel

step = RestorationModel.optimize_parameters
RestorationModel.optimize_parameters = lambda self, iteration: (step(self, iteration), time.sleep(0.3))
train(json.load(open("opt.json")))
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_equals_the_uninterrupted_one(run_opt, precision, num_workers, records):
    changes = {"precision": precision, "datasets__train__num_worker_per_gpu": num_workers}
    train(run_opt(**changes))
    expected = records()
    shutil.move("experiments/tiny", "whole")

    train(run_opt(**changes, train__total_iter=5, logger__save_checkpoint_freq=5))
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


TRAININGS = {
    "schedule-free, spikes left out": {
        "optim_g": {"type": "AdamWScheduleFree", "lr": 1e-3, "weight_decay": 0.1, "no_decay_norm_bias": True},
        "scheduler": {"type": "ConstantLR"},
        "ema_decay": 0,
        "spike_factor": 10.0,
    },
    "Muon, one cycle, growing mean": {
        "optim_g": {"type": "Muon", "lr": 1e-3, "weight_decay": 0.1},
        "scheduler": {"type": "OneCycleLR", "total_steps": 8},
        "ema_warmup": True,
        "ema_start": 2,
    },
    "Adan, rates by name, three losses": {
        "optim_g": {"type": "Adan", "lr": 1e-3, "lr_mult": {"conv_last.*": 0.5}},
        "scheduler": {"type": "LinearLR", "end_factor": 0.1, "total_iters": 8},
        "warmup_start_factor": 0.3,
        "losses": {"fft": {"type": "FFTLoss", "loss_weight": 0.1}, "ssim": {"type": "SSIMLoss", "start_iter": 6}},
    },
}


@pytest.mark.parametrize("name", TRAININGS)
def test_resumed_training_of_every_kind_equals_the_uninterrupted_one(run_opt, name, records):
    changes = {f"train__{key}": value for key, value in TRAININGS[name].items()} | {"logger__print_freq": 1}
    train(run_opt(**changes))
    expected = records()
    shutil.move("experiments/tiny", "whole")

    train(run_opt(**changes, train__total_iter=5, logger__save_checkpoint_freq=5))  # validates once more, at 5
    train(run_opt(**changes, auto_resume=True))
    assert [line for line in records() if line["iter"] != 5 or line["kind"] == "train"] == expected
    assert_best_and_weights_agree("whole", "experiments/tiny")


NETWORKS = {
    "HRIUSR": {"embed_dim": 12, "depths": [2], "num_heads": 2, "low_resolution_depth": 1},
    "HAT": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "squeeze_factor": 3},
    "SwinIR": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8},
    "Swin2SR": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_resumed_run_of_our_networks_equals_the_uninterrupted_one(run_opt, name):
    changes = {"network_g": {"type": name, "upscale": 2, **NETWORKS[name]}, "precision": "bf16", "val": None}
    changes |= {"logger__save_checkpoint_freq": 2, "train__total_iter": 4, "datasets__train__gt_size": 32}
    summary = train(run_opt(**changes))
    shutil.move("experiments/tiny", "whole")
    Path("experiments/tiny").mkdir(parents=True)
    for kind in ("models/net_g_2.pth", "training_states/2.state"):
        Path("experiments/tiny", kind).parent.mkdir()
        shutil.copyfile(Path("whole", kind), Path("experiments/tiny", kind))
    train(run_opt(**changes, auto_resume=True))
    assert_same_checkpoint("whole", "experiments/tiny", summary.iteration)
    assert network_from_weights("whole/models/net_g_4.pth")(torch.rand(1, 3, 9, 7)).shape == (1, 3, 18, 14)


class _Killed(BaseException):
    """Stands for kill -9: nothing that follows is run."""


@pytest.mark.parametrize("during", ["a step", "the checkpoint", "validation"])
def test_run_killed_anywhere_ends_up_the_same(run_opt, monkeypatch, during, records):
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

            def die_between_files(contents, *_):
                path, content = next(iter(contents.items()))
                path.write_bytes(torch_bytes(content)[:2000])
                raise _Killed

            patch.setattr(training_run, "write_files", die_between_files)
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
    assert re.search(r"8\.state (cannot be read|is damaged)(.|\n)*going back to the checkpoint before", errors)
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


def test_finished_run_started_again_with_auto_resume_just_says_so(run_opt, records):
    train(run_opt())
    before = records()
    summary = train(run_opt(auto_resume=True))
    assert (summary.iteration, records()) == (8, before)


def test_longer_run_goes_on_from_a_finished_one(run_opt, records):
    train(run_opt())
    summary = train(run_opt(auto_resume=True, train__total_iter=10))
    assert summary.iteration == 10
    assert [line["iter"] for line in records() if line["kind"] == "train"] == list(range(1, 11))


def test_log_lines_between_checkpoints_survive_a_resume(run_opt, records):
    changes = {"logger__print_freq": 3, "train__total_iter": 9}
    train(run_opt(**changes))
    expected = records()
    train(run_opt(logger__print_freq=3, train__total_iter=4, val=None))
    train(run_opt(auto_resume=True, **changes))
    kept = [line for line in expected if line["kind"] == "train"]
    assert [line for line in records() if line["kind"] == "train"] == kept


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
    assert "start again with the same command" in errors
    assert "Traceback" not in errors
    assert Path(f"experiments/tiny/training_states/{iteration}.state").exists()
    summary = train({**opt, "auto_resume": True, "train": {**opt["train"], "total_iter": iteration + 2}})
    assert summary.iteration == iteration + 2
