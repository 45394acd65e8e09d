"""Learning rates as pure functions of the iteration.

BasicSR's schedulers multiply the rate of the step before, so that a warm-up leaks into the whole run and a resumed run
depends on its past. Here every rate follows from the iteration alone. t counts the steps done before: iteration 1 has
t = 0, as in BasicSR. Names and keys are BasicSR's; those of CosineAnnealingLR, OneCycleLR, LinearLR, PolynomialLR and
ConstantLR are torch's, with defaults that span the run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch.optim import Optimizer

from hriusr.errors import OptionsError

# (rate at the start, steps done) -> rate
RateFunction = Callable[[float, int], float]


class Schedule:
    """Sets the rate of every parameter group; keeps torch's method names so that BasicSR's pipeline can drive it."""

    def __init__(self, optimizer: Optimizer, rate_function: RateFunction, warmup_start_factor: float = 0.0):
        """Remember the groups' rates and set those of the first iteration.

        Args:
            optimizer: its groups' `lr` are the rates at the start, to be multiplied by their `lr_mult`, where given.
            rate_function: see the functions below.
            warmup_start_factor: share of the rate from which a warm-up grows.
        """
        self.optimizer = optimizer
        self.warmup_start_factor = warmup_start_factor
        self.rate_function = rate_function
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.factors = [group.get("lr_mult", 1.0) for group in optimizer.param_groups]
        for group, rate, factor in zip(optimizer.param_groups, self.base_rates, self.factors, strict=True):
            group["initial_lr"] = rate * factor
        self.last_epoch = 0
        self.set_iteration(1)

    def set_iteration(self, iteration: int, warmup_iter: int = -1) -> None:
        """Set the rates for a step.

        Args:
            iteration: number of the step, from 1.
            warmup_iter: before this step the rate grows linearly, from 0 or warmup_start_factor; -1: no warm-up.
        """
        self.last_epoch = iteration - 1
        for group, base_rate, factor in zip(self.optimizer.param_groups, self.base_rates, self.factors, strict=True):
            if iteration < warmup_iter:
                rate = base_rate * iteration / warmup_iter  # BasicSR's
                rate += (base_rate - rate) * self.warmup_start_factor
            else:
                rate = self.rate_function(base_rate, self.last_epoch)
            group["lr"] = rate * factor

    def step(self) -> None:
        """Go on by one iteration."""
        self.set_iteration(self.last_epoch + 2)

    def state_dict(self) -> dict[str, Any]:
        """Return the position; the rates follow from it."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a position, also from a state that BasicSR's schedulers wrote."""
        self.set_iteration(int(state["last_epoch"]) + 1)


def multi_step(
    milestones: Sequence[int],
    gamma: float = 0.1,
    restarts: Sequence[int] = (0,),
    restart_weights: Sequence[float] = (1,),
) -> RateFunction:
    """Multiply the rate by gamma after each milestone (MultiStepLR, MultiStepRestartLR).

    Args:
        milestones: numbers of steps; one named twice counts twice.
        gamma: factor.
        restarts: numbers of steps after which the rate starts again; milestones before no longer count.
        restart_weights: factor of the starting rate after each restart.
    """
    if len(restarts) != len(restart_weights):
        raise OptionsError(
            f"train.scheduler: restarts ({len(restarts)}) and restart_weights ({len(restart_weights)}) differ in length"
        )

    def rate(base_rate: float, steps_done: int) -> float:
        last_restart, value = -1, base_rate
        for restart, weight in zip(restarts, restart_weights, strict=True):
            if last_restart < restart <= steps_done:
                last_restart, value = restart, base_rate * weight
        passed = [milestone for milestone in milestones if last_restart < milestone <= steps_done]
        for milestone in sorted(set(passed)):  # one product after another, to round as BasicSR does
            value = value * gamma ** passed.count(milestone)
        return value

    return rate


def cosine_restart(periods: Sequence[int], restart_weights: Sequence[float] = (1,), eta_min: float = 0) -> RateFunction:
    """Fall along half a cosine in each period (CosineAnnealingRestartLR); the end of the last one is kept.

    Args:
        periods: length of each, steps.
        restart_weights: factor of the starting rate in each period.
        eta_min: rate at the end of each period.
    """
    if len(periods) != len(restart_weights):
        raise OptionsError(
            f"train.scheduler: periods ({len(periods)}) and restart_weights ({len(restart_weights)}) differ in length"
        )
    ends = list(accumulate(periods))

    def rate(base_rate: float, steps_done: int) -> float:
        steps_done = min(steps_done, ends[-1])
        number = next(index for index, end in enumerate(ends) if steps_done <= end)
        phase = (steps_done - (ends[number] - periods[number])) / periods[number]
        return eta_min + restart_weights[number] * 0.5 * (base_rate - eta_min) * (1 + math.cos(math.pi * phase))

    return rate


