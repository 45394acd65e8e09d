"""How concentrated a map of non-negative numbers is: Gini coefficient, diffusion index, where most of it is.

The diffusion index is that of Gu & Dong (CVPR 2021, arXiv:2011.11036): 100 (1 - Gini). 0: one pixel has it all; 100:
all have the same. It depends on the size of the map, since pixels that have nothing count: compare maps of one size.
"""

import numpy as np

_GINI_OFFSET = 1e-7  # the authors': keeps a map of zeros defined
FRACTIONS = (0.90, 0.95, 0.99)


def gini(values: np.ndarray) -> float:
    """Compute the Gini coefficient, half the mean difference of all pairs over the mean.

    Args:
        values: non-negative numbers, any shape; here at most 1.

    Returns:
        0 (all alike) .. 1 (one has it all).
    """
    rising = np.sort(values.ravel().astype(np.float64)) + _GINI_OFFSET
    rank = np.arange(1, rising.size + 1)
    return float(((2 * rank - rising.size - 1) * rising).sum() / (rising.size * rising.sum()))


def diffusion_index(values: np.ndarray) -> float:
    """Return 100 (1 - gini): 0 .. 100, more where more pixels have a share."""
    return 100 * (1 - gini(values))


def shortest_run(profile: np.ndarray, fraction: float) -> tuple[int, int]:
    """Find the shortest run of neighbours that holds a part of the sum.

    Args:
        profile: (N,) non-negative numbers, not all 0.
        fraction: the part, 0 < fraction <= 1.

    Returns:
        (first, past-the-end); of equally short runs the first.
    """
    sums = np.concatenate([[0.0], np.cumsum(profile, dtype=np.float64)])
    wanted = fraction * sums[-1] * (1 - 1e-12)  # sums are rounded
    best = (0, len(profile))
    stops = np.searchsorted(sums, sums[:-1] + wanted)
    for first, stop in enumerate(stops.tolist()):
        if stop <= len(profile) and stop - first < best[1] - best[0]:
            best = (first, stop)
    return best


def reach(map_HW: np.ndarray) -> dict[str, dict[str, list[int] | int]]:
    """Find the rows and columns that hold 90, 95 and 99 percent of a map.

    Args:
        map_HW: non-negative numbers, not all 0.

    Returns:
        By percent: `rows` and `columns` as [first, past-the-end], `num_rows` and `num_columns`.
    """
    found = {}
    for fraction in FRACTIONS:
        rows, columns = (shortest_run(map_HW.sum(axis=axis), fraction) for axis in (1, 0))
        found[f"{100 * fraction:.0f}"] = {
            "rows": list(rows),
            "columns": list(columns),
            "num_rows": rows[1] - rows[0],
            "num_columns": columns[1] - columns[0],
        }
    return found


def centred_side(map_HW: np.ndarray, fraction: float) -> int | None:
    """Find the smallest square around the centre pixel (H // 2, W // 2) that holds a part of a map.

    Args:
        map_HW: non-negative numbers, not all 0.
        fraction: the part, 0 < fraction <= 1.

    Returns:
        The square's side, odd; None where even the largest square inside the map holds less.
    """
    row, column = map_HW.shape[0] // 2, map_HW.shape[1] // 2
    wanted = fraction * map_HW.sum(dtype=np.float64) * (1 - 1e-12)
    largest = min(row, column, map_HW.shape[0] - 1 - row, map_HW.shape[1] - 1 - column)
    for radius in range(largest + 1):
        square = map_HW[row - radius : row + radius + 1, column - radius : column + radius + 1]
        if square.sum(dtype=np.float64) >= wanted:
            return 2 * radius + 1
    return None
