"""Windows: cutting feature maps into them, putting them together again, padding, shifting (Swin, arXiv:2103.14030).

Shapes: B batch, C channels, H W pixels, M windows of the batch (by image, then row-major), N cells of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size given as one number or two."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def window_partition(x_BHWC: Tensor, window_size: int | tuple[int, int]) -> Tensor:
    """Cut feature maps into non-overlapping windows.

    Args:
        x_BHWC: features; H and W are multiples of the window.
        window_size: side of a window, or (height, width), in pixels of x.

    Returns:
        x_MNC: the cells of each window, row-major, windows row-major over the map.
    """
    height, width = pair(window_size)
    x = x_BHWC.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def window_merge(x_MNC: Tensor, window_size: int | tuple[int, int], height: int, width: int) -> Tensor:
    """Put windows together again; the inverse of window_partition.

    Args:
        x_MNC: cells of each window, as window_partition returns them.
        window_size: side of a window, or (height, width).
        height: rows of the map, a multiple of the window's.
        width: columns of the map, a multiple of the window's.

    Returns:
        x_BHWC.
    """
    window_height, window_width = pair(window_size)
    grid = (-1, height // window_height, width // window_width)
    x = x_MNC.unflatten(1, (window_height, window_width)).unflatten(0, grid)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def roll_windows(x_BHWC: Tensor, shift_size: tuple[int, int], sign: int) -> Tensor:
    """Roll maps by -shift (sign -1), so that shifted windows lie as plain ones do, or back (1)."""
    return x_BHWC.roll((sign * shift_size[0], sign * shift_size[1]), (1, 2)) if any(shift_size) else x_BHWC


def pad_to_multiple(x_BCHW: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom to the next multiple: by reflection where the map is large enough, else by replication.

    Args:
        x_BCHW: any H, W >= 1.
        multiple: H and W of the result divide by it.
    """
    height, width = x_BCHW.shape[-2:]
    # In this form, with symbolic sizes, a compiler sees at once that the window divides every later size.
    padded_height, padded_width = ((side + multiple - 1) // multiple * multiple for side in (height, width))
    if torch.compiler.is_exporting():  # one graph for every size: see reflect_indices
        rows = reflect_indices(height, padded_height, x_BCHW.device)
        columns = reflect_indices(width, padded_width, x_BCHW.device)
        return x_BCHW.index_select(2, rows).index_select(3, columns)
    pad_bottom, pad_right = padded_height - height, padded_width - width
    if pad_right == 0 and pad_bottom == 0:
        return x_BCHW
    # Each axis by itself: a tall narrow map reflects its rows and replicates its columns.
    x_BCHW = F.pad(x_BCHW, (0, 0, 0, pad_bottom), mode="reflect" if pad_bottom < height else "replicate")
    return F.pad(x_BCHW, (0, pad_right, 0, 0), mode="reflect" if pad_right < width else "replicate")


def crop_to(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Keep the top left height x width pixels; undoes pad_to_multiple."""
    if torch.compiler.is_exporting():  # a slice would tie the graph to sizes that do, or do not, need cropping
        rows, columns = (torch.arange(size, device=x_BCHW.device) for size in (height, width))
        return x_BCHW.index_select(2, rows).index_select(3, columns)
    return x_BCHW[..., :height, :width]


def reflect_indices(length: int, padded_length: int, device: torch.device) -> Tensor:
    """Source index of each cell of an axis padded at its end, without a branch on the length.

    Cells reflect about the last one; where the axis is shorter than its padding they replicate the last one, as
    pad_to_multiple does.
    """
    index = torch.arange(padded_length, device=device)
    reflected = torch.where(index < length, index, 2 * (length - 1) - index)
    replicated = index.clamp(max=length - 1)
    reaches = reflected[-1] >= 0
    return torch.where(reaches, reflected, replicated)


class ShiftRegions(nn.Module):
    """Who may attend to whom in the windows of a rolled map, as four more channels of query and key.

    After a roll by -shift, only the last row and the last column of windows hold cells that are not neighbours in the
    picture. A cell lies before (0) or behind (1) the cut, by rows and by columns. With side a of the target and side b
    of the source, (-c a, -c (1 - a)) . (1 - b, b) is 0 on the same side and -c across, so a dot product masks the
    scores without a mask of any size. The query's channels are 0 in all other windows.
    """

    def __init__(
        self, window_size: tuple[int, int], shift_size: tuple[int, int], target_size: tuple[int, int] | None = None
    ) -> None:
        """Build the tables of sides.

        Args:
            window_size: (height, width) of a source window.
            shift_size: rows and columns that the source map is rolled by.
            target_size: (height, width) of a target window where it differs from the source's.
        """
        super().__init__()
        target_size = target_size or window_size
        target_shift = tuple(s * t // w for s, t, w in zip(shift_size, target_size, window_size, strict=True))
        source_N2, target_P2 = _cell_sides(window_size, shift_size), _cell_sides(target_size, target_shift)
        self.register_buffer("source_N2", source_N2, persistent=False)
        self.register_buffer("target_P2", target_P2, persistent=False)

    def query_channels(self, grid: tuple[int, int], penalty: float) -> Tensor:
        """Return sides_MP4 of the windows of one map.

        Args:
            grid: windows down and across the map.
            penalty: added to the scores across the cut; negative for softmax.
        """
        device = self.target_P2.device
        is_last_row = (torch.arange(grid[0], device=device) == grid[0] - 1)[:, None].expand(grid)
        is_last_column = (torch.arange(grid[1], device=device) == grid[1] - 1)[None, :].expand(grid)
        is_last_M2 = torch.stack((is_last_row, is_last_column), -1).flatten(0, 1)
        sides_P22 = torch.stack((self.target_P2, 1 - self.target_P2), -1) * penalty
        return (is_last_M2[:, None, :, None] * sides_P22).flatten(2)

    def key_channels(self) -> Tensor:
        """Return sides_N4, the same for every window."""
        return torch.stack((1 - self.source_N2, self.source_N2), -1).flatten(1)

    def masks(self, numbers: range, grid: tuple[int, int], penalty: float) -> dict[int, Tensor]:
        """Return what to add to the scores of those windows that the cut goes through.

        Args:
            numbers: of the windows asked for, by map, then row-major.
            grid: windows down and across a map.
            penalty: added to the scores across the cut.

        Returns:
            Index into numbers -> (P, N), penalty or 0.
        """
        kinds = {}
        for index, number in enumerate(numbers):
            row, column = divmod(number % (grid[0] * grid[1]), grid[1])
            if row == grid[0] - 1 or column == grid[1] - 1:
                kinds[index] = (row == grid[0] - 1, column == grid[1] - 1)
        if not kinds:
            return {}
        keys_4N = self.key_channels().T
        sides_P22 = torch.stack((self.target_P2, 1 - self.target_P2), -1) * penalty
        tables = {
            kind: (sides_P22 * sides_P22.new_tensor(kind)[:, None]).flatten(1) @ keys_4N for kind in set(kinds.values())
        }
        return {index: tables[kind] for index, kind in kinds.items()}

    def batch_channels(
        self, grid: tuple[int, int], penalty: float, num_windows: int, part: slice | None = None
    ) -> Tensor:
        """Return sides_MP4 of the windows of a batch of maps.

        Args:
            grid: windows down and across a map.
            penalty: added to the scores across the cut.
            num_windows: how many there are.
            part: which windows of the batch these are; None for all.
        """
        sides_MP4 = self.query_channels(grid, penalty)
        if part is None:
            return sides_MP4.expand(num_windows // (grid[0] * grid[1]), -1, -1, -1).flatten(0, 1)
        window = torch.arange(part.start, part.start + num_windows, device=sides_MP4.device)
        return sides_MP4[window % len(sides_MP4)]

    def extend(
        self, q_MhPd: Tensor, k_MhNd: Tensor, grid: tuple[int, int], penalty: float, part: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """Append the four channels to the queries and keys of a batch of maps.

        Args:
            q_MhPd: queries of all windows, or of a part of them.
            k_MhNd: their keys.
            grid: windows down and across a map.
            penalty: added to the scores across the cut.
            part: which windows of the batch these are; None for all.
        """
        num_windows, num_heads = q_MhPd.shape[:2]
        sides_MP4 = self.batch_channels(grid, penalty, num_windows, part).to(q_MhPd.dtype)
        sides_MhP4 = sides_MP4[:, None].expand(-1, num_heads, -1, -1)
        sides_MhN4 = self.key_channels().to(k_MhNd.dtype).expand(num_windows, num_heads, -1, -1)
        return torch.cat((q_MhPd, sides_MhP4), -1), torch.cat((k_MhNd, sides_MhN4), -1)


def _cell_sides(window_size: tuple[int, int], shift_size: tuple[int, int]) -> Tensor:
    """Return sides_N2: for each cell of a window, row-major, whether it lies behind the cut by row and by column."""
    row, column = (
        ((torch.arange(size) >= size - shift) & (shift > 0)).float()
        for size, shift in zip(window_size, shift_size, strict=True)
    )
    return torch.stack(torch.meshgrid(row, column, indexing="ij"), -1).flatten(0, 1)
