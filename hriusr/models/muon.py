"""Muon for the kernels of linear layers and convolutions, AdamW for all else, as one optimiser.

Muon takes steps in directions that are all equally long: its momentum's singular values are made nearly 1 by
Newton-Schulz iterations (https://kellerjordan.github.io/posts/muon/). A kernel of a convolution is a matrix of output
channels by all that one of them sees. Depth-wise kernels, biases, norms and tables are AdamW's. Updates are scaled so
that one learning rate and one weight decay fit both (arXiv:2502.16982).

Singular values are those of whole matrices: with FSDP2 (parallel.py) each process gathers those of one shape,
orthogonalises them all, and steps in its own part; momentum stays sharded.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hriusr.models.parallel import full_tensor, local, shard_like

_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315  # of the iteration: quick, to within 0.7..1.2
_ADAMW_DEVIATION = 0.2  # root mean square of AdamW's updates, which Muon's are given


class MuonWithAdamW(Optimizer):
    """Two optimisers over the groups and the state of one, so that schedules, scalers and checkpoints see one."""

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        fused: bool | None = None,
        foreach: bool | None = None,
    ):
        """Build both.

        Args:
            groups: each with `params` and `is_matrix`: whether Muon takes them.
            lr: of both.
            betas: of AdamW.
            eps: of AdamW.
            weight_decay: of both, decoupled.
            momentum: of Muon.
            nesterov: whether Muon looks ahead.
            ns_steps: Newton-Schulz iterations of Muon.
            fused: kernels of AdamW.
            foreach: kernels of AdamW.
        """
        groups = [dict(group) for group in groups]
        matrices = [group for group in groups if group["is_matrix"]]
        others = [group for group in groups if not group["is_matrix"]]
        self._parts: list[Optimizer] = []
        if matrices:
            settings = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
            self._parts.append(_Muon(matrices, {"lr": lr, "weight_decay": weight_decay, **settings}))
        if others:
            adamw = AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused, foreach=foreach)
            self._parts.append(adamw)
        ready = [group for part in self._parts for group in part.param_groups]
        super().__init__(ready, {"lr": lr, "weight_decay": weight_decay})
        self._share()

    def _share(self) -> None:
        """Give the two optimisers the groups and the state of this one."""
        for part in self._parts:
            is_muon = isinstance(part, _Muon)
            part.param_groups = [group for group in self.param_groups if group["is_matrix"] is is_muon]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take a step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; load_optimizer_state keeps the kernels."""
        super().load_state_dict(state_dict)
        self._share()


class _Muon(Optimizer):
    """The steps of kernels; those of one shape are orthogonalised together."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take a step. Collective where parameters are sharded."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for alike in by_shape.values():
                self._step_alike(alike, group)

    def _step_alike(self, parameters: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        whole = [full_tensor(self._direction(parameter, group)) for parameter in parameters]
        directions = torch.stack([direction.flatten(1) for direction in whole])
        rate = group["lr"] * _ADAMW_DEVIATION * math.sqrt(max(directions.shape[1:]))
        for parameter, update in zip(parameters, orthogonalise(directions, group["ns_steps"]), strict=True):
            own = local(parameter)
            own.mul_(1 - group["lr"] * group["weight_decay"])
            own.add_(local(shard_like(update.view(parameter.shape), parameter)), alpha=-rate)

    def _direction(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> Tensor:
        """Return momentum, or what it will be if the gradient stays."""
        gradient, state = parameter.grad, self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean


def orthogonalise(x_Koi: Tensor, steps: int) -> Tensor:
    """Make the singular values of matrices nearly 1.

    Args:
        x_Koi: K matrices of one shape.
        steps: Newton-Schulz iterations; five leave them within 0.7 to 1.2, but for the smallest.

    Returns:
        u_Koi.
    """
    if x_Koi.shape[1] > x_Koi.shape[2]:
        return orthogonalise(x_Koi.transpose(1, 2), steps).transpose(1, 2)
    x = x_Koi / x_Koi.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_CUBIC, alpha=_QUINTIC), x, beta=_LINEAR)
    return x


def split_matrices(
    groups: Iterable[Mapping[str, Any]], is_matrix: Callable[[nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Split groups in two: matrices and the rest; empty ones are left out."""
    split = []
    for group in groups:
        for wanted in (True, False):
            members = [parameter for parameter in group["params"] if is_matrix(parameter) is wanted]
            if members:
                split.append({**group, "params": members, "is_matrix": wanted})
    return split
