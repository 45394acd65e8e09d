"""Processes that compute the tiles of one picture together: tile i is computed by process i modulo their number.

Process 0 gets all results in order, whoever computed them; so joining and writing are those of one process, and so is
the result. A process that fails says so in place of its next tile: process 0 then raises that error, and tells the
others to stop; all of them are ready for the next picture.

    worker      send tile k  ->  wait for the verdict on round k - 1 before sending tile k + 1 (one tile ahead)
    process 0   take a round of tiles, hand them on, send the verdict: go on (1) or stop (0)
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hriusr.errors import HriusrError, ToldByAnotherError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE = 0.02  # seconds
_HEADER = 5  # whether it is a tile, then its shape; or 0 and the length of a message


class TileSharing:
    """The processes of this run, this one among them, as tiles see them.

    Args:
        rank: number of this process; 0 gets the results.
        count: how many there are; beyond 1, torch.distributed's default group must take CPU tensors (gloo).
        num_local: how many of them are on this machine; None: all.
    """

    def __init__(self, rank: int = 0, count: int = 1, num_local: int | None = None):
        self.rank, self.count = rank, count
        self.num_local = count if num_local is None else num_local

    @contextmanager
    def speaking_once(self) -> Iterator[None]:
        """Keep the errors of other processes than 0 from being told: it meets the same ones, or is told of them."""
        try:
            yield
        except HriusrError as error:
            raise error if self.rank == 0 else ToldByAnotherError(str(error)) from None

    def mine(self, numbers: Sequence[T]) -> Sequence[T]:
        """Return the share of this process."""
        return numbers[self.rank :: self.count]

    def from_first(self, make: Callable[[], T]) -> T:
        """Let process 0 make a value (plain types) and return it everywhere.

        Raises:
            Exception: what make raised; ToldByAnotherError in the other processes.
            HriusrError: a process is gone.
        """
        if self.count == 1:
            return make()
        values: list[Any] = [None, ""]
        problem = None
        if self.rank == 0:
            try:
                values[0] = make()
            except Exception as error:
                problem, values[1] = error, _describe(error)
        with _reaching_all():
            dist.broadcast_object_list(values, 0)
        if problem is not None:
            raise problem
        if values[1]:
            raise ToldByAnotherError(values[1])
        return values[0]

    def together(self, make: Callable[[], T]) -> T:
        """Let every process make a value of its own; none goes on unless all could.

        Raises:
            HriusrError: what make raised; in the others ToldByAnotherError, or that of the first process that failed.
        """
        if self.count == 1:
            return make()
        value, problem = None, None
        try:
            value = make()
        except Exception as error:
            problem = error
        told = [text for text in self.gather("" if problem is None else _describe(problem)) if text]
        if problem is not None:
            raise problem
        if told:
            raise HriusrError(told[0]) if self.rank == 0 else ToldByAnotherError(told[0])
        return value

    def gather(self, value: T) -> list[T]:
        """Return every process's value (plain types), in the order of ranks.

        Raises:
            HriusrError: a process is gone.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _reaching_all():
            dist.all_gather_object(values, value)
        return values

    def wait_for_all(self) -> None:
        """Wait until all processes are here, open to signals meanwhile, which gloo's own waiting is not.

        Raises:
            HriusrError: a process is gone.
        """
        if self.count == 1:
            return
        with _reaching_all():
            arrival = dist.barrier(async_op=True)
            while not arrival.is_completed():
                time.sleep(_PAUSE)
            arrival.wait()

    def add_up(self, measure: Callable[[], list[tuple[T, T]]]) -> list[tuple[T, T]]:
        """Sum (total, count) pairs over all processes.

        Args:
            measure: returns this process's pairs.

        Raises:
            HriusrError: what measure raised, in every process.
        """
        if self.count == 1:
            return measure()
        try:
            mine: tuple[Any, str] = (measure(), "")
        except Exception as error:
            mine = (None, _describe(error))
        shares = self.gather(mine)
        problems = [problem for _, problem in shares if problem]
        if problems:
            raise HriusrError(problems[0])
        return [
            (sum(total for total, _ in pool), sum(count for _, count in pool))
            for pool in zip(*(pairs for pairs, _ in shares), strict=True)
        ]

    def in_order(self, results: Iterator[Tensor], num_all: int) -> Iterator[Tensor]:
        """Yield the results of all processes in order in process 0; send this one's there elsewhere.

        Args:
            results: of this process's share, on any device.
            num_all: tiles of all processes together.

        Raises:
            HriusrError: in process 0, what a process said; ToldByAnotherError in the others, where the run stops.
        """
        if self.count == 1:
            yield from results
        elif self.rank == 0:
            yield from self._collect(results, num_all)
        else:
            self._send_all(results, len(self.mine(range(num_all))))

    def _collect(self, results: Iterator[Tensor], num_all: int) -> Iterator[Tensor]:
        for start in range(0, num_all, self.count):
            waiting = list(range(1, min(self.count, num_all - start)))  # who owes a tile of this round
            told = list(waiting)
            verdict = 0
            try:
                yield next(results)
                while waiting:
                    yield _receive(waiting.pop(0))
                verdict = 1
            finally:
                if verdict == 0:
                    for rank in waiting:
                        _discard(rank)
                _tell(torch.tensor([verdict]), told)

    def _send_all(self, results: Iterator[Tensor], num_mine: int) -> None:
        for number in range(num_mine):
            try:
                result: Tensor | str = next(results).cpu().contiguous()
            except Exception as error:
                result = _describe(error)
            if number > 0:
                _await_verdict()
            _send(result)
        if num_mine:
            _await_verdict()


