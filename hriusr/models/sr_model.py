"""One training step of super-resolution: forward, loss, backward, update, running mean; and inference.

The methods are those of BasicSR's SRModel, so that its train_pipeline and test_pipeline can drive this class too. What
differs: autocast, accumulation, clipping, torch.compile; a step whose gradient is not finite is left out and counted;
losses stay on the device until they are asked for; rates are functions of the iteration. Files: checkpointing.py.

Shapes: B batch, C channels, H W pixels; lq and output are RGB, range 0..1.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hriusr.archs.registry import build_network
from hriusr.basicsr_bridge import MODEL_REGISTRY, replace_in
from hriusr.errors import OptionsError
from hriusr.losses.named_losses import NamedLosses
from hriusr.losses.registry import build_loss
from hriusr.models import parallel
from hriusr.models.channel_checks import check_input, check_output
from hriusr.models.checkpointing import CheckpointedModel
from hriusr.models.ema import build_average
from hriusr.models.left_out_steps import LeftOutSteps
from hriusr.models.log_means import LogMeans
from hriusr.models.optimization import StepGuard, build_optimizer, clip_gradients, gradient_norm
from hriusr.models.padding import with_padding
from hriusr.models.patch_checks import check_losses
from hriusr.models.precision import Precision, pick_device
from hriusr.models.schedules import build_schedule
from hriusr.models.selective_recompute import recompute_modules


@replace_in(MODEL_REGISTRY, "SRModel")
@replace_in(MODEL_REGISTRY, "SwinIRModel")
@replace_in(MODEL_REGISTRY, "HATModel")
@replace_in(MODEL_REGISTRY, "RestorationModel")
class RestorationModel(CheckpointedModel):
    """A network, its losses, optimiser, schedule and running mean.

    Attributes:
        net_g: the network that is trained, wrapped when distributed.
        net_g_ema: its running mean, never wrapped or compiled; absent when train.ema_decay is 0 and the optimiser keeps
            none.
        lq, gt, output: tensors (B, C, H, W) on the device, of the last feed_data and test.
    """

    network_name = ""
    """What messages call net_g; empty where it is the only one that is trained."""
    has_further_loss = False
    """Whether a subclass has a loss beside those of compute_losses in every step."""

    def __init__(self, opt: dict[str, Any]):
        """Build everything the options name.

        Args:
            opt: options in BasicSR's form; not changed.

        Raises:
            OptionsError, WeightsError: options or weights that do not fit.
        """
        # BasicSR's constructor is not called: it builds its own network, optimiser and schedule
        self.opt = opt
        self.is_train = opt["is_train"]
        self.is_first = opt.get("rank", 0) == 0
        self.device = pick_device(opt["num_gpu"])
        self.precision = Precision(opt.get("precision", "fp32"), self.device)
        self.memory_format = torch.channels_last if opt.get("channels_last") else torch.contiguous_format
        self.optimizers, self.schedulers = [], []
        self._ema = None

        bare_network = build_network(opt["network_g"]).to(self.device, memory_format=self.memory_format)
        self._load_pretrained(bare_network, opt["path"].get("param_key_g", "params"))
        if self.is_train and opt["train"].get("recompute"):
            recompute_modules(bare_network, opt["train"]["recompute"])
        self.net_g = self.model_to_device(bare_network)
        self.print_network(self.net_g)
        if self.is_train:
            self.init_training_settings()

    def init_training_settings(self) -> None:
        """Build losses, optimiser, schedule and running mean."""
        train_opt = self.opt["train"]
        self.net_g.train()
        self.cri_pix, self.cri_perceptual = (
            build_loss(train_opt[key], f"train.{key}").to(self.device) if train_opt.get(key) else None
            for key in ("pixel_opt", "perceptual_opt")
        )
        if getattr(self.cri_perceptual, "is_missing", False):  # weights not found, and not required
            self.cri_perceptual = None
        self.named_losses = NamedLosses(train_opt.get("losses") or {}).to(self.device)
        self._check_losses()
        named = {f"train.losses.{name}": loss for name, loss in self.named_losses.by_name().items()}
        check_losses({"train.pixel_opt": self.cri_pix, **named}, self.opt, self.device)
        self.accumulation = train_opt.get("accumulation") or 1
        self.grad_clip_norm = train_opt.get("grad_clip_norm")
        self.guard = StepGuard(self.device, train_opt.get("spike_factor"))
        self.left_out_steps = LeftOutSteps()
        self.log_means = LogMeans(self.device)
        self.current_iter = 0
        # calling the compiled network trains net_g itself: names in checkpoints stay as they are
        self._training_network = torch.compile(self.net_g) if self.opt.get("compile") else self.net_g
        self.setup_optimizers()
        self.setup_schedulers()
        self._ema = build_average(self.get_bare_model(self.net_g), self.optimizer_g, train_opt)
        if self._ema is not None:
            self.net_g_ema = self._ema.network
            self._load_pretrained(self.net_g_ema, "params_ema")

    def _check_losses(self) -> None:
        """Refuse a training that has nothing to minimise in its first step."""
        starts = [0 for loss in (self.cri_pix, self.cri_perceptual) if loss is not None] + self.named_losses.starts()
        if not starts:
            raise OptionsError(
                "train names no loss that compares with gt: give train.pixel_opt, train.losses or train.perceptual_opt"
            )
        if min(starts) > 1 and not self.has_further_loss:
            raise OptionsError(
                f"no loss is there before iteration {min(starts)}: lower start_iter of one of train.losses to 0, or "
                "give train.pixel_opt"
            )

    def setup_optimizers(self) -> None:
        """Build the optimiser of net_g."""
        self.optimizer_g = build_optimizer(self.get_bare_model(self.net_g), self.opt["train"]["optim_g"])
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        """Build a schedule for each optimiser."""
        train_opt = self.opt["train"]
        schedule = train_opt["scheduler"], int(train_opt["total_iter"]), train_opt.get("warmup_start_factor") or 0.0
        self.schedulers += [build_schedule(optimizer, *schedule) for optimizer in self.optimizers]

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the rate of iteration current_iter (from 1); it grows until warmup_iter."""
        self.current_iter = current_iter
        for scheduler in self.schedulers:
            scheduler.set_iteration(current_iter, warmup_iter)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch to the device.

        Args:
            data: lq (B, C, H, W) and, where there is one, gt (B, C, H*scale, W*scale); lq_path, B names.
        """
        self.pictures = list(data.get("lq_path") or ())
        self.lq = data["lq"].to(self.device, non_blocking=True, memory_format=self.memory_format)
        if "gt" in data:
            self.gt = data["gt"].to(self.device, non_blocking=True, memory_format=self.memory_format)
        elif hasattr(self, "gt"):  # that of another picture
            del self.gt

    def optimize_parameters(self, current_iter: int) -> None:
        """Update the parameters once, from the batch that feed_data took.

        Args:
            current_iter: number of the step, from 1.
        """
        check_input(self.lq, self.opt["network_g"])
        self.optimizer_g.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        parts = list(zip(*(tensor.chunk(self.accumulation) for tensor in self.training_batch()), strict=True))
        for number, part in enumerate(parts, start=1):
            with parallel.gradient_sync(self.net_g, is_last=number == len(parts)):
                share = len(part[0]) / len(self.lq)
                for name, loss in self._backward(part, share).items():
                    losses[name] = losses.get(name, 0) + share * loss

        self._finish_step(losses, current_iter)

    def training_batch(self) -> tuple[Tensor, ...]:
        """Return the tensors of a step, lq first, that parts are cut out of."""
        return self.lq, self.gt

    def part_losses(self, lq_BCHW: Tensor, gt_BCHW: Tensor) -> dict[str, Tensor]:
        """Run the network on a part of training_batch; return what compute_losses does."""
        with self.precision.autocast():
            output_BCHW = self._training_network(lq_BCHW)
        return self.compute_losses(output_BCHW, gt_BCHW)

    def compute_losses(self, output_BCHW: Tensor, gt_BCHW: Tensor) -> dict[str, Tensor]:
        """Measure an output in fp32; the sum of what is returned is minimised.

        Args:
            output_BCHW: of the network, any floating-point type.
            gt_BCHW: ground truth.

        Returns:
            Name in the log -> scalar.
        """
        check_output(output_BCHW, gt_BCHW)
        output_BCHW = output_BCHW.float()
        losses = self.named_losses(output_BCHW, gt_BCHW, self.current_iter)
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output_BCHW, gt_BCHW)
        if self.cri_perceptual:
            losses["l_percep"], losses["l_style"] = self.cri_perceptual(output_BCHW, gt_BCHW)
        return {name: loss for name, loss in losses.items() if loss is not None}

    def model_ema(self, decay: float = 0.999) -> None:
        """Move net_g_ema towards net_g."""
        self._ema.update(decay)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Return the mean losses of the steps since the last call; waits for the device."""
        log = self.log_means.take()
        counters = self.guard_counters()
        counts = {"nonfinite_steps": counters["total"], "spikes": counters.get("spikes", {}).get("total", 0)}
        return OrderedDict(log, **{name: count for name, count in counts.items() if count})

    def guard_counters(self) -> dict[str, Any]:
        """Return how many steps were left out: those of StepGuard.state_dict; waits for the device."""
        return self.guard.state_dict()

    @property
    def inference_network(self) -> nn.Module:
        """The network that is validated: the running mean, or net_g where there is none; never compiled or wrapped."""
        network = self._average_network() or self.get_bare_model(self.net_g)
        return with_padding(parallel.inference_copy(network), self.opt["network_g"].get("window_size"))

    def upscale(self, lq_BCHW: Tensor) -> Tensor:
        """Run inference_network on pictures of any size; it is left in the mode it was in.

        Args:
            lq_BCHW: range 0..1, on any device.

        Returns:
            Pictures (B, C, H*scale, W*scale), fp32, on the model's device, not clamped.
        """
        network = self.inference_network
        was_training = network.training
        network.eval()
        try:
            # no inference_mode: a buffer cached under it could not be used in training again
            with torch.no_grad(), self.precision.autocast():
                return network(lq_BCHW.to(self.device, memory_format=self.memory_format)).float()
        finally:
            network.train(was_training)

    def test(self) -> None:
        """Upscale the pictures that feed_data took, into self.output."""
        self.output = self.upscale(self.lq)

    def _backward(self, part: tuple[Tensor, ...], share: float) -> dict[str, Tensor]:
        """Add a part's gradients to those of the parts before; return its losses, detached."""
        losses = self.part_losses(*part)
        self._add_gradients(losses, share, self.precision.scaler)
        return {name: loss.detach() for name, loss in losses.items()}

    def _add_gradients(self, losses: Mapping[str, Tensor], share: float, scaler: torch.amp.GradScaler) -> None:
        """Add the gradients of a part's losses, of which it has its share of the batch."""
        total = sum(losses.values())
        # an infinite loss can have finite gradients (L1); multiplied by NaN, the guard sees it in them
        poison = torch.where(torch.isfinite(total.detach()), 1.0, torch.nan)
        scaler.scale(total * (share * poison)).backward()

    def _finish_step(self, losses: Mapping[str, Tensor], current_iter: int) -> None:
        """Update net_g by its gradients, then its running mean; count the step and its losses."""
        is_taken = self._update(self.optimizer_g, self.precision.scaler, self.guard, current_iter, self.network_name)
        self.log_means.add(losses, is_taken)
        if self._ema is not None:
            self._ema.after_step(current_iter, is_taken)

    def _update(
        self, optimizer: Optimizer, scaler: torch.amp.GradScaler, guard: StepGuard, current_iter: int, network: str
    ) -> Tensor:
        """Let an optimiser take its step, if the guard agrees; return whether it did, on the device."""
        scaler.unscale_(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = gradient_norm(gradients)
        if self.grad_clip_norm:
            clip_gradients(gradients, norm, self.grad_clip_norm)
        is_taken = guard.step(optimizer, scaler, norm)
        self.left_out_steps.note(current_iter, is_taken, norm, self.pictures, network)
        return is_taken
