"""Training pairs made on the model's device: sharpen, degrade, crop, exchange with the pool.

Shapes: B batch, C channels, H W pixels; pictures are RGB, range 0..1.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hriusr.data.degradations.draws import SampleDraw, degradation_generator, draw_sample, pool_generator
from hriusr.data.degradations.filters import sharpen
from hriusr.data.degradations.pair_pool import PairPool
from hriusr.data.degradations.pipeline import degrade
from hriusr.data.degradations.settings import StagesSettings
from hriusr.errors import OptionsError
from hriusr.models import parallel

_POOL_SIZE = 180  # Real-ESRGAN's


class RealPairs:
    """Makes pairs from batches of RealESRGANDataset.

    Args:
        opt: options in BasicSR's form: the keys of StagesSettings, queue_size, gt_size, scale.
        device: of the model.
        sharpens_gt: the ground truth that is handed out is sharpened (RealESRNetModel's gt_usm).
        sharpens_source: the picture that is degraded is sharpened.

    Raises:
        OptionsError: gt_size is missing or no multiple of scale.
    """

    def __init__(self, opt: Mapping[str, Any], device: torch.device, *, sharpens_gt: bool, sharpens_source: bool):
        self.device = device
        self.scale = opt["scale"]
        self.gt_size = opt.get("gt_size") or opt["datasets"]["train"].get("gt_size")
        if not self.gt_size or self.gt_size % self.scale:
            raise OptionsError(f"gt_size (={self.gt_size}) must be a multiple of scale (={self.scale}): 256 is usual")
        self.settings = StagesSettings.from_options(opt)
        self.sharpens_gt, self.sharpens_source = sharpens_gt, sharpens_source
        self.pool = PairPool(_POOL_SIZE if opt.get("queue_size") is None else opt["queue_size"])

    @torch.no_grad()
    def make(self, data: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Make a batch.

        Args:
            data: gt (B, C, S, S), kernel1, kernel2, sinc_kernel (B, K, K), sample (SampleOrigin of tensors).

        Returns:
            (lq, gt) of gt_size / scale and gt_size, on the device.
        """
        gt_BCHW = data["gt"].to(self.device, non_blocking=True)
        samples = list(zip(data["sample"].seed.tolist(), data["sample"].position.tolist(), strict=True))
        draws = [draw_sample(self.settings, degradation_generator(*sample)) for sample in samples]
        sharp_BCHW = sharpen(gt_BCHW) if self.sharpens_gt or self.sharpens_source else gt_BCHW
        source_BCHW = sharp_BCHW if self.sharpens_source else gt_BCHW
        kernels = [data[name] for name in ("kernel1", "kernel2", "sinc_kernel")]
        lq_BCHW = degrade(source_BCHW, *kernels, draws, self.scale)
        lq_BCHW, gt_BCHW = self._crop(lq_BCHW, sharp_BCHW if self.sharpens_gt else gt_BCHW, draws)
        return self.pool.exchange(lq_BCHW, gt_BCHW, pool_generator(*samples[0]))

    def _crop(self, lq_BCHW: Tensor, gt_BCHW: Tensor, draws: list[SampleDraw]) -> tuple[Tensor, Tensor]:
        """Cut the same patch out of both pictures of each pair; BasicSR cuts the same out of all pairs."""
        side, height, width = self.gt_size // self.scale, *lq_BCHW.shape[-2:]
        if side > min(height, width):
            raise OptionsError(
                f"gt_size (={self.gt_size}) is larger than the pictures (={min(gt_BCHW.shape[-2:])}); "
                "lower it or raise datasets.train.crop_pad_size"
            )
        lq_patches, gt_patches = [], []
        for lq_CHW, gt_CHW, draw in zip(lq_BCHW, gt_BCHW, draws, strict=True):
            top, left = int(draw.corner[0] * (height - side + 1)), int(draw.corner[1] * (width - side + 1))
            lq_patches.append(lq_CHW[:, top : top + side, left : left + side])
            gt_top, gt_left = top * self.scale, left * self.scale
            gt_patches.append(gt_CHW[:, gt_top : gt_top + self.gt_size, gt_left : gt_left + self.gt_size])
        return torch.stack(lq_patches), torch.stack(gt_patches)


def wants(opt: Mapping[str, Any], flag: str) -> bool:
    """Read one of the flags *_usm; absent, it is true, as in BasicSR."""
    return opt.get(flag) is not False


class MakesPairs:
    """What a model needs to be fed by RealESRGANDataset; goes before RestorationModel in a class's bases."""

    def build_pairs(self, *, sharpens_gt: bool, sharpens_source: bool) -> None:
        """Build what makes pairs, where the training set has kernels; see RealPairs."""
        self.pairs = None
        if self.opt["datasets"]["train"]["type"] == "RealESRGANDataset":
            self.pairs = RealPairs(self.opt, self.device, sharpens_gt=sharpens_gt, sharpens_source=sharpens_source)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Make pairs of a batch of RealESRGANDataset; take over pairs of other datasets.

        Args:
            data: see RealPairs.make, or RestorationModel.feed_data.
        """
        if "kernel1" in data:
            lq_BCHW, gt_BCHW = self.pairs.make(data)
            data = {"lq": lq_BCHW, "gt": gt_BCHW, "lq_path": data["gt_path"]}
        super().feed_data(data)

    def training_state(self) -> dict[str, Any]:
        """Return what training needs besides the weights; with the pool of each process."""
        state = super().training_state()
        if self.pairs is not None:
            state["pair_pools"] = parallel.gather_on_first(self.pairs.pool.state_dict())
        return state

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Take over a state; a process that the run did not have before starts with an empty pool."""
        super().resume_training(resume_state)
        pools, rank = resume_state.get("pair_pools", []), self.opt.get("rank", 0)
        if self.pairs is not None and rank < len(pools):
            self.pairs.pool.load_state_dict(pools[rank], self.device)