ALONE = TileSharing()


@contextmanager
def _reaching_all() -> Iterator[None]:
    """Say in one line that a process is gone."""
    with _reaching("a process"):
        yield


@contextmanager
def _reaching(whom: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        logger.debug("%s of this run is gone", whom, exc_info=True)  # gloo's own words help nobody
        raise HriusrError(f"{whom} of this run is gone: run it again") from error


def _describe(error: Exception) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    return text if isinstance(error, HriusrError) else f"{type(error).__name__}: {text}"


def _tell(verdict: Tensor, ranks: Sequence[int]) -> None:
    """Send the verdict to all who wait for it, whoever of them is gone."""
    problem = None
    for rank in ranks:
        try:
            with _reaching(f"process {rank}"):
                dist.send(verdict, rank)
        except HriusrError as error:
            problem = problem or error
    if problem is not None and verdict.item():  # else an error is on its way, which says more
        raise problem


def _await_verdict() -> None:
    verdict = torch.zeros(1, dtype=torch.int64)
    with _reaching("process 0"):
        dist.recv(verdict, 0)
    if not verdict.item():
        raise ToldByAnotherError("another process failed, and said why")


def _send(result: Tensor | str) -> None:
    if isinstance(result, str):
        content = torch.frombuffer(bytearray(result.encode()), dtype=torch.uint8)
        header = torch.tensor([0, len(content), 0, 0, 0])
    else:
        content, header = result, torch.tensor([1, *result.shape])
    with _reaching("process 0"):
        dist.send(header, 0)
        dist.send(content, 0)


def _receive(rank: int) -> Tensor:
    header = torch.zeros(_HEADER, dtype=torch.int64)
    with _reaching(f"process {rank}"):
        dist.recv(header, rank)
        is_tile, *shape = header.tolist()
        content = torch.empty(shape) if is_tile else torch.empty(shape[0], dtype=torch.uint8)
        dist.recv(content, rank)
    if is_tile:
        return content
    raise HriusrError(bytes(content.tolist()).decode(errors="replace"))


def _discard(rank: int) -> None:
    try:
        _receive(rank)
    except HriusrError:
        pass  # one error of a picture is enough
