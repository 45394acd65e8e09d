"""Whether an exported file computes what its network does: at five sizes, from one pixel to several windows."""

import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError
from hriusr.exporting.formats import Network

# largest difference from the network in fp32 that is let through, pixels being 0..1
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


def check_sizes(multiple: int) -> list[tuple[int, int, int]]:
    """Return five (batch, height, width): a pixel, a strip, whole windows, odd sizes below and above several windows.

    Args:
        multiple: what the network's windows repeat with.
    """
    return [
        (1, 1, 1),
        (1, 3, multiple + 5),
        (2, multiple, 2 * multiple),
        (1, 2 * multiple + 1, max(multiple - 1, 1)),
        (1, 3 * multiple + 7, 2 * multiple + 3),
    ]


def largest_errors(network: nn.Module, exported: Network, multiple: int) -> dict[tuple[int, int, int], float]:
    """Run both on the same random pictures.

    Args:
        network: in evaluation mode, fp32, on the CPU.
        exported: what the file computes.
        multiple: what the network's windows repeat with.

    Returns:
        (batch, height, width) -> largest absolute difference, infinite where shapes differ or values are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    errors = {}
    for batch, height, width in check_sizes(multiple):
        lr_BCHW = torch.rand(batch, getattr(network, "in_chans", 3), height, width, generator=generator)
        with torch.no_grad():
            expected = network(lr_BCHW)
        errors[batch, height, width] = _largest_error(expected, exported(lr_BCHW))
    return errors


def _largest_error(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape or not found.isfinite().all():
        return float("inf")
    return (expected - found.float()).abs().max().item()


def refuse_above(errors: dict[tuple[int, int, int], float], precision: str, source: str) -> None:
    """Raise where an error is above the precision's tolerance.

    Raises:
        HriusrError: naming the worst size, its error, and the tolerance.
    """
    (batch, height, width), worst = max(errors.items(), key=lambda item: item[1])
    if worst > TOLERANCES[precision]:
        raise HriusrError(
            f"{source}: the exported network is off by {worst:.2g} at {batch} x {height} x {width}, more than the "
            f"{TOLERANCES[precision]:g} that {precision} may be: nothing is written; try another precision or format"
        )