def cosine(T_max: int, eta_min: float = 0) -> RateFunction:
    """Fall along half a cosine over T_max steps, then stay at eta_min (CosineAnnealingLR)."""
    return cosine_restart([T_max], [1], eta_min)


def one_cycle(
    total_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25,
    final_div_factor: float = 1e4,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
) -> RateFunction:
    """Rise to the rate of the optimiser and fall far below the first one (OneCycleLR; arXiv:1708.07120).

    Args:
        total_steps: length of the cycle; its last rate is kept.
        pct_start: share of it that rises, 0..1.
        div_factor: the first rate is the largest divided by it.
        final_div_factor: the last rate is the first divided by it.
        anneal_strategy: cos or linear.
        three_phase: fall as fast as it rose, then from the first rate to the last.
    """
    rise = pct_start * total_steps - 1
    corners = [rise, 2 * rise, total_steps - 1] if three_phase else [rise, total_steps - 1]

    def rate(base_rate: float, steps_done: int) -> float:
        lowest = base_rate / div_factor
        values = [lowest, base_rate, *([lowest] if three_phase else []), lowest / final_div_factor]
        position, start = min(steps_done, total_steps - 1), 0.0
        for number, end in enumerate(corners):
            if position <= end or number == len(corners) - 1:
                share = (position - start) / (end - start) if end > start else 1.0
                if anneal_strategy == "cos":
                    share = (1 - math.cos(math.pi * share)) / 2
                return values[number] + (values[number + 1] - values[number]) * share
            start = end
        raise AssertionError("the last phase takes what is left")

    return rate


def linear(end_factor: float, total_iters: int, start_factor: float = 1.0) -> RateFunction:
    """Go from start_factor to end_factor times the rate in total_iters steps, then stay (LinearLR)."""
    return lambda base_rate, steps_done: (
        base_rate * (start_factor + (end_factor - start_factor) * min(steps_done, total_iters) / total_iters)
    )


def polynomial(total_iters: int, power: float = 1.0) -> RateFunction:
    """Fall to 0 in total_iters steps as (1 - t / total_iters) ** power (PolynomialLR)."""
    return lambda base_rate, steps_done: base_rate * (1 - min(steps_done, total_iters) / total_iters) ** power


def constant(factor: float = 1.0, total_iters: int = 0) -> RateFunction:
    """Multiply the rate by a factor for total_iters steps; the rate itself afterwards (ConstantLR)."""
    return lambda base_rate, steps_done: base_rate * (factor if steps_done < total_iters else 1.0)


_SCHEDULES = {
    "MultiStepLR": multi_step,
    "MultiStepRestartLR": multi_step,
    "CosineAnnealingRestartLR": cosine_restart,
    "CosineAnnealingLR": cosine,
    "OneCycleLR": one_cycle,
    "LinearLR": linear,
    "PolynomialLR": polynomial,
    "ConstantLR": constant,
}
# type -> the argument that is total_iter unless it is given
_LENGTHS = {
    "CosineAnnealingLR": "T_max",
    "OneCycleLR": "total_steps",
    "LinearLR": "total_iters",
    "PolynomialLR": "total_iters",
}


def build_schedule(
    optimizer: Optimizer, scheduler_opt: Mapping[str, Any], total_iter: int, warmup_start_factor: float = 0.0
) -> Schedule:
    """Build the schedule of an optimiser.

    Args:
        optimizer: with the starting rates in its groups.
        scheduler_opt: `type` and the arguments of the functions above; not changed.
        total_iter: steps of the whole run, the default length of schedules that have one.
        warmup_start_factor: share of the rate from which a warm-up grows.

    Raises:
        OptionsError: unknown type, or arguments that do not fit it.
    """
    arguments = dict(scheduler_opt)
    type_name = arguments.pop("type", None)
    if type_name not in _SCHEDULES:
        raise OptionsError(f"train.scheduler.type: unknown {type_name!r}; one of {', '.join(_SCHEDULES)}")
    if type_name in _LENGTHS:
        arguments.setdefault(_LENGTHS[type_name], total_iter)
    try:
        return Schedule(optimizer, _SCHEDULES[type_name](**arguments), warmup_start_factor)
    except TypeError as error:
        raise OptionsError(f"train.scheduler ({type_name}): {error}") from error
