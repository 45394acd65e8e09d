"""Which picture comes when: endless, seeded, resumable, and every rank its own share.

All samples of a run stand in one line, numbered by their position 0, 1, 2 ... Epoch e of n samples is the positions
e*n .. (e+1)*n - 1 in an order of its own, drawn from (seed, e). Rank r of R takes the positions r, r + R, r + 2R ...
A sample's crop and flips are drawn from (seed, position) alone. So neither the number of workers nor of ranks, nor an
interruption, changes what is trained on: R ranks with batches of b see together what one rank with batches of R*b sees.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

_EPOCH_STREAM = 1  # keeps the orders of epochs apart from the samples' random numbers; must not be 0


class SampleKey(NamedTuple):
    """What a training dataset is asked for: which picture, and with which luck."""

    index: int
    """Picture, 0 .. len(dataset) - 1."""
    position: int
    """Place in the line of all samples, from 0."""
    seed: int = 0
    """The run's seed."""
    gt_size: int | None = None
    """Side of the patch, pixels of gt; None: the dataset's own."""

    def generator(self) -> np.random.Generator:
        """Return the source of all randomness of this sample."""
        return np.random.default_rng([self.seed, self.position])


class ResumableSampler(Sampler[SampleKey]):
    """Yields SampleKey without end.

    Args:
        num_samples: pictures in the dataset.
        seed: not negative.
        rank: this process among world_size.
        world_size: processes that share the line of samples.
        start_position: how many samples all ranks together have taken already.
        enlarge_ratio: an epoch goes through the dataset this often, in one common order (dataset_enlarge_ratio).

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        num_samples: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_position: int = 0,
        *,
        enlarge_ratio: float = 1,
    ):
        if num_samples < 1:
            raise ValueError(f"num_samples (={num_samples}) must be at least 1")
        if seed < 0 or start_position < 0:
            raise ValueError(f"seed (={seed}) and start_position (={start_position}) must not be negative")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank (={rank}) must be in 0..world_size - 1 (world_size={world_size})")
        if enlarge_ratio <= 0:
            raise ValueError(f"enlarge_ratio (={enlarge_ratio}) must be positive")
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_position = start_position
        self.epoch_length = math.ceil(num_samples * enlarge_ratio)

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, order = -1, np.empty(0, np.int64)
        position = self.start_position + self.rank
        while True:
            if position // self.epoch_length != epoch:
                epoch = position // self.epoch_length
                order = self.epoch_order(epoch)
            yield SampleKey(int(order[position % self.epoch_length]), position, self.seed)
            position += self.world_size

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Return the pictures of an epoch, in their order; (epoch_length,) int64."""
        generator = np.random.default_rng([self.seed, epoch, _EPOCH_STREAM])
        return generator.permutation(self.epoch_length) % self.num_samples
