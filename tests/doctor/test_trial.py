"""One step and one validation for real, and what follows for memory, speed and disk."""

import json
import os
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hriusr.archs.weights import save_weights
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.cli import app
from hriusr.data.degradations.pair_pool import PairPool
from hriusr.doctor import budget, trial
from hriusr.doctor.channels import has_right_channels
from hriusr.doctor.findings import Report
from hriusr.doctor.trial import DataRate, StepCost
from hriusr.engine.build import build_model
from hriusr.engine.registered import registered_components
from hriusr.options import load_options

GAN = (
    "model_type=SRGANModel",
    "network_d={type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 4}",
    "train:optim_d={type: Adam, lr: 1e-4}",
    "train:gan_opt={type: GANLoss, gan_type: vanilla, loss_weight: 0.1}",
)


@pytest.fixture
def tried(diagnose):
    """Return a function: overrides -> report with a trial step."""
    return lambda *overrides: diagnose(*overrides, with_step=True, data_seconds=0.05)


@pytest.fixture
def small(workplace):
    """Return a function: overrides -> (model, options in BasicSR's form) of small.yml."""

    def build(*overrides):
        options = load_options("small.yml", is_train=True, overrides=overrides, **registered_components())
        opt = options.to_basicsr_dict()
        return build_model(opt), opt

    return build


def at(report, place):
    return [finding for finding in report.findings if finding.place == place]


def test_healthy_run_is_tried_and_leaves_nothing_behind(tried, workplace):
    before = sorted(workplace.rglob("*"))
    report = tried()
    assert report.is_healthy
    assert {"step", "memory", "data", "speed", "disk", "validation.held_out"} <= set(report.measured)
    assert 0 < report.measured["step"]["l_pix"] < 1
    assert report.measured["step"]["parameters_without_gradient"] == 0
    assert 5 < report.measured["validation.held_out"]["psnr"] < 60
    assert sorted(workplace.rglob("*")) == before


def test_time_of_the_run_is_steps_and_validations(tried):
    speed = tried().measured["speed"]
    expected = 1000 * speed["seconds_a_step"] + 2 * speed["seconds_a_validation"]
    assert speed["eta_seconds"] == pytest.approx(expected, abs=0.1 * expected + 2)


class HalfUsed(torch.nn.Module):
    """A network with a layer without gradient, one whose gradient is 0, and one behind a layer that starts at 0."""

    def __init__(self, upscale: int = 2):
        super().__init__()
        self.used = torch.nn.Conv2d(3, 3 * upscale**2, 3, padding=1)
        self.hidden = torch.nn.Conv2d(3, 3, 1)
        self.dead = torch.nn.Conv2d(3, 3, 1)
        self.zero = torch.nn.Conv2d(3, 3, 1)
        torch.nn.init.zeros_(self.zero.weight)
        self.forgotten = torch.nn.Linear(2, 2)
        self.upscale = upscale

    def forward(self, x):
        return torch.nn.functional.pixel_shuffle(
            self.used(x + self.zero(self.hidden(x)) + 0 * self.dead(x)), self.upscale
        )


@pytest.fixture
def half_used(monkeypatch):
    registered_components()
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "HalfUsed", HalfUsed)
    return "network_g={type: HalfUsed, upscale: 2}"


def test_parameters_without_gradient_are_named(tried, half_used):
    findings = at(tried(half_used), "network_g")
    assert [(finding.level, finding.examples) for finding in findings] == [
        ("warning", ("forgotten.weight", "forgotten.bias")),
        ("note", ("dead.weight", "dead.bias")),
    ]


def test_loss_that_is_not_finite_is_an_error(tried, half_used, monkeypatch):
    monkeypatch.setattr(HalfUsed, "forward", lambda self, x: self.used(x).repeat(1, 1, 2, 2)[:, :3] / 0)
    report = tried(half_used)
    assert "not finite" in at(report, "train")[0].message
    assert not report.is_healthy


