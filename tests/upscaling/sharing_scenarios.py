"""What test_sharing.py lets several processes do; importable by the processes that it starts."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from hriusr.errors import HriusrError, ToldByAnotherError
from hriusr.upscaling.sharing import TileSharing

COUNT = 3


def run_all(rank: int, store: str, answers) -> None:
    """Be one of COUNT processes and put (rank, name of the scenario -> answer) into a queue."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=COUNT)
    scenarios = (in_order, after_an_error, after_the_consumer_stopped, sums, after_together_failed)
    scenarios += (after_a_fault_of_the_first,)
    try:
        answers.put((rank, {scenario.__name__: scenario(TileSharing(rank, COUNT)) for scenario in scenarios}))
    finally:
        dist.destroy_process_group()


def in_order(sharing: TileSharing) -> list[float]:
    """Return the numbers of eight tiles as they arrive."""
    return [tile[0, 0, 0, 0].item() for tile in sharing.in_order(_tiles(sharing, 8), 8)]


def after_an_error(sharing: TileSharing) -> tuple[list[str], list[float]]:
    """A tile of process 1 fails, then one of process 0; afterwards a picture is done by all."""
    said = []
    for fails_at in (4, 6):
        try:
            list(sharing.in_order(_tiles(sharing, 9, fails_at), 9))
        except (HriusrError, ToldByAnotherError) as error:
            said.append(type(error).__name__ + ": " + str(error))
    return said, in_order(sharing)


def after_the_consumer_stopped(sharing: TileSharing) -> list[float]:
    """Process 0 loses interest in the middle; afterwards a picture is done by all."""
    tiles = sharing.in_order(_tiles(sharing, 9), 9)
    try:
        for tile in tiles:
            if tile[0, 0, 0, 0] == 4:
                break
    except ToldByAnotherError:
        pass
    tiles.close()
    return in_order(sharing)


def sums(sharing: TileSharing) -> list[tuple[float, int]]:
    """Add up 1, 2, 4."""
    pairs = sharing.add_up(lambda: [(torch.tensor(2.0**sharing.rank), 1)])
    return [(total.item(), count) for total, count in pairs]


def after_together_failed(sharing: TileSharing) -> tuple[str, str]:
    """Process 2 cannot make its value; then process 0 cannot make what all wait for."""

    def make() -> int:
        if sharing.rank == 2:
            raise HriusrError("no file here")
        return sharing.rank

    def refuse() -> int:
        raise HriusrError("not possible")

    said = []
    for attempt in (lambda: sharing.together(make), lambda: sharing.from_first(refuse)):
        try:
            said.append(str(attempt()))
        except HriusrError as error:
            said.append(f"{type(error).__name__}: {error}")
    return tuple(said)


def after_a_fault_of_the_first(sharing: TileSharing) -> tuple[str, int]:
    """Process 0 meets an error that is not for the user; afterwards it makes a value for all."""

    def fail() -> int:
        raise KeyError("x")

    try:
        said = str(sharing.from_first(fail))
    except Exception as error:
        said = type(error).__name__
    sharing.wait_for_all()
    return said, sharing.from_first(lambda: 7)


def _tiles(sharing: TileSharing, num_all: int, fails_at: int | None = None) -> Iterator[Tensor]:
    for number in sharing.mine(range(num_all)):
        if number == fails_at:
            raise HriusrError(f"tile {number} is bad")
        yield torch.full((1, 3, 2, 2), float(number))
