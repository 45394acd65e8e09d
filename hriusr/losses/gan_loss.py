"""Adversarial losses by BasicSR's names; takes over GANLoss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hriusr.basicsr_bridge import LOSS_REGISTRY, replace_in

_GAN_TYPES = ("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge")


@replace_in(LOSS_REGISTRY, "GANLoss")
class GANLoss(nn.Module):
    """What a discriminator's answers cost.

    Args:
        gan_type: vanilla (binary cross entropy on logits), lsgan (squared distance from the label), wgan (the mean),
            wgan_softplus (its smooth form, StyleGAN's logistic loss) or hinge.
        real_label_val: label of true pictures; vanilla and lsgan.
        fake_label_val: label of generated pictures; vanilla and lsgan.
        loss_weight: factor of the generator's loss; the discriminator's has none.

    Raises:
        ValueError: another gan_type.
    """

    def __init__(
        self,
        gan_type: str = "vanilla",
        real_label_val: float = 1.0,
        fake_label_val: float = 0.0,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        if gan_type not in _GAN_TYPES:
            raise ValueError(f"gan_type (={gan_type!r}) must be one of {', '.join(_GAN_TYPES)}")
        self.gan_type = gan_type
        self.labels = {True: real_label_val, False: fake_label_val}
        self.loss_weight = loss_weight

    def forward(self, answers: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        """Measure.

        Args:
            answers: logits of any shape, fp32.
            target_is_real: what they should have said.
            is_disc: whether the discriminator learns from it, or the generator.

        Returns:
            Scalar.
        """
        towards = 1 if target_is_real else -1
        if self.gan_type in _LABELLED:
            label = torch.full_like(answers, self.labels[target_is_real])
            loss = _LABELLED[self.gan_type](answers, label)
        elif self.gan_type == "wgan_softplus":
            loss = F.softplus(-towards * answers).mean()
        elif self.gan_type == "hinge" and is_disc:
            loss = F.relu(1 - towards * answers).mean()
        elif self.gan_type == "hinge":
            loss = -answers.mean()
        else:
            loss = -towards * answers.mean()
        return loss if is_disc else loss * self.loss_weight


_LABELLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "vanilla": F.binary_cross_entropy_with_logits,
    "lsgan": F.mse_loss,
}