def test_failure_of_the_step_is_a_finding_that_names_it(tried, half_used, monkeypatch):
    def broken(self, x):
        raise RuntimeError("shapes cannot be multiplied\nand more")

    monkeypatch.setattr(HalfUsed, "forward", broken)
    (finding,) = [finding for finding in tried(half_used).findings if finding.level == "error"]
    assert finding.place == "trial step"
    assert finding.message == "a training step failed: RuntimeError: shapes cannot be multiplied"
    assert "test_trial.py:" in finding.examples[0]


def test_failure_in_one_validation_is_a_finding(tried, monkeypatch):
    def broken(*_unused, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr(trial, "validate", broken)
    report = tried()
    assert at(report, "validation on held_out")[0].message == "validating a picture failed: ZeroDivisionError"
    assert "step" in report.measured


@pytest.mark.parametrize(
    ("key", "taken", "given", "message", "remedy"),
    [
        ("in_chans", 1, 3, "have 3 channels as loaded (key color), network_g takes 1", "set color: y in every dataset"),
        ("in_chans", 3, 1, "have 1 channel as loaded (key color), network_g takes 3", "leave color out of every"),
        ("num_in_ch", 4, 3, "have 3 channels as loaded (key color), network_g takes 4", "set network_g.num_in_ch: 3"),
    ],
)
def test_pictures_with_other_channels_than_the_network_are_an_error(key, taken, given, message, remedy):
    """What options do not tell, as a dataset that gives other pictures than color says."""
    network = torch.nn.Identity()
    model = SimpleNamespace(net_g=network, get_bare_model=lambda net: net, opt={"network_g": {key: taken}})
    report = Report()
    assert not has_right_channels(model, {"gt": torch.zeros(2, given, 8, 8)}, "datasets.train", report)
    (finding,) = report.findings
    assert (finding.level, finding.place) == ("error", "datasets.train")
    assert message in finding.message
    assert remedy in finding.remedy
    assert has_right_channels(model, {"lq": torch.zeros(2, taken, 4, 4), "gt": None}, "datasets.train", report)


def test_colours_that_do_not_suit_the_network_are_an_error(workplace):
    result = CliRunner().invoke(app, ["doctor", "small.yml", "--force_yml", "datasets:train:color=y"])
    assert result.exit_code == 2
    assert "gives 1 channel" in result.output


def test_output_of_another_shape_than_the_ground_truth_is_an_error(tried, half_used, monkeypatch):
    monkeypatch.setattr(HalfUsed, "forward", lambda self, x: self.used(x).repeat(1, 1, 2, 2)[:, :1])
    (finding,) = at(tried(half_used), "network_g")
    assert finding.level == "error"
    assert finding.message.endswith(
        "makes 64x64 with 1 channel of 32x32 with 3 channels, the ground truth has 64x64 with 3 channels"
    )


def test_batch_that_does_not_fit_is_answered_with_one_that_does(small, monkeypatch):
    model, opt = small("datasets:train:batch_size_per_gpu=32")
    monkeypatch.setattr(budget, "available_bytes", lambda device: 10e9)
    monkeypatch.setattr(budget.psutil.Process, "memory_info", lambda self: namedtuple("Info", "rss")(0))
    report = Report()
    assert not budget.check_memory(model, StepCost(1e9, 0.5e9, 0.0, 0.1), opt, report)
    (finding,) = report.findings
    assert "32 samples need about 17.0 GB, there are 10.0 GB" in finding.message
    assert "batch_size_per_gpu: 16 and train.accumulation: 2" in finding.remedy
    assert report.measured["memory"]["largest_batch"] == 16
    assert budget.check_memory(model, StepCost(1e9, 0.1e9, 0.0, 0.1), opt, Report())


def test_bottleneck_is_named_with_a_remedy(small):
    _, opt = small()
    slow, fast = DataRate(10.0, 0.0), DataRate(1000.0, 0.0)
    report = Report()
    budget.check_speed(opt, slow, 0.05, 1.0, 2.0, report)
    (finding,) = at(report, "datasets.train")
    assert "data come at 10 samples a second, the network takes 40: it will wait 75% of the time" in finding.message
    assert "sub-images" in finding.remedy
    assert report.measured["speed"]["seconds_a_step"] == 0.2
    report = Report()
    budget.check_speed(opt, fast, 0.05, 1.0, 2.0, report)
    assert report.measured["speed"]["bottleneck"] == "compute"
    assert report.findings == []


def test_long_validation_is_warned_of(small):
    _, opt = small("val:val_freq=10")
    report = Report()
    budget.check_speed(opt, DataRate(1000.0, 0.0), 0.05, 100.0, 0.1, report)
    assert "100 times 0:01:40" in at(report, "val.val_freq")[0].message


@pytest.mark.parametrize("changes", [("train:ema_decay=0.999",), (), GAN], ids=["running mean", "plain", "GAN"])
def test_checkpoint_is_as_large_as_predicted(small, changes):
    model, opt = small("network_g:num_feat=64", *changes)
    batch = {"lq": torch.rand(1, 3, 32, 32), "gt": torch.rand(1, 3, 64, 64)}
    model.feed_data(batch)
    model.optimize_parameters(1)
    model.save(0, 1)
    weights = Path("experiments/small/models/net_g_1.pth").stat().st_size
    written = sum(path.stat().st_size for path in Path("experiments").rglob("*") if path.suffix in (".pth", ".state"))
    report = Report()
    budget.check_disk(model, opt, report)
    assert report.measured["disk"]["checkpoint_mb"] == pytest.approx(written / 1e6, rel=0.05)
    assert report.measured["disk"]["best_weights_mb"] == pytest.approx(weights / 1e6, rel=0.05, abs=0.05)


def test_pool_of_pairs_is_part_of_a_checkpoint(small):
    model, opt = small()
    plain, report = Report(), Report()
    budget.check_disk(model, opt, plain)
    model.pairs = SimpleNamespace(pool=PairPool(100), gt_size=64, scale=2)
    budget.check_disk(model, opt, report)
    model.pairs.pool.exchange(torch.rand(100, 3, 32, 32), torch.rand(100, 3, 64, 64), np.random.default_rng(0))
    pool_mb = sum(tensor.nbytes for tensor in model.pairs.pool.state_dict().values()) / 1e6
    more = report.measured["disk"]["checkpoint_mb"] - plain.measured["disk"]["checkpoint_mb"]
    assert more == pytest.approx(pool_mb, abs=0.06)


def test_disk_that_is_too_small_is_an_error(small, monkeypatch):
    model, opt = small()
    monkeypatch.setattr(budget.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(20_000))
    report = Report()
    budget.check_disk(model, opt, report)
    assert report.measured["disk"]["checkpoints"] == 10
    assert report.findings[0].level == "error"
    report = Report()
    budget.check_disk(model, {**opt, "logger": {**opt["logger"], "keep_checkpoints": 2}}, report)
    assert report.measured["disk"]["checkpoints"] == 2


def test_file_in_the_way_of_the_runs_folder_is_an_error(diagnose):
    Path("experiments").write_text("")
    (finding,) = [finding for finding in diagnose().findings if finding.level == "error"]
    assert finding.place == str(Path("experiments").absolute())
    assert "is no folder" in finding.message


@pytest.mark.parametrize("closed", [".", "experiments", "experiments/small"])
def test_folder_that_must_not_be_written_is_an_error(diagnose, monkeypatch, workplace, closed):
    Path("experiments/small").mkdir(parents=True)
    folder, access = (workplace / closed).resolve(), os.access
    # root may write anywhere: permissions alone would not show it
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    found = [finding for finding in diagnose("logger:use_tb_logger=true").findings if finding.level == "error"]
    assert [finding.place for finding in found] == [str(folder)]
    assert "must not be written" in found[0].message


LATE_LOSSES = "train:losses={fft: {type: FFTLoss, start_iter: 300}, l1: {type: L1Loss, start_iter: 1}}"


@pytest.mark.parametrize(
    ("overrides", "losses"),
    [
        ((*GAN, "train:net_d_iters=2"), {"l_g_pix", "l_g_gan", "l_d_real"}),
        ((*GAN, "train:net_d_iters=7", "train:net_d_init_iters=100"), {"l_g_pix", "l_g_gan", "l_d_real"}),
        ((LATE_LOSSES, "train:pixel_opt=~"), {"l_fft", "l_l1"}),
    ],
    ids=["generator rests every second step", "generator rests first", "losses that begin later"],
)
def test_step_that_is_tried_is_one_in_which_everything_is_trained(small, overrides, losses):
    model, _ = small(*overrides)
    report = Report()
    trial.try_steps(model, {"lq": torch.rand(2, 3, 16, 16), "gt": torch.rand(2, 3, 32, 32)}, report)
    assert report.measured["step"]["parameters_without_gradient"] == 0
    assert losses <= set(report.measured["step"])


def test_prediction_from_two_sizes_is_a_line_through_both(small, monkeypatch):
    model, _ = small()
    monkeypatch.setattr(trial, "_measured_step", lambda model, batch, size: (0.1 + 0.3 * size, 1000 + 200 * size))
    batch = {"lq": torch.rand(2, 3, 32, 32), "gt": torch.rand(2, 3, 64, 64)}
    cost = trial.try_steps(model, batch, Report())
    assert cost == StepCost(pytest.approx(1000), pytest.approx(200), pytest.approx(0.1), pytest.approx(0.3))


def test_no_step_is_tried_where_pictures_are_wrong(tried):
    Path("train/gt/coffee.png").write_bytes(b"")
    report = tried()
    assert "step" not in report.measured
    assert any("no step was tried" in finding.message for finding in report.findings)


def test_command_ends_with_0_or_2_and_speaks_json(workplace):
    arguments = ["doctor", "-opt", "small.yml", "--no-step", "--processes", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "0 errors, 0 warnings" in result.output
    assert "1: 0.001   500: 0.001   501: 0.0005" in result.output
    Path("train/gt/coffee.png").write_bytes(b"")
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert not report["healthy"]
    assert [finding["examples"] for finding in report["findings"] if finding["level"] == "error"] == [
        ["train/gt/coffee.png"]
    ]


def test_missing_file_is_said_once(workplace):
    result = CliRunner().invoke(app, ["doctor", "absent.yml"])
    assert result.exit_code == 2
    assert "ERROR  option file: absent.yml does not exist" in result.output
    assert result.output.count("absent.yml") == 1


def test_two_option_files_are_refused(workplace):
    result = CliRunner().invoke(app, ["doctor", "small.yml", "-opt", "other.yml"])
    assert result.exit_code == 2
    assert "other.yml" in result.output


def test_mistakes_in_the_file_are_findings_each_with_its_line(workplace):
    Path("small.yml").write_text(Path("small.yml").read_text().replace("gt_size: 64", "gt_sise: 64\n    colour: n"))
    result = CliRunner().invoke(app, ["doctor", "small.yml", "--json"])
    assert result.exit_code == 2
    findings = json.loads(result.stdout)["findings"]
    assert len(findings) == 2
    assert all(finding["place"].startswith("small.yml:") for finding in findings)
    assert "did you mean 'gt_size'" in findings[0]["message"]


def test_test_file_is_looked_at_as_one(workplace, small, write_pair, part):
    model, opt = small()
    save_weights("weights.pth", model.net_g, opt["network_g"])
    text = Path("small.yml").read_text().replace("  val:\n    name", "  test_1:\n    name")
    Path("test.yml").write_text(text + "path:\n  pretrain_network_g: weights.pth\n")
    arguments = ["doctor", "test.yml", "--test", "--json", "--processes", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)["measured"]
    assert 5 < measured["validation.test_1"]["psnr"] < 60
    assert measured["datasets.test_1"]["looked_at"] == 2
    assert not {"learning_rate", "step"} & set(measured)
    Path("weights.pth").write_bytes(b"")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "weights.pth" in result.stdout
