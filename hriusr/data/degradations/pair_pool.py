"""The pool of training pairs (queue_size): what a batch holds comes from many batches before.

Letters: B pairs of a batch, P pairs of the pool.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hriusr.data.degradations.pipeline import to_8_bits


class PairPool:
    """Takes a batch of pairs and gives one of as many back.

    While it fills, each pair is given back as it came; then each takes the place of a random one, which is given back.
    Pairs are held in 8 bits, on the device: 37 MB for 180 of 256x256 and 64x64.

    Args:
        size: P; 0: no pool, only the rounding.
    """

    def __init__(self, size: int):
        self.size = size
        self.count = 0
        self._lq = self._gt = None

    def exchange(self, lq_BCHW: Tensor, gt_BCHW: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Put pairs in and take pairs out.

        Args:
            lq_BCHW: 0..1; any number of them, also more than the pool holds.
            gt_BCHW: 0..1.
            generator: decides on the places.

        Returns:
            (lq, gt) of the same shapes, whole multiples of 1 / 255.
        """
        lq, gt = to_8_bits(lq_BCHW), to_8_bits(gt_BCHW)
        self._make_room(lq, gt)
        num_new = min(self.size - self.count, len(lq))
        new = slice(self.count, self.count + num_new)
        self._lq[new], self._gt[new] = lq[:num_new], gt[:num_new]
        num_old = min(self.count, len(lq) - num_new)  # places to swap with: not those just filled
        places = torch.from_numpy(generator.permutation(self.count)[:num_old]).to(lq.device)
        swapped = slice(num_new, num_new + num_old)
        taken = self._lq[places], self._gt[places]
        self._lq[places], self._gt[places] = lq[swapped], gt[swapped]
        lq[swapped], gt[swapped] = taken
        self.count += num_new
        return lq.float() / 255, gt.float() / 255

    def state_dict(self) -> dict[str, Any]:
        """Return the pairs, (count, C, H, W) uint8 each; shares their memory."""
        if self.count == 0:
            return {}
        return {"lq": self._lq[: self.count], "gt": self._gt[: self.count]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over pairs; the surplus is dropped where the pool has become smaller."""
        self.count, self._lq, self._gt = 0, None, None
        if state:
            lq, gt = (state[name][: self.size].to(device) for name in ("lq", "gt"))
            self._make_room(lq, gt)
            self.count = len(lq)
            self._lq[: self.count], self._gt[: self.count] = lq, gt

    def _make_room(self, lq: Tensor, gt: Tensor) -> None:
        if self._lq is None or self._lq.shape[1:] != lq.shape[1:]:
            self.count = 0
            self._lq, self._gt = (each.new_zeros((self.size, *each.shape[1:])) for each in (lq, gt))
