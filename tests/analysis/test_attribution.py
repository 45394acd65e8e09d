"""Local attribution maps: each part against its formula, the whole against the formulas put together."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_networks import Convolutions

from hriusr.analysis.attribution import (
    Box,
    PathSettings,
    Window,
    box_around,
    detail,
    gaussian_path,
    local_attribution,
)
from hriusr.analysis.input_gradient import explained, input_gradient, network_input
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.data.matlab_resize import imresize
from hriusr.errors import DataError, HriusrError

SETTINGS = PathSettings(sigma=1.2, steps=4, kernel_size=9)


@pytest.fixture(scope="module")
def picture(photo):
    return imresize(photo("astronaut")[:240, 120:360], 0.2) / 255.0  # 48x48, an eye and hair


def square_kernel(step, settings):
    """K_k as the authors write it."""
    sigma = settings.sigma * (1 - step / settings.steps) + 1e-5
    offsets = np.arange(settings.kernel_size) - settings.kernel_size // 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def filtered(image_HWC, kernel):
    return ndimage.correlate(image_HWC, kernel[..., None], mode="mirror")


def plain_detail(sr_CHW, window):
    total = 0
    for row in range(window.top, window.top + window.size):
        for column in range(window.left, window.left + window.size):
            here = sr_CHW[:, row, column]
            steps = (here - sr_CHW[:, row + 1, column]) ** 2 + (here - sr_CHW[:, row, column + 1]) ** 2
            total += (steps + 1e-12).sqrt().sum()
    return total


@pytest.mark.parametrize("box", [Box(0, 0, 48, 48), Box(0, 30, 10, 18), Box(20, 7, 3, 5), Box(40, 2, 8, 20)], ids=str)
def test_path_equals_two_dimensional_filters_of_the_whole_picture(picture, box):
    images = list(gaussian_path(picture, box, SETTINGS))
    assert len(images) == SETTINGS.steps + 1
    for step, image_HWC in enumerate(images):
        expected = box.cut(filtered(picture, square_kernel(step, SETTINGS)))
        assert np.abs(image_HWC - expected).max() < 1e-12


def test_path_ends_with_the_picture_itself(picture):
    *_, last = gaussian_path(picture, Box(5, 5, 20, 20), SETTINGS)
    assert np.array_equal(last, picture[5:25, 5:25])


@pytest.mark.parametrize("change", [{"sigma": 0.0}, {"steps": 0}, {"kernel_size": 8}, {"kernel_size": 1}], ids=str)
def test_path_refuses_settings_without_meaning(change):
    with pytest.raises(ValueError, match="must be"):
        PathSettings(**change)


def test_detail_equals_a_loop_over_pixels():
    sr_CHW = torch.rand(3, 12, 15, dtype=torch.float64)
    window = Window(left=4, top=2, size=6)
    assert detail(sr_CHW[None], window).item() == pytest.approx(plain_detail(sr_CHW, window).item(), rel=1e-12)


def test_gradient_equals_finite_differences():
    network = Convolutions().double()
    lr_1CHW = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    window = Window(3, 4, 5)

    def objective(sr_1CHW):
        return detail(sr_1CHW, window)

    with explained(network):
        gradient_1CHW, value, sr_1CHW = input_gradient(network, lr_1CHW, objective)
        assert value == objective(sr_1CHW) == objective(network(lr_1CHW))
        for place in np.ndindex(3, 6, 6):
            nudge = torch.zeros_like(lr_1CHW)
            nudge[0][place] = 1e-6
            difference = objective(network(lr_1CHW + nudge)) - objective(network(lr_1CHW - nudge))
            assert gradient_1CHW[0][place].item() == pytest.approx(difference.item() / 2e-6, rel=1e-4, abs=1e-6)


def test_attribution_equals_the_formulas_put_together(picture):
    network, window = Convolutions().double(), Window(40, 31, 7)
    expected_CHW = torch.zeros(3, *picture.shape[:2], dtype=torch.float64)
    for step in range(1, SETTINGS.steps + 1):
        kernel, before = square_kernel(step, SETTINGS), square_kernel(step - 1, SETTINGS)
        change_HWC = SETTINGS.steps * filtered(picture, kernel - before)
        lr_CHW = torch.tensor(filtered(picture, kernel)).permute(2, 0, 1).requires_grad_()
        plain_detail(network(lr_CHW[None])[0], window).backward()
        expected_CHW += lr_CHW.grad * torch.tensor(change_HWC).permute(2, 0, 1) / SETTINGS.steps
    found = local_attribution(network, picture, window, scale=2, settings=SETTINGS)
    assert np.abs(found.signed_CHW - expected_CHW.numpy()).max() < 1e-10
    relevance_HW = expected_CHW.sum(dim=0).abs().numpy()
    assert np.abs(found.map - relevance_HW / relevance_HW.max()).max() < 1e-10


def test_attribution_sums_to_the_change_of_detail_as_steps_grow(picture):
    network, window = Convolutions(), Window(40, 40, 16)
    errors = [
        local_attribution(network, picture, window, scale=2, settings=PathSettings(steps=steps)).completeness_error
        for steps in (5, 20, 80)
    ]
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] == pytest.approx(errors[1] / 4, rel=0.1), "a sum over m steps is wrong by about 1/m"
    assert errors[2] < 0.02


def test_crop_beyond_the_receptive_field_changes_nothing(picture):
    network, window = Convolutions(depth=2).double(), Window(45, 50, 8)
    whole = local_attribution(network, picture, window, scale=2, settings=SETTINGS)
    found = local_attribution(network, picture, window, scale=2, crop=24, alignment=4, settings=SETTINGS)
    box = found.box
    assert (box.height, box.width) == (24, 24)
    assert box.top % 4 == box.left % 4 == 0
    assert np.abs(found.signed_CHW - box.cut(whole.signed_CHW.transpose(1, 2, 0)).transpose(2, 0, 1)).max() < 1e-10
    outside = whole.map.copy()
    box.cut(outside)[:] = 0
    assert not outside.any()


def test_crop_holds_every_window_that_the_result_holds():
    for shape in ((70, 45), (16, 100), (33, 32)):
        for left in range(0, 2 * shape[1] - 8, 3):
            for top in (0, shape[0] // 2, 2 * shape[0] - 9):
                box = box_around(Window(left, top, 8), shape, scale=2, crop=32, alignment=16)
                for start, side, length, first in zip(box[:2], box[2:], shape, (top, left), strict=True):
                    assert 0 <= start <= length - side
                    assert start * 2 <= first < (start + side) * 2 - 8


@pytest.mark.parametrize(
    ("window", "crop", "message"),
    [
        (Window(88, 0, 8), None, "X at most 87, Y at most 87"),
        (Window(0, -1, 8), None, "Y at most 87, both at least 0"),
        (Window(30, 30, 20), 8, "must hold the window of 20 pixels"),
    ],
)
def test_window_that_does_not_fit_is_an_error(window, crop, message):
    with pytest.raises(DataError, match=message):
        box_around(window, (48, 48), scale=2, crop=crop, alignment=1)


def test_flat_picture_has_no_attribution():
    with pytest.raises(DataError, match="flat where the network looks"):
        local_attribution(Convolutions(), np.full((20, 20, 3), 0.5), Window(16, 16, 8), scale=2, settings=SETTINGS)


def test_broken_weights_are_named():
    network = Convolutions()
    network.body[0][0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(HriusrError, match="weights are broken"):
        local_attribution(network, np.random.rand(20, 20, 3), Window(16, 16, 8), scale=2, settings=SETTINGS)  # noqa: NPY002


def test_network_is_left_as_it_was(picture):
    network = Convolutions().train()
    network.body[0][0].bias.requires_grad_(False)
    local_attribution(network, picture, Window(16, 16, 8), scale=2, settings=SETTINGS)
    assert network.training
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, False, True, True]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_progress_counts_the_steps(picture):
    seen = []
    local_attribution(
        Convolutions(),
        picture,
        Window(16, 16, 8),
        scale=2,
        settings=SETTINGS,
        progress=lambda *arguments: seen.append(arguments),
    )
    assert seen == [(step, 4) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "_tiny_" in name])
def test_every_network_of_ours_has_an_attribution(name, picture):
    network = build_network(VARIANTS[name].network_opt()).eval()
    found = local_attribution(network, picture[:33, :35], Window(30, 28, 8), scale=network.upscale, settings=SETTINGS)
    assert found.map.shape == (33, 35)
    assert found.map.max() == 1
    assert np.isfinite(found.signed_CHW).all()
    row, column = np.unravel_index(found.map.argmax(), found.map.shape)
    assert abs(row - 16) < 6, "the most used pixel lies in the window or near it"
    assert abs(column - 17) < 6


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(picture):
    network = build_network(VARIANTS["hriusr_tiny_x2"].network_opt()).eval()
    on_cpu = local_attribution(network, picture, Window(40, 40, 16), scale=2, settings=SETTINGS)
    on_gpu = local_attribution(network.to("cuda"), picture, Window(40, 40, 16), scale=2, settings=SETTINGS)
    assert np.abs(on_gpu.map - on_cpu.map).max() < 1e-3


def test_input_takes_the_networks_type(picture):
    assert network_input(Convolutions().double(), picture).dtype == torch.float64
    assert network_input(Convolutions(), picture).dtype == torch.float32


def test_window_larger_than_the_result_names_one_that_fits():
    with pytest.raises(DataError, match=r"16 pixels does not fit the result of 12x10: take --size 9 or less"):
        box_around(Window(-2, -3, 16), (5, 6), scale=2, crop=None, alignment=1)
