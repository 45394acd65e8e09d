"""net_g_best.pth: which metric decides, what stands in it, and whose it is after a run went on or began anew."""

import shutil
from pathlib import Path

import pytest
import torch

from hriusr.engine import training_run
from hriusr.engine.best_weights import choose_metrics
from hriusr.engine.train_loop import train
from hriusr.errors import OptionsError
from hriusr.metrics.report import PictureRow


class TestBest:
    def test_best_weights_tell_their_metric_and_equal_those_of_their_iteration(self, run_opt):
        summary = train(run_opt(logger__save_checkpoint_freq=2, val__val_freq=2))
        best = torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)
        record = summary.best["first"]["psnr"]
        told = {"dataset": "first", "label": "psnr", "value": record["val"], "better": "higher"}
        assert best["metadata"] == {"iteration": record["iter"], "metric": told}
        saved = torch.load(f"experiments/tiny/models/net_g_{record['iter']}.pth", weights_only=True)
        assert all(torch.equal(best["params_ema"][name], saved["params_ema"][name]) for name in saved["params_ema"])

    def test_option_names_the_metric(self, run_opt):
        train(run_opt(val__best_metric="second/ssim", train__total_iter=4))
        metadata = torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)["metadata"]
        assert (metadata["metric"]["dataset"], metadata["metric"]["label"]) == ("second", "ssim")

    def test_worse_weights_do_not_replace_better_ones(self, run_opt, monkeypatch):
        values = iter([30.0, 30.0, 29.0, 31.0])  # two sets, at 4 and at 8

        def measure(*_, dataset_name, **__):
            return [PictureRow(dataset_name, "a", 8, 8, {"psnr": next(values), "ssim": 0.5}, {}, 0.1)]

        monkeypatch.setattr(training_run, "validate", measure)
        train(run_opt())
        assert torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)["metadata"]["iteration"] == 4

    def test_unknown_metric_is_named(self):
        with pytest.raises(OptionsError, match=r"val\.best_metric .='lpips'. is none of a/psnr, b/psnr"):
            choose_metrics("lpips", ["a", "b"], ["psnr"])
        assert choose_metrics(None, ["a"], []) == []
        assert choose_metrics("b/psnr", ["a", "b"], ["psnr"]) == [("b", "psnr")]

    def test_set_without_ground_truth_does_not_decide(self, run_opt):
        opt = run_opt(train__total_iter=4)
        opt["datasets"]["val_1"] = {"name": "first", "phase": "val", "type": "SingleImageDataset"}
        opt["datasets"]["val_1"] |= {"dataroot_lq": "lq", "scale": 2}
        train(opt)
        metadata = torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)["metadata"]
        assert (metadata["metric"]["dataset"], metadata["metric"]["label"]) == ("second", "psnr")


@pytest.fixture
def one_set(run_opt, monkeypatch):
    """Return a function: PSNR of each validation to come -> options of a run that validates every second step."""

    def make(*values):
        values = iter(values)

        def measure(*_, dataset_name, **__):
            return [PictureRow(dataset_name, "a", 8, 8, {"psnr": next(values), "ssim": 0.5}, {}, 0.1)]

        monkeypatch.setattr(training_run, "validate", measure)
        opt = run_opt(train__total_iter=4, val__val_freq=2)
        del opt["datasets"]["val_2"]
        return opt

    return make


def iteration_of_best():
    return torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)["metadata"]["iteration"]


@pytest.mark.parametrize(("is_there", "iteration"), [(True, 2), (False, 8)])
def test_best_of_the_run_that_a_state_is_of_is_taken_over_with_its_weights(one_set, is_there, iteration):
    opt = one_set(31.0, 30.0, 30.0, 29.0, 30.0)  # at 2 and 4, then at 4, 6 and 8
    train(opt)
    shutil.move("experiments/tiny", "first")
    if not is_there:
        Path("first/models/net_g_best.pth").unlink()
    opt["path"]["resume_state"], opt["train"]["total_iter"] = "first/training_states/4.state", 8
    assert iteration == train(opt).best["first"]["psnr"]["iter"] == iteration_of_best()
    if is_there:
        assert Path("experiments/tiny/models/net_g_best.pth").samefile("first/models/net_g_best.pth")


def kill_after_validation(opt, at, monkeypatch):
    """Train until the best weights of a validation are written, but no further state."""

    class Killed(BaseException):
        pass

    original = training_run.TrainingRun._save_best

    def save_best(run):
        original(run)
        if run.state.iteration == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training_run.TrainingRun, "_save_best", save_best)
        with pytest.raises(Killed):
            train(opt)


def test_best_of_an_attempt_given_up_is_set_aside(one_set, monkeypatch, capsys):
    opt = one_set(31.0, 30.0, 33.0, 30.0, 30.0)  # at 2, 4 and 6, then with another rate at 4 and 6
    opt["train"]["total_iter"] = 8
    kill_after_validation(opt, 6, monkeypatch)
    assert iteration_of_best() == 6
    opt["train"]["optim_g"]["lr"], opt["train"]["total_iter"] = 2e-3, 6
    assert train({**opt, "auto_resume": True}).best["first"]["psnr"]["iter"] == iteration_of_best() == 6
    assert torch.load("experiments/tiny/models/net_g_best.pth", weights_only=True)["metadata"]["metric"]["value"] == 30
    assert Path("experiments/tiny/models/net_g_best.pth.set_aside").is_file()
    told = capsys.readouterr().err
    assert "net_g_best.pth is not the best of what this run goes on from" in told
    assert "of iteration 2, are not there: the next ones count as the best" in told


@pytest.mark.parametrize(
    ("at", "values", "changes"),
    [
        (6, (31.0, 30.0, 33.0, 30.0, 33.0, 29.0), {}),  # at 2, 4 and 6, then at 4, 6 and 8
        (4, (31.0, 33.0, 33.0, 29.0), {"auto_resume": True}),  # at 2 and 4, then at 4, with the same weights, and 6
    ],
    ids=["same command", "another length"],
)
def test_best_of_what_comes_again_stays(one_set, monkeypatch, capsys, at, values, changes):
    opt = one_set(*values)
    opt["train"]["total_iter"] = 8
    kill_after_validation(opt, at, monkeypatch)
    opt["train"]["total_iter"] = 6 if changes else 8
    summary = train({**opt, **changes})
    assert summary.best["first"]["psnr"] == {"better": "higher", "val": 33.0, "iter": at}
    assert summary.best["first"]["ssim"]["iter"] == summary.iteration
    assert iteration_of_best() == at
    assert not Path("experiments/tiny/models/net_g_best.pth.set_aside").exists()
    assert "count as the best" not in capsys.readouterr().err


def test_metric_that_changed_on_the_way_decides_anew(one_set):
    opt = one_set(31.0, 30.0, 30.0, 29.0)  # at 2 and 4, then at 4 and 5
    train(opt)
    opt["val"]["metrics"]["psnr"]["test_y_channel"] = False
    opt["train"]["total_iter"] = 5
    assert train({**opt, "auto_resume": True}).best["first"]["psnr"]["iter"] == iteration_of_best() == 4
