"""Random numbers of a run: seeded once, kept in checkpoints, untouched by validation."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (CPU and every GPU).

    Args:
        seed: not negative; with several processes, one of its own each.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the legacy generator, because networks and datasets of others use it
    torch.manual_seed(seed)  # GPUs too


def capture_randomness() -> dict[str, Any]:
    """Return the state of every generator of this process: tensors and plain types."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - see seed_everything
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],  # of this process's GPU
    }


def restore_randomness(state: dict[str, Any]) -> None:
    """Put every generator back to a captured state.

    Args:
        state: from capture_randomness.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002 - see above
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0].cpu())


@contextlib.contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the generators back afterwards, so that how often a run validates does not change what it learns."""
    state = capture_randomness()
    try:
        yield
    finally:
        restore_randomness(state)
