"""Applying a function to the windows of maps: to all at once, or to a few at a time in place.

Shapes: B batch, C channels, H W pixels, M windows of the batch (by image, then row-major), N cells of a window, P those
of its result, Y X windows down and across, y x cells of a window.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from hriusr.blocks.residual import Residual
from hriusr.blocks.windows import roll_windows, window_merge, window_partition

_Pieces = list[tuple[Tensor, tuple[slice, slice]]]  # views of maps, each with its rows and columns in a part


def map_windows(
    x_BHWC: Tensor,
    window_size: tuple[int, int],
    shift_size: tuple[int, int],
    function: Callable[[Tensor, range], Tensor],
    residual: Residual | None = None,
    *,
    target_size: tuple[int, int] | None = None,
    windows_at_once: int | None = None,
) -> Tensor:
    """Apply a function to the shifted windows of maps.

    Args:
        x_BHWC: features; H and W are multiples of the window.
        window_size: (height, width) of a window, pixels of x.
        shift_size: pixels that windows are moved down and right by, around the edges.
        function: (cells x_MNC of some windows, their numbers) -> (M, P, C'). Windows are numbered by map, then
            row-major; while a graph is compiled or exported they have no numbers.
        residual: what to do around the function, on the same cells; None for nothing.
        target_size: (height, width) of the windows of P cells that it returns; None for window_size.
        windows_at_once: how many windows one call gets at most; None for all. Only without gradients.

    Returns:
        y_BHWC, with each window's result in its place.
    """
    target_size = target_size or window_size
    target_shift = tuple(s * t // w for s, t, w in zip(shift_size, target_size, window_size, strict=True))
    height, width = x_BHWC.shape[1:3]
    rows, columns = height // window_size[0], width // window_size[1]
    if residual is not None:
        function = residual.around(function)
    if windows_at_once is not None and x_BHWC.numel() > 0:
        return _map_parts(x_BHWC, window_size, shift_size, target_size, target_shift, function, windows_at_once)
    x_BHWC = roll_windows(x_BHWC, shift_size, -1)
    # In a graph, their number is no constant; and there, nothing asks for it
    numbers = range(0 if torch.compiler.is_compiling() else x_BHWC.shape[0] * rows * columns)
    y_MNC = function(window_partition(x_BHWC, window_size), numbers)
    y_BHWC = window_merge(y_MNC, target_size, rows * target_size[0], columns * target_size[1])
    return roll_windows(y_BHWC, target_shift, 1)


def _map_parts(
    x_BHWC: Tensor,
    window_size: tuple[int, int],
    shift_size: tuple[int, int],
    target_size: tuple[int, int],
    target_shift: tuple[int, int],
    function: Callable[[Tensor, range], Tensor],
    windows_at_once: int,
) -> Tensor:
    """Do map_windows' work for some maps, rows of windows or parts of a row at a time: these stay in the cache."""
    num_maps, num_rows, num_columns = len(x_BHWC), *(x_BHWC.shape[i + 1] // window_size[i] for i in (0, 1))
    maps_at_once = max(windows_at_once // (num_rows * num_columns), 1)
    rows_at_once = min(max(windows_at_once // num_columns, 1), num_rows)
    columns_at_once = min(windows_at_once, num_columns)
    y_BHWC = None
    for first_map, top, left in product(
        range(0, num_maps, maps_at_once), range(0, num_rows, rows_at_once), range(0, num_columns, columns_at_once)
    ):
        maps = slice(first_map, first_map + maps_at_once)
        rows = range(top, min(top + rows_at_once, num_rows))
        columns = range(left, min(left + columns_at_once, num_columns))
        cells_MNC = window_partition(_read(_pieces(x_BHWC[maps], rows, columns, window_size, shift_size)), window_size)
        first = (first_map * num_rows + top) * num_columns + left  # several rows, or maps, at once are whole ones
        y_MPC = function(cells_MNC, range(first, first + len(cells_MNC)))
        if y_BHWC is None:
            y_BHWC = y_MPC.new_empty(num_maps, num_rows * target_size[0], num_columns * target_size[1], y_MPC.shape[2])
        y_BYXyxC = y_MPC.unflatten(1, target_size).unflatten(0, (-1, len(rows), len(columns)))
        _write(y_BYXyxC, _pieces(y_BHWC[maps], rows, columns, target_size, target_shift))
    return y_BHWC


def _pieces(
    x_BHWC: Tensor, rows: range, columns: range, window_size: tuple[int, int], shift_size: tuple[int, int]
) -> _Pieces:
    """Return where some windows of maps lie: in one piece, or in two or four around the edges."""
    spans = (
        _spans(windows.start * side + shift, len(windows) * side, size)
        for windows, side, shift, size in zip((rows, columns), window_size, shift_size, x_BHWC.shape[1:3], strict=True)
    )
    return [(x_BHWC[:, y_on_map, x_on_map], (y, x)) for (y_on_map, y), (x_on_map, x) in product(*spans)]


def _spans(start: int, length: int, size: int) -> list[tuple[slice, slice]]:
    """Return where cells lie on an axis that goes on at its start: their places on it and among themselves."""
    rest = size - start
    if length <= rest:
        return [(slice(start, start + length), slice(0, length))]
    return [(slice(start, size), slice(0, rest)), (slice(0, length - rest), slice(rest, length))]


def _read(pieces: _Pieces) -> Tensor:
    (first, _), *others = pieces
    if not others:
        return first
    height, width = (last.stop for last in pieces[-1][1])
    part_BHWC = first.new_empty(len(first), height, width, first.shape[3])
    for piece, (rows, columns) in pieces:
        part_BHWC[:, rows, columns] = piece
    return part_BHWC


def _write(y_BYXyxC: Tensor, pieces: _Pieces) -> None:
    y_BYyXxC = y_BYXyxC.transpose(2, 3)
    (first, _), *others = pieces
    if not others:
        first.unflatten(2, y_BYyXxC.shape[3:5]).unflatten(1, y_BYyXxC.shape[1:3]).copy_(y_BYyXxC)
        return
    y_BHWC = y_BYyXxC.flatten(3, 4).flatten(1, 2)
    for piece, (rows, columns) in pieces:
        piece.copy_(y_BHWC[:, rows, columns])
