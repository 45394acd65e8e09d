"""Running means of a network's weights: what is validated and shipped."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hriusr.errors import OptionsError
from hriusr.models.optimization import is_schedule_free
from hriusr.models.parallel import copy_network, local


class ExponentialMovingAverage:
    """Keeps a second network whose parameters and floating-point buffers follow those of the first.

    Buffers that are not saved (masks, means) are constants and stay as they are, as do those that hold infinities;
    integer buffers are copied.
    """

    def __init__(self, source: nn.Module, decay: float = 0.999, start: int = 0, warms_up: bool = False):
        """Copy the network as it is.

        Args:
            source: the bare network that is trained; neither wrapped nor compiled, and not moved from here on.
            decay: of after_step, see ema_decay_at.
            start: iteration at which the mean begins.
            warms_up: whether the decay grows from there.
        """
        self.source = source
        self.decay, self.start, self.warms_up = decay, start, warms_up
        self.network = copy_network(source).eval().requires_grad_(False)
        saved = set(source.state_dict())
        pairs = list(zip(self.network.parameters(), source.parameters(), strict=True))
        buffers = zip(self.network.named_buffers(), source.buffers(), strict=True)
        self._averaged = [(local(average.detach()), local(value.detach())) for average, value in pairs]
        self._copied: list[tuple[Tensor, Tensor]] = []
        for (name, average), value in buffers:
            if name in saved:
                is_averaged = value.is_floating_point() and bool(torch.isfinite(value).all())
                (self._averaged if is_averaged else self._copied).append((average, value))

    def update(self, decay: float, is_taken: Tensor | None = None) -> None:
        """Move towards the trained network: ema = decay * ema + (1 - decay) * trained.

        Args:
            decay: 0..1; 0 copies.
            is_taken: boolean scalar on the device: False leaves the mean as it is; None stands for True.
        """
        if is_taken is None or is_taken.device.type == "cpu":  # nothing to wait for
            if is_taken is None or bool(is_taken):
                self._move(decay)
        else:
            self._move_if(is_taken, decay)

    def after_step(self, iteration: int, is_taken: Tensor) -> None:
        """Follow a step of the optimiser, unless it was left out.

        Args:
            iteration: its number, from 1.
            is_taken: boolean scalar on the device.
        """
        self.update(ema_decay_at(iteration, self.decay, self.start, self.warms_up), is_taken)

    def refresh(self) -> None:
        """Bring `network` up to date: it always is."""

    @torch.no_grad()
    def _move(self, decay: float) -> None:
        averages, values = map(list, zip(*self._averaged, strict=True))
        if decay == 0:
            torch._foreach_copy_(averages, values)
        else:
            torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in self._copied:
            average.copy_(value)

    @torch.no_grad()
    def _move_if(self, is_taken: Tensor, decay: float) -> None:
        """Do the same where only the device knows whether it is to be done."""
        averages, values = map(list, zip(*self._averaged, strict=True))
        differences = torch._foreach_sub(values, averages)
        torch._foreach_mul_(differences, is_taken * (1 - decay))
        torch._foreach_add_(averages, differences)
        for average, value in self._copied:
            average.copy_(torch.where(is_taken, value, average))


def ema_decay_at(iteration: int, decay: float, start: int = 0, warms_up: bool = False) -> float:
    """Return the decay of the running mean at a step, a function of the iteration alone.

    Args:
        iteration: number of the step, from 1.
        decay: in the end.
        start: the mean is a copy of the weights until this iteration.
        warms_up: from then on (1 + t) / (10 + t) of the t steps so far, where that is less than decay: the mean forgets
            the weights of the beginning, as in TensorFlow's ExponentialMovingAverage.
    """
    if iteration <= start:
        return 0.0
    steps = iteration - start
    return min(decay, (1 + steps) / (10 + steps)) if warms_up else decay


class ScheduleFreeAverage:
    """The running mean x that a schedule-free optimiser keeps, as a network of its own (arXiv:2405.15682).

    The optimiser trains y = (1 - beta1) * z + beta1 * x and stores z. Its own eval() and train() turn y into x and back
    in place, which rounds: here x is computed beside y, so that looking at it changes nothing of the training.
    """

    def __init__(self, source: nn.Module, optimizer: Optimizer):
        """Copy the network as it is.

        Args:
            source: the bare network that is trained; not moved from here on.
            optimizer: schedule-free, of its parameters, in train mode.
        """
        self._copy = ExponentialMovingAverage(source)
        self.network = self._copy.network
        self._optimizer = optimizer
        self._counterparts = dict(zip(source.parameters(), self.network.parameters(), strict=True))
        self._is_current = False

    def after_step(self, iteration: int, is_taken: Tensor) -> None:
        """Take note that the weights may have changed; the arguments are those of ExponentialMovingAverage."""
        self._is_current = False

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring `network` up to date."""
        if self._is_current:
            return
        self._copy.update(0)
        for group in self._optimizer.param_groups:
            beta1 = group["betas"][0]
            for parameter in group["params"]:
                state = self._optimizer.state.get(parameter, {})
                if "z" in state:
                    local(self._counterparts[parameter]).lerp_(local(state["z"]), 1 - 1 / beta1)
        self._is_current = True


def build_average(
    source: nn.Module, optimizer: Optimizer, train_opt: Mapping[str, Any]
) -> ExponentialMovingAverage | ScheduleFreeAverage | None:
    """Build the running mean that the options ask for.

    Args:
        source: the bare network that is trained.
        optimizer: of its parameters.
        train_opt: ema_decay, ema_start, ema_warmup.

    Returns:
        None where the trained weights themselves are validated.

    Raises:
        OptionsError: two means at once.
    """
    decay = train_opt.get("ema_decay") or 0
    if is_schedule_free(optimizer):
        if decay > 0:
            raise OptionsError(
                f"train.ema_decay (={decay}): {type(optimizer).__name__} averages the weights itself; set it to 0"
            )
        return ScheduleFreeAverage(source, optimizer)
    if decay > 0:
        start, warms_up = train_opt.get("ema_start") or 0, bool(train_opt.get("ema_warmup"))
        return ExponentialMovingAverage(source, decay, start, warms_up)
    return None
