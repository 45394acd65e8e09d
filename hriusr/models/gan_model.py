"""Training against a discriminator: the generator's losses with an adversarial one, then the discriminator's step.

Registered as SRGANModel, on pairs that are read; real_gan_model.py makes its pairs. As BasicSR's SRGANModel, but: the
discriminator too has autocast, accumulation, clipping and a guard of its own, gets no gradient from the generator's
step, and is part of checkpoints. Where the generator rests (net_d_iters, net_d_init_iters) so does its running mean.

Shapes: B batch, C channels, H W pixels; pictures are RGB, range 0..1.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hriusr.archs.registry import build_network
from hriusr.archs.weights import weights_content
from hriusr.basicsr_bridge import MODEL_REGISTRY, replace_in
from hriusr.errors import OptionsError
from hriusr.losses.registry import build_loss
from hriusr.models import parallel
from hriusr.models.channel_checks import check_input, check_output
from hriusr.models.log_means import LogMeans
from hriusr.models.optimization import StepGuard, build_optimizer
from hriusr.models.patch_checks import check_discriminator
from hriusr.models.precision import Precision
from hriusr.models.snapshot import copy_to_cpu
from hriusr.models.sr_model import RestorationModel

logger = logging.getLogger(__name__)


class Targets(NamedTuple):
    """What each loss compares with, (B, C, H, W) each."""

    pixel: Tensor
    perceptual: Tensor
    real: Tensor


class _Part(NamedTuple):
    """A part of a batch: train.accumulation of them make a step."""

    lq: Tensor
    targets: Targets
    share: float
    is_last: bool


@replace_in(MODEL_REGISTRY, "SRGANModel")
class GANModel(RestorationModel):
    """A RestorationModel with a discriminator.

    Attributes:
        net_d: the discriminator, wrapped when distributed.
    """

    network_name = "generator"
    has_further_loss = True

    def init_training_settings(self) -> None:
        """Build the discriminator and its loss, then all that RestorationModel has."""
        train_opt = self.opt["train"]
        for section, key in ((self.opt, "network_d"), (train_opt, "gan_opt"), (train_opt, "optim_d")):
            if not section.get(key):
                raise OptionsError(f"{key} is missing: {self.opt.get('model_type', 'this model')} needs it")
        self._build_discriminator(self.opt["path"])
        self.cri_gan = build_loss(train_opt["gan_opt"], "train.gan_opt").to(self.device)
        self.net_d_iters = train_opt.get("net_d_iters") or 1
        self.net_d_init_iters = train_opt.get("net_d_init_iters") or 0
        # a loss scale of its own: the two losses have nothing to do with each other
        self.precision_d = Precision(self.precision.name, self.device)
        self.guard_d = StepGuard(self.device, train_opt.get("spike_factor"))
        self.log_means_d = LogMeans(self.device)
        super().init_training_settings()

    def _build_discriminator(self, path_opt: Mapping[str, Any]) -> None:
        """Build net_d and load its weights, where the options name any."""
        network = build_network(self.opt["network_d"]).to(self.device, memory_format=self.memory_format).train()
        if path_opt.get("pretrain_network_d"):
            strict = path_opt.get("strict_load_d")
            self.load_network(
                network,
                path_opt["pretrain_network_d"],
                True if strict is None else strict,
                path_opt.get("param_key_d") or "params",
            )
        check_discriminator(network, self.opt, self.device)
        # never sharded: it is small, and spectral norms need whole weights
        self.net_d = parallel.wrap(network, self.device) if self.opt.get("dist") else network
        self.print_network(self.net_d)

    def setup_optimizers(self) -> None:
        """Build the optimisers of net_g and net_d."""
        super().setup_optimizers()
        discriminator = self.get_bare_model(self.net_d)
        self.optimizer_d = build_optimizer(discriminator, self.opt["train"]["optim_d"], "train.optim_d")
        self.optimizers.append(self.optimizer_d)

    def targets(self) -> Targets:
        """Return what the losses compare the output of this batch with."""
        return Targets(self.gt, self.gt, self.gt)

    def optimize_parameters(self, current_iter: int) -> None:
        """Update the generator, unless it rests, and then the discriminator.

        Args:
            current_iter: number of the step, from 1.
        """
        check_input(self.lq, self.opt["network_g"])
        check_input(self.gt, self.opt["network_d"], "network_d")
        parts = self._parts()
        if current_iter > self.net_d_init_iters and current_iter % self.net_d_iters == 0:
            fakes = self._train_generator(parts, current_iter)
        else:
            fakes = [self._generate(part) for part in parts]
        self._train_discriminator(parts, fakes, current_iter)

    def generator_losses(self, output_BCHW: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Measure an output; the sum of what is returned is minimised.

        Args:
            output_BCHW: of the network, any floating-point type.
            targets: of the same pictures.

        Returns:
            Name in the log -> scalar.
        """
        check_output(output_BCHW, targets.pixel)
        output_BCHW = output_BCHW.float()
        losses = self.named_losses(output_BCHW, targets.pixel, self.current_iter)
        if self.cri_pix:
            losses["l_g_pix"] = self.cri_pix(output_BCHW, targets.pixel)
        if self.cri_perceptual:
            losses["l_g_percep"], losses["l_g_style"] = self.cri_perceptual(output_BCHW, targets.perceptual)
        with self.precision.autocast():
            answers = self.get_bare_model(self.net_d)(output_BCHW)  # bare: its gradients are not exchanged here
        losses["l_g_gan"] = self.cri_gan(answers.float(), True, is_disc=False)
        return {name: loss for name, loss in losses.items() if loss is not None}

    def _parts(self) -> list[_Part]:
        lqs = self.lq.chunk(self.accumulation)
        chunked = [target.chunk(self.accumulation) for target in self.targets()]
        return [
            _Part(lq_BCHW, Targets(*targets), len(lq_BCHW) / len(self.lq), number == len(lqs))
            for number, (lq_BCHW, *targets) in enumerate(zip(lqs, *chunked, strict=True), start=1)
        ]

    def _train_generator(self, parts: list[_Part], current_iter: int) -> list[Tensor]:
        """Take the generator's step; return what it made of each part before it."""
        self.net_d.requires_grad_(False)
        self.optimizer_g.zero_grad(set_to_none=True)
        fakes, losses = [], {}
        for part in parts:
            with parallel.gradient_sync(self.net_g, is_last=part.is_last):
                with self.precision.autocast():
                    output_BCHW = self._training_network(part.lq)
                part_losses = self.generator_losses(output_BCHW, part.targets)
                self._add_gradients(part_losses, part.share, self.precision.scaler)
            fakes.append(output_BCHW.detach().float())
            _add_share(losses, part_losses, part.share)
        self._finish_step(losses, current_iter)
        return fakes

    def _generate(self, part: _Part) -> Tensor:
        with torch.no_grad(), self.precision.autocast():
            return self._training_network(part.lq).float()

    def _train_discriminator(self, parts: list[_Part], fakes: list[Tensor], current_iter: int) -> None:
        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        for part, fake_BCHW in zip(parts, fakes, strict=True):
            for name, picture_BCHW in (("real", part.targets.real), ("fake", fake_BCHW)):
                with parallel.gradient_sync(self.net_d, is_last=part.is_last and name == "fake"):
                    with self.precision.autocast():
                        answers = self.net_d(picture_BCHW).float()
                    loss = self.cri_gan(answers, name == "real", is_disc=True)
                    self._add_gradients({f"l_d_{name}": loss}, part.share, self.precision_d.scaler)
                _add_share(losses, {f"l_d_{name}": loss, f"out_d_{name}": answers.mean()}, part.share)
        is_taken = self._update(self.optimizer_d, self.precision_d.scaler, self.guard_d, current_iter, "discriminator")
        self.log_means_d.add(losses, is_taken)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Return the mean losses of both networks since the last call; waits for the device."""
        log = super().get_current_log()
        counts = {name: log.pop(name) for name in ("nonfinite_steps", "spikes") if name in log}
        return OrderedDict(**log, **self.log_means_d.take(), **counts)

    def guard_counters(self) -> dict[str, Any]:
        """Return how many steps of both networks together were left out; waits for the device."""
        states = self.guard.state_dict(), self.guard_d.state_dict()
        counts: dict[str, Any] = {
            "consecutive": max(state["consecutive"] for state in states),
            "total": sum(state["total"] for state in states),
        }
        if self.guard.spikes:
            counts["spikes"] = {"total": sum(state["spikes"]["total"] for state in states)}
        return counts

    def checkpoint_files(
        self, epoch: int, current_iter: int, extra: Mapping[str, Any] | None = None
    ) -> dict[Path, dict[str, Any]]:
        """Copy what files are to hold, the discriminator's before the others: see RestorationModel."""
        files = super().checkpoint_files(epoch, current_iter, extra)
        if not self.is_first:
            return files
        label = "latest" if current_iter == -1 else current_iter
        discriminator = self.get_bare_model(self.net_d)
        content = weights_content(discriminator, self.opt["network_d"], {"iteration": current_iter})
        return {Path(self.opt["path"]["models"], f"net_d_{label}.pth"): copy_to_cpu(content), **files}

    def training_state(self) -> dict[str, Any]:
        """Return what training needs besides the weights; of the discriminator too."""
        self.log_means_d.average_over_processes()
        return {
            **super().training_state(),
            "scaler_d": self.precision_d.state_dict(),
            "guard_d": self.guard_d.state_dict(),
            "log_means_d": self.log_means_d.state_dict(),
        }

    def resume_training(self, resume_state: Mapping[str, Any]) -> None:
        """Take over a state; weights come by path.pretrain_network_g and pretrain_network_d."""
        super().resume_training(resume_state)
        self.precision_d.load_state_dict(resume_state.get("scaler_d", {}))
        if "guard_d" in resume_state:
            self.guard_d.load_state_dict(resume_state["guard_d"])
            self.log_means_d.load_state_dict(resume_state["log_means_d"])


def _add_share(sums: dict[str, Tensor], values: Mapping[str, Tensor], share: float) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0) + share * value.detach()
