"""What happens to one sample, drawn before anything happens to it.

Streams of random numbers of a sample, all from (seed, position): crop and flips (SampleKey.generator), and here the
kernels, the degradations and what the pool does. So they depend neither on workers, ranks and batches, nor on an
interruption.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hriusr.data.degradations.settings import RESIZE_MODES, StageSettings, StagesSettings

_DEGRADATION_STREAM = 2  # without a number: crop and flips; 1: the order of epochs
_POOL_STREAM = 3
_KERNEL_STREAM = 4


class SampleOrigin(NamedTuple):
    """Where the random numbers of a sample come from; in a batch, tensors (B,) int64 that stay on the CPU."""

    seed: int
    position: int


class StageDraw(NamedTuple):
    """One round.

    Attributes:
        is_blurred: whether the round has a blur.
        resize_scale: factor.
        resize_mode: of torch's interpolate.
        is_gaussian: Gaussian noise; else Poisson.
        noise_strength: standard deviation of 255, or the factor of Poisson noise.
        is_grey: the same noise in all channels.
        jpeg_quality: 1..100, not whole.
    """

    is_blurred: bool
    resize_scale: float
    resize_mode: str
    is_gaussian: bool
    noise_strength: float
    is_grey: bool
    jpeg_quality: float


class SampleDraw(NamedTuple):
    """All of a sample.

    Attributes:
        first: first round.
        second: second round; its JPEG is the last but one or the last operation.
        final_mode: of the resize to the final size.
        is_jpeg_last: JPEG after the final resize and sinc filter, instead of before.
        noise_seed: of the noise, on the device.
        corner: place of the crop, (top, left), each 0 up to below 1.
    """

    first: StageDraw
    second: StageDraw
    final_mode: str
    is_jpeg_last: bool
    noise_seed: int
    corner: tuple[float, float]


def kernel_generator(seed: int, position: int) -> np.random.Generator:
    """Return the source of a sample's blur kernels."""
    return np.random.default_rng([seed, position, _KERNEL_STREAM])


def degradation_generator(seed: int, position: int) -> np.random.Generator:
    """Return the source of a sample's degradations."""
    return np.random.default_rng([seed, position, _DEGRADATION_STREAM])


def pool_generator(seed: int, position: int) -> np.random.Generator:
    """Return the source of what a batch exchanges with the pool; position is that of its first sample."""
    return np.random.default_rng([seed, position, _POOL_STREAM])


def draw_sample(settings: StagesSettings, generator: np.random.Generator) -> SampleDraw:
    """Draw everything.

    Args:
        settings: ranges of both rounds.
        generator: always as many numbers are drawn, whatever they decide.
    """
    return SampleDraw(
        _draw_stage(settings.first, generator),
        _draw_stage(settings.second, generator),
        final_mode=_choose(RESIZE_MODES, generator),
        is_jpeg_last=bool(generator.random() < 0.5),
        noise_seed=int(generator.integers(2**63)),
        corner=(float(generator.random()), float(generator.random())),
    )


def _draw_stage(settings: StageSettings, generator: np.random.Generator) -> StageDraw:
    is_blurred = bool(generator.random() < settings.blur_prob)
    weights = np.array(settings.resize_prob) / sum(settings.resize_prob)
    direction = generator.choice(3, p=weights)
    lowest, highest = settings.resize_range
    scale = (generator.uniform(1, highest), generator.uniform(lowest, 1), 1.0)[direction]
    mode = _choose(RESIZE_MODES, generator)
    is_gaussian = bool(generator.random() < settings.gaussian_noise_prob)
    strengths = generator.uniform(*settings.poisson_scale_range), generator.uniform(*settings.noise_range)
    is_grey = bool(generator.random() < settings.gray_noise_prob)
    quality = generator.uniform(*settings.jpeg_range)
    return StageDraw(is_blurred, float(scale), mode, is_gaussian, strengths[is_gaussian], is_grey, quality)


def _choose(options: Sequence[str], generator: np.random.Generator) -> str:
    return options[generator.integers(len(options))]
