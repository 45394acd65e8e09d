"""Blur kernels against BasicSR's, number by number; what is drawn against what the options ask for."""

import hriusr.basicsr_bridge  # noqa: F401 - first: lets basicsr be imported

# isort: split
import math

import numpy as np
import pytest
from basicsr.data import degradations as reference

from hriusr.data.degradations.kernels import draw_blur_kernel, draw_final_kernel, gaussian_kernel, sinc_kernel
from hriusr.data.degradations.settings import KERNEL_KINDS, BlurSettings, KernelSettings

SHAPES = [(7, 0.4, 2.7, 0.3), (13, 3.0, 0.2, -2.9), (21, 1.5, 1.4, 1.2)]


@pytest.mark.parametrize(("size", "sigma_x", "sigma_y", "angle"), SHAPES)
def test_gaussian_kernels_equal_those_of_basicsr(size, sigma_x, sigma_y, angle):
    expected = reference.bivariate_Gaussian(size, sigma_x, sigma_y, angle, isotropic=False)
    np.testing.assert_allclose(gaussian_kernel(size, sigma_x, sigma_y, angle), expected, atol=1e-14)
    expected = reference.bivariate_Gaussian(size, sigma_x, sigma_y, angle, isotropic=True)
    np.testing.assert_allclose(gaussian_kernel(size, sigma_x, sigma_x, 0), expected, atol=1e-14)


@pytest.mark.parametrize("beta", [0.5, 1.7, 4.0])
@pytest.mark.parametrize(("size", "sigma_x", "sigma_y", "angle"), SHAPES)
def test_generalised_and_plateau_kernels_equal_those_of_basicsr(size, sigma_x, sigma_y, angle, beta):
    for is_plateau, function in (
        (False, reference.bivariate_generalized_Gaussian),
        (True, reference.bivariate_plateau),
    ):
        expected = function(size, sigma_x, sigma_y, angle, beta, isotropic=False)
        kernel = gaussian_kernel(size, sigma_x, sigma_y, angle, beta=beta, is_plateau=is_plateau)
        np.testing.assert_allclose(kernel, expected, atol=1e-13)


@pytest.mark.parametrize("size", [7, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.9, math.pi])
def test_sinc_kernels_equal_those_of_basicsr(size, cutoff):
    expected = reference.circular_lowpass_kernel(cutoff, size)
    np.testing.assert_allclose(sinc_kernel(size, cutoff), expected, atol=1e-14)


@pytest.mark.parametrize("kind", KERNEL_KINDS)
def test_drawn_kernels_of_each_kind_have_the_mean_spread_of_basicsrs(kind):
    """The variance along x, over many draws: what the ranges, the angle and the shape's two halves decide."""
    settings = BlurSettings(kernel_list=(kind,), kernel_prob=(1.0,), sinc_prob=0.0)
    generator = np.random.default_rng(0)
    ours = [_spread(draw_blur_kernel(settings, generator)) for _ in range(1500)]
    theirs = []
    for _ in range(1500):
        size = 7 + 2 * int(generator.integers(8))
        ranges = [settings.blur_sigma, settings.blur_sigma, [-math.pi, math.pi]]
        betas = [settings.betag_range, settings.betap_range]
        theirs.append(_spread(reference.random_mixed_kernels([kind], [1], size, *ranges, *betas)))
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * (np.std(theirs) + np.std(ours)) / 1500**0.5


def _spread(kernel_KK):
    offset = np.arange(len(kernel_KK)) - len(kernel_KK) // 2
    return float((kernel_KK.sum(0) * offset**2).sum())


def test_kinds_come_as_often_as_the_options_say():
    settings = BlurSettings(kernel_prob=(0, 0, 0, 0, 0, 1), sinc_prob=0.25, blur_kernel_size=7)
    generator = np.random.default_rng(1)
    kernels = [draw_blur_kernel(settings, generator) for _ in range(2000)]
    # plateaus are positive; a sinc kernel has negative lobes
    assert np.mean([kernel.min() < 0 for kernel in kernels]) == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("largest", [7, 13, 21])
def test_sizes_reach_from_7_to_the_largest(largest):
    settings = BlurSettings(blur_kernel_size=largest, sinc_prob=1.0)
    generator = np.random.default_rng(2)
    kernels = [draw_blur_kernel(settings, generator) for _ in range(300)]
    assert {kernel.shape for kernel in kernels} == {(largest, largest)}
    sides = {int(np.count_nonzero(kernel[largest // 2])) for kernel in kernels}
    assert sides == set(range(7, largest + 1, 2))


def test_final_kernel_is_a_pulse_when_there_is_no_sinc():
    generator = np.random.default_rng(3)
    pulses = [draw_final_kernel(0.7, 21, generator).max() == 1 for _ in range(2000)]
    assert np.mean(pulses) == pytest.approx(0.3, abs=0.04)
    pulse = draw_final_kernel(0.0, 5, generator)
    assert pulse[2, 2] == 1
    assert pulse.sum() == 1


def test_options_of_the_dataset_reach_both_blurs():
    opt = {"blur_sigma": [1, 2], "blur_sigma2": [0.5, 0.6], "sinc_prob2": 0.9, "final_sinc_prob": 0.1}
    settings = KernelSettings.from_options(opt)
    assert settings.first.blur_sigma == (1, 2)
    assert settings.first.sinc_prob == 0.1
    assert (settings.second.blur_sigma, settings.second.sinc_prob) == ((0.5, 0.6), 0.9)
    assert settings.final_sinc_prob == 0.1
