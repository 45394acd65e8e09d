"""Effective receptive field: how strongly each input pixel moves the centre pixel of a network's result.

Luo et al., NeurIPS 2016 (arXiv:1701.04128): magnitude of the gradient, mean over several inputs. It says how far a
network looks on average; a local attribution map shows it for one place.
"""

from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor, nn

from hriusr.analysis.concentration import FRACTIONS, centred_side, reach
from hriusr.analysis.input_gradient import explained, input_gradient, network_input


def effective_receptive_field(
    network: nn.Module,
    crops_HWC: Iterable[np.ndarray],
    *,
    scale: int,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Average the gradient's magnitude of the centre pixel.

    Args:
        network: on any device.
        crops_HWC: low-resolution pictures of one size, floats in 0..1; at least one.
        scale: enlargement.
        progress: called after each with how many are done.

    Returns:
        (H, W) float64, summed over the input's channels; of the result's pixel in the middle of those that the pixel
        (H // 2, W // 2) becomes, its channels summed.

    Raises:
        ValueError: no crop, or crops of different sizes.
        HriusrError: out of memory, or the network's gradient is not finite.
    """
    total_HW, count = None, 0
    with explained(network):
        for crop_HWC in crops_HWC:
            gradient_1CHW, _, _ = input_gradient(network, network_input(network, crop_HWC), _CentrePixel(scale))
            magnitude_HW = gradient_1CHW[0].abs().sum(dim=0).double().cpu().numpy()
            if total_HW is not None and total_HW.shape != magnitude_HW.shape:
                raise ValueError(f"crops of {total_HW.shape} and {magnitude_HW.shape}: all must have one size")
            total_HW = magnitude_HW if total_HW is None else total_HW + magnitude_HW
            count += 1
            if progress is not None:
                progress(count)
    if total_HW is None:
        raise ValueError("at least one crop is needed")
    return total_HW / count


class _CentrePixel:
    """The value of the centre pixel, its channels summed."""

    def __init__(self, scale: int):
        self.scale = scale

    def __call__(self, sr_1CHW: Tensor) -> Tensor:
        row, column = (side // self.scale // 2 * self.scale + self.scale // 2 for side in sr_1CHW.shape[-2:])
        return sr_1CHW[..., row, column].sum()


def describe_field(field_HW: np.ndarray) -> dict[str, object]:
    """Put an effective receptive field into numbers.

    Args:
        field_HW: as effective_receptive_field returns it, not all 0.

    Returns:
        `side`: by percent, side of the smallest centred square that holds it, None where none inside the crop does;
        `reach` as concentration.reach; `touched`: rows and columns with any gradient; `is_cut_off`: whether those
        reach the crop's border, so that the true field may be larger.
    """
    rows, columns = (np.flatnonzero(field_HW.sum(axis=axis)) for axis in (1, 0))
    touched = {"num_rows": int(rows[-1] - rows[0] + 1), "num_columns": int(columns[-1] - columns[0] + 1)}
    height, width = field_HW.shape
    return {
        "side": {f"{100 * part:.0f}": centred_side(field_HW, part) for part in (0.5, *FRACTIONS)},
        "reach": reach(field_HW),
        "touched": touched,
        "is_cut_off": bool(rows[0] == 0 or columns[0] == 0 or rows[-1] == height - 1 or columns[-1] == width - 1),
    }
