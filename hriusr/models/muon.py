"""Muon (torch.optim.Muon) for the matrices of a network, AdamW for all else, as one optimiser.

Muon orthogonalises the update of a matrix (Newton-Schulz iterations); kernels of convolutions, biases, norms and tables
are no matrices. Updates are scaled so that one learning rate and one weight decay fit both (arXiv:2502.16982).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hriusr.errors import OptionsError


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

        Raises:
            OptionsError: torch has no Muon.
        """
        if not hasattr(torch.optim, "Muon"):
            raise OptionsError(
                f"train.optim_g.type: Muon needs torch 2.9 or newer, this is {torch.__version__}: pip install -U torch"
            )
        groups = [dict(group) for group in groups]
        matrices = [group for group in groups if group["is_matrix"]]
        others = [group for group in groups if not group["is_matrix"]]
        self._parts: list[Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                lr=lr,
                weight_decay=weight_decay,
                momentum=momentum,
                nesterov=nesterov,
                ns_steps=ns_steps,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append(muon)
        if others:
            adamw = AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused, foreach=foreach)
            self._parts.append(adamw)
        ready = [group for part in self._parts for group in part.param_groups]
        super().__init__(ready, {"lr": lr, "weight_decay": weight_decay})
        self._share()

    def _share(self) -> None:
        """Give the two optimisers the groups and the state of this one."""
        for part in self._parts:
            is_muon = not isinstance(part, AdamW)
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
