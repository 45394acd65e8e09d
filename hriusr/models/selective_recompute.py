"""Activation checkpointing of chosen modules of any network: less memory, their forward pass once more on the way back.

Each chosen module's class is replaced by a subclass of it whose forward recomputes (arXiv:1604.06174), so that names in
checkpoints, copies and wrappers of the network stay as they are.
"""

import functools
import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hriusr.errors import OptionsError

logger = logging.getLogger(__name__)


def recompute_modules(network: nn.Module, recompute_opt: Mapping[str, Any]) -> list[str]:
    """Let modules of a network recompute their inside in the backward pass.

    Args:
        network: bare; changed.
        recompute_opt: modules: patterns of names, as the shell has them (body.*); every: take each k-th that matches.

    Returns:
        Names of the modules.

    Raises:
        OptionsError: none matches.
    """
    patterns, every = recompute_opt["modules"], recompute_opt.get("every") or 1
    chosen = list(_matching(network, "", patterns))[::every]
    if not chosen:
        examples = ", ".join(name for name, _ in list(network.named_modules())[1:9])
        raise OptionsError(
            f"train.recompute.modules (={patterns}) match no module of the network; it has {examples} ..."
        )
    for _, module in chosen:
        module.__class__ = _recomputing(type(module))
    names = [name for name, _ in chosen]
    logger.info("computed again in the backward pass: %s", ", ".join(names))
    return names


def _matching(module: nn.Module, prefix: str, patterns: list[str]) -> Any:
    """Yield the outermost modules whose names match."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if any(fnmatchcase(path, pattern) for pattern in patterns):
            yield path, child
        else:
            yield from _matching(child, f"{path}.", patterns)


@functools.cache
def _recomputing(module_class: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        inside = functools.partial(module_class.forward, self)
        if not torch.is_grad_enabled():
            return inside(*args, **kwargs)
        return checkpoint(inside, *args, use_reentrant=False, **kwargs)

    told = {"forward": forward, "__module__": module_class.__module__, "__doc__": module_class.__doc__}
    return type(module_class.__name__, (module_class,), told)
