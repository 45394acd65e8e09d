"""Bugs that other trainers of the field have: none of them here."""

import numpy as np
import pytest
import torch

from hriusr.data.loader import build_val_loader
from hriusr.engine import training_run
from hriusr.engine.build import build_dataset, build_model
from hriusr.engine.train_loop import train
from hriusr.engine.validation import upscale_picture, validate
from hriusr.metrics.report import PictureRow, dataset_means
from hriusr.models.sr_model import RestorationModel


@pytest.mark.parametrize("tile_size", [8, 16, 24])
def test_no_pixel_of_a_tiled_validation_is_lost_at_an_edge(run_opt, tile_size):
    """There: blending weights of 0 at the picture's edge, divided by a sum of 0: black lines."""
    model = build_model(run_opt())
    lq_BCHW = torch.rand(1, 3, 37, 41)
    whole = upscale_picture(model, lq_BCHW, None)
    tiled = upscale_picture(model, lq_BCHW, {"tile_size": tile_size, "tile_pad": 7})
    assert torch.isfinite(tiled).all()
    for edge in (np.s_[..., 0, :], np.s_[..., -1, :], np.s_[..., :, 0], np.s_[..., :, -1]):
        assert torch.allclose(tiled[edge], whole[edge], atol=0.02)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_mean_of_a_metric_is_its_sum_over_the_number_of_pictures(count):
    """There: sum / (n - 1) + 1, or a running mean that counts a picture twice."""
    values = np.random.default_rng(0).uniform(20, 40, count)
    rows = [PictureRow("set", str(number), 8, 8, {"psnr": value}, {}, 0.1) for number, value in enumerate(values)]
    (mean,) = dataset_means(rows)
    assert mean.num_pictures == count
    assert mean.metrics["psnr"] == pytest.approx(np.sum(values) / count, abs=1e-12)


def test_validated_mean_is_that_of_its_pictures(run_opt):
    opt = run_opt()
    loader = build_val_loader(build_dataset("val_1", opt["datasets"]["val_1"]))
    metrics_opt = opt["val"]["metrics"]
    rows = validate(build_model(opt), loader, dataset_name="first", metrics_opt=metrics_opt)
    (mean,) = dataset_means(rows)
    assert mean.metrics["psnr"] == pytest.approx(sum(row.metrics["psnr"] for row in rows) / 3, abs=1e-12)


def test_losses_of_a_training_have_gradients_after_a_validation(run_opt, monkeypatch):
    """There: inference_mode; what the network caches under it is useless in training, losses have no graph."""
    seen = []
    measure = RestorationModel.compute_losses

    def watched(self, output_BCHW, gt_BCHW):
        losses = measure(self, output_BCHW, gt_BCHW)
        seen.append((torch.is_inference_mode_enabled(), output_BCHW.requires_grad, losses["l_pix"].requires_grad))
        return losses

    monkeypatch.setattr(RestorationModel, "compute_losses", watched)
    windows = {"type": "SwinIR", "upscale": 2, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8}
    train(run_opt(network_g=windows, val__val_freq=1, train__total_iter=3))  # masks are cached between the steps
    assert seen == [(False, True, True)] * 3


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_each_step_updates_once_from_as_many_parts_as_asked_for(run_opt, monkeypatch, accumulation):
    """There: the counter of accumulated parts is bumped twice a part, so updates come too early."""
    parts, updates = [], []
    backward, step = RestorationModel._backward, torch.optim.Adam.step
    monkeypatch.setattr(
        RestorationModel,
        "_backward",
        lambda self, part, share: parts.append(len(part[0])) or backward(self, part, share),
    )
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a, **k: updates.append(len(parts)) or step(self, *a, **k)
    )
    train(run_opt(train__accumulation=accumulation, train__total_iter=4, val=None))
    assert parts == [2] * (4 * accumulation)
    assert updates == [accumulation * number for number in range(1, 5)]


def test_exception_of_the_training_is_never_swallowed(run_opt, monkeypatch):
    """There: the loop logs it and the process ends with status 0; the statuses are tested in test_records.py."""

    def fail(*_, **__):
        raise ZeroDivisionError("of the validation")

    monkeypatch.setattr(training_run, "validate", fail)
    with pytest.raises(ZeroDivisionError, match="of the validation"):
        train(run_opt())
