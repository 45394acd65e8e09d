"""Training for compressed pictures: the network also says what the low-resolution picture was before its compression.

Swin2SR's head "pixelshuffle_aux" (arXiv:2209.11345) has this auxiliary output. Its paper gives a loss at low resolution
but no code; here the output is compared with the clean lq itself, `lq_clean` of PairedImageDataset.

Shapes: B batch, C channels, H W pixels; pictures are RGB, range 0..1.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hriusr.basicsr_bridge import MODEL_REGISTRY, replace_in
from hriusr.errors import OptionsError
from hriusr.losses.registry import build_loss
from hriusr.models.sr_model import RestorationModel


@replace_in(MODEL_REGISTRY, "CompressedSRModel")
class CompressedSRModel(RestorationModel):
    """A RestorationModel with a loss on the network's auxiliary output, train.aux_opt."""

    has_further_loss = True

    def init_training_settings(self) -> None:
        """Build the auxiliary loss, then all that RestorationModel has."""
        if not getattr(self.get_bare_model(self.net_g), "has_aux", False):
            raise OptionsError(
                "network_g has no auxiliary output, which CompressedSRModel trains: "
                "take type: Swin2SR with upsampler: pixelshuffle_aux"
            )
        aux_opt = self.opt["train"].get("aux_opt")
        if not aux_opt:
            raise OptionsError("train.aux_opt is missing: CompressedSRModel needs it, for example {type: L1Loss}")
        self.cri_aux = build_loss(aux_opt, "train.aux_opt").to(self.device)
        super().init_training_settings()

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch to the device.

        Args:
            data: see RestorationModel.feed_data; in training also lq_clean (B, C, H, W).
        """
        super().feed_data(data)
        self.lq_clean = None
        if "lq_clean" in data:
            self.lq_clean = data["lq_clean"].to(self.device, non_blocking=True, memory_format=self.memory_format)

    def training_batch(self) -> tuple[Tensor, ...]:
        """Return lq, gt and lq before compression."""
        if self.lq_clean is None:
            raise OptionsError(
                "the training set gives no lq before compression: set datasets.train.lq_jpeg_quality, 10 is usual"
            )
        return *super().training_batch(), self.lq_clean

    def part_losses(self, lq_BCHW: Tensor, gt_BCHW: Tensor, lq_clean_BCHW: Tensor) -> dict[str, Tensor]:
        """Run the network on a part of training_batch; return its losses and l_aux."""
        with self.precision.autocast():
            output_BCHW, aux_BCHW = self._training_network(lq_BCHW, return_aux=True)
        losses = self.compute_losses(output_BCHW, gt_BCHW)
        return {**losses, "l_aux": self.cri_aux(aux_BCHW.float(), lq_clean_BCHW)}
