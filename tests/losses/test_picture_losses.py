"""Our losses: values of independent implementations, true gradients, fp32 under autocast, clear refusals."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hriusr.basicsr_bridge import REPLACED
from hriusr.errors import OptionsError
from hriusr.losses.gradient_loss import sobel
from hriusr.losses.registry import build_loss
from hriusr.metrics.ssim_metric import calculate_ssim

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_msssim

OURS = ("FFTLoss", "GradientLoss", "SSIMLoss", "MSSSIMLoss", "PSNRLoss", "WeightedTVLoss")


@pytest.fixture(scope="module")
def pictures(photo):
    """A photograph (2, 3, 192, 177) and a noisy copy, 0..1."""
    image_CHW = torch.from_numpy(photo("astronaut")).permute(2, 0, 1) / 255
    target = torch.stack([image_CHW[:, 20:212, 30:207], image_CHW[:, 200:392, 200:377]])
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return (target + 0.05 * noise).clamp(0, 1), target


def small(seed, side=16):
    return torch.rand(1, 2, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_ssim_equals_pytorch_msssim(pictures):
    expected = 1 - pytorch_msssim.ssim(*pictures, data_range=1, nonnegative_ssim=False)
    torch.testing.assert_close(build_loss({"type": "SSIMLoss"})(*pictures), expected, rtol=1e-4, atol=1e-6)


def test_ms_ssim_equals_pytorch_msssim(pictures):
    expected = 1 - pytorch_msssim.ms_ssim(*pictures, data_range=1)
    torch.testing.assert_close(build_loss({"type": "MSSSIMLoss"})(*pictures), expected, rtol=1e-4, atol=1e-6)


def test_ms_ssim_of_fewer_levels_has_their_weights(pictures):
    weights = [0.0448, 0.2856, 0.3001]
    expected = 1 - pytorch_msssim.ms_ssim(*pictures, data_range=1, weights=[w / sum(weights) for w in weights])
    torch.testing.assert_close(
        build_loss({"type": "MSSSIMLoss", "levels": 3})(*pictures), expected, rtol=1e-4, atol=1e-6
    )


def test_ssim_equals_the_metric_on_saved_pictures(pictures):
    in_8_bits = [(x[:1] * 255).round() for x in pictures]
    images = [x[0].flip(0).permute(1, 2, 0).numpy().astype(np.uint8) for x in in_8_bits]
    expected = 1 - calculate_ssim(*images, crop_border=0)
    assert float(build_loss({"type": "SSIMLoss"})(*(x / 255 for x in in_8_bits))) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("norm", ["backward", "ortho"])
def test_fft_loss_is_the_l1_of_two_spectra(pictures, norm):
    output, target = (np.fft.rfft2(x.double().numpy(), norm=norm) for x in pictures)
    expected = (abs(output.real - target.real).mean() + abs(output.imag - target.imag).mean()) / 2
    loss = build_loss({"type": "FFTLoss", "norm": norm, "loss_weight": 0.1})(*pictures)
    assert float(loss) == pytest.approx(0.1 * expected, rel=1e-4)


def test_slopes_are_those_of_sobels_kernels(pictures):
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    for slope, weights in zip(sobel(pictures[0]), (kernel, kernel.T), strict=True):
        expected = F.conv2d(pictures[0].flatten(0, 1)[:, None], weights[None, None]).view(slope.shape)
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-6)


def test_gradient_loss_sees_edges_and_no_brightness(pictures):
    loss = build_loss({"type": "GradientLoss"})
    assert float(loss(pictures[1] + 0.25, pictures[1])) == pytest.approx(0, abs=1e-7)
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    assert float(loss(ramp, torch.zeros_like(ramp))) == pytest.approx(0.5)  # slope 1 in x, 0 in y


@pytest.mark.parametrize("toY", [False, True])
def test_psnr_loss_is_minus_the_psnr(pictures, toY):
    output, target = (x.double().numpy() for x in pictures)
    if toY:
        output, target = (np.einsum("bchw,c->bhw", x, [65.481, 128.553, 24.966]) / 255 for x in (output, target))
    expected = [10 * math.log10(((output[n] - target[n]) ** 2).mean()) for n in range(2)]
    loss = build_loss({"type": "PSNRLoss", "toY": toY})(*pictures)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_total_variation_is_that_of_basicsr_without_its_map(pictures, reduction):
    reference = REPLACED["loss", "WeightedTVLoss"](loss_weight=0.5, reduction=reduction)
    ours = build_loss({"type": "WeightedTVLoss", "loss_weight": 0.5, "reduction": reduction})
    torch.testing.assert_close(ours(*pictures), reference(pictures[0]))


@pytest.mark.parametrize("type_name", ["FFTLoss", "GradientLoss", "SSIMLoss", "PSNRLoss", "WeightedTVLoss"])
def test_gradient_is_the_derivative(type_name):
    loss, target = build_loss({"type": type_name, "loss_weight": 0.7}), small(1)
    assert torch.autograd.gradcheck(lambda output: loss(output, target), (small(2).requires_grad_(),))


def test_gradient_of_ms_ssim_is_the_derivative():
    loss, target = build_loss({"type": "MSSSIMLoss", "levels": 2}), small(1, side=24)
    output = (0.8 * target + 0.2 * small(2, side=24)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (output,))


def test_ms_ssim_of_opposite_pictures_has_a_finite_gradient():
    target = small(3, side=24)
    output = (1 - target).requires_grad_()
    build_loss({"type": "MSSSIMLoss", "levels": 2})(output, target).backward()
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("type_name", OURS)
def test_autocast_and_half_precision_are_computed_in_fp32(pictures, type_name):
    loss = build_loss({"type": type_name})
    halves = [x.bfloat16() for x in pictures]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*halves)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*(x.float() for x in halves)))


@pytest.mark.parametrize("type_name", sorted(set(OURS) - {"WeightedTVLoss", "PSNRLoss"}))
def test_equal_pictures_cost_nothing(pictures, type_name):
    assert float(build_loss({"type": type_name})(pictures[1], pictures[1])) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("loss_opt", "side", "message"),
    [
        (
            {"type": "MSSSIMLoss"},
            160,
            r"at least 161 pixels a side, these have 160x160: choose a larger .*gt_size, few",
        ),
        ({"type": "MSSSIMLoss", "levels": 2}, 20, "at least 21 pixels"),
        ({"type": "SSIMLoss"}, 10, "SSIMLoss needs patches of at least 11 pixels"),
        ({"type": "MSSSIMLoss", "levels": 6}, 0, r"levels \(=6\) must be 1 to 5"),
        ({"type": "FFTLoss", "norm": "forward"}, 0, "norm .* must be backward or ortho"),
        ({"type": "FFTLoss", "reduction": "none"}, 0, "reduction .* must be mean or sum"),
        ({"type": "PSNRLoss", "reduction": "sum"}, 0, "reduction .* must be mean"),
    ],
)
def test_what_does_not_fit_is_named(loss_opt, side, message):
    with pytest.raises(OptionsError, match=message):
        build_loss(loss_opt)(torch.zeros(1, 3, side, side), torch.zeros(1, 3, side, side))
