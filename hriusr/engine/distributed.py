"""The processes of one run: how they find each other, exchange small things, stop together, and end when one is lost.

torchrun and srun start the processes; torch.distributed connects them: gloo between CPUs, nccl between GPUs (and gloo
beside it, for what lies on the CPU). Process 0 writes and speaks; of the others only errors are heard, each once. A run
of one process has no group: everything here is then immediate.
"""

import contextlib
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hriusr.engine.same_command import same_command
from hriusr.engine.stop_signal import StopSignal
from hriusr.errors import HriusrError, OptionsError, ToldByAnotherError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT = 1800  # seconds
_PATIENCE = 2  # seconds that a process gives another to say what went wrong
_LINGERING = 0.5  # seconds that process 0, where the store may be, lets the others read what it says
_FIRST_ERROR = "error_of_process_0"
_ANY_ERROR = "error"
# what gloo, nccl and the store say when the other end is gone or silent
_LOST = re.compile(
    r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|[Tt]imed out|recvValue|sendBytes", re.DOTALL
)


class Processes:
    """The processes of this run, this one among them. All methods but the properties are to be called by all of them.

    Attributes:
        rank: number of this process; 0 writes and speaks.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def wait_for_all(self) -> None:
        """Go on when all processes are here."""
        if self.count > 1:
            self.gather(None)

    def gather(self, value: T) -> list[T]:
        """Return every process's value, in the order of ranks: tensors on the CPU, arrays and plain types."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """Let process 0 make a value (plain types) and return it everywhere."""
        values = [make() if self.is_first else None]
        if self.count > 1:
            dist.broadcast_object_list(values, 0)
        return values[0]


class SharedStop:
    """A wish to stop that any process may have, answered by all at the same iteration: one step after it was heard.

    The vote of a step is collected while the next one runs, so that no step waits for it.

    Attributes:
        number: of the signal all agreed on, or None.
    """

    def __init__(self, stop: StopSignal, processes: Processes):
        self._stop, self._processes = stop, processes
        self._agreed: int | None = None
        self._vote: tuple[Any, torch.Tensor] | None = None

    @property
    def number(self) -> int | None:
        """The signal that all processes know of, or None."""
        return self.wish if self._processes.count == 1 else self._agreed

    @property
    def wish(self) -> int | None:
        """The signal that this process got, or None."""
        return self._stop.number

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.number).name

    @property
    def exit_status(self) -> int:
        """Exit status by the shell's rule: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number

    def after_step(self) -> None:
        """Learn the vote of the step before, and vote on this one."""
        if self._processes.count == 1:
            return
        self.end_vote()
        if self._agreed is None:
            wish = torch.tensor([self.wish or 0])
            self._vote = dist.all_reduce(wish, op=dist.ReduceOp.MAX, async_op=True), wish

    def end_vote(self) -> None:
        """Wait for the vote under way, if there is one."""
        if self._vote is not None:
            work, wish = self._vote
            self._vote = None
            work.wait()
            self.agree(int(wish))

    def agree(self, number: int | None) -> None:
        """Take a signal for agreed on; None and 0 stand for none."""
        self._agreed = self._agreed or number or None


class Silence:
    """Stands for a recorder or a writer where another process does the work: takes every call, does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def joined_processes(opt: Mapping[str, Any]) -> Iterator[Processes]:
    """Connect the processes of a run for its time; sets the GPU of this one.

    Args:
        opt: options in BasicSR's form: dist, num_gpu, dist_params {backend, port, timeout}.

    Yields:
        The processes; one alone where opt["dist"] is false.

    Raises:
        HriusrError: the processes do not find each other, or one is lost later.
        OptionsError: more processes on this machine than GPUs.
        ToldByAnotherError: another process has said what went wrong.
    """
    if not opt.get("dist"):
        yield Processes()
        return
    is_mine = not dist.is_initialized()
    store = _connect(opt) if is_mine else None
    processes = Processes(dist.get_rank(), dist.get_world_size())
    try:
        yield processes
    except SystemExit:  # all processes leave together
        if is_mine:
            dist.destroy_process_group()
        raise
    except Exception as error:
        if store is None:
            raise
        with StopSignal(is_quiet=True):  # the launcher sends SIGTERM as soon as one has ended: this one still speaks
            told = _explain(error, store, processes, same_command(opt))
        # the connections are left to the end of the process: with nccl, closing them would wait for those that are lost
        if told is error:
            raise
        raise told from error
    if is_mine:
        dist.destroy_process_group()


def restart_reason() -> str | None:
    """Say why this start goes on from the newest checkpoint by itself; None: it does not."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if count not in ("", "0"):
        return f"torchrun has restarted the processes (restart {count})"
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    if count not in ("", "0"):
        return f"SLURM has requeued the job (restart {count})"
    return None


def _connect(opt: Mapping[str, Any]) -> dist.Store:
    dist_opt = opt.get("dist_params") or {}
    rank, count = int(opt["rank"]), int(opt["world_size"])
    local_rank = _local_rank(rank)
    backend = "gloo"
    if opt["num_gpu"] != 0 and torch.cuda.is_available():
        torch.cuda.set_device(_gpu_number(local_rank))
        backend = f"cpu:gloo,cuda:{dist_opt.get('backend', 'nccl')}"
    address, port = _address(dist_opt)
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    timeout = timedelta(seconds=dist_opt.get("timeout") or _TIMEOUT)
    try:
        from torch.distributed.rendezvous import rendezvous

        store, rank, count = next(rendezvous("env://", rank, count, timeout=timeout))
        store.set_timeout(timeout)
        # torchrun's store outlives a restart: what an earlier attempt left there must not be met again
        store = dist.PrefixStore(f"hriusr/attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        group_store = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group_store, rank=rank, world_size=count, timeout=timeout)
    except (RuntimeError, ValueError, OSError) as error:
        raise HriusrError(
            f"process {rank} of {count} cannot join the others at {address}:{port}: {_first_line(error)}. Are all "
            "started, with the same number of processes, and is the port free and open between the machines? "
            "(dist_params.port, dist_params.timeout)"
        ) from error
    logger.info("%d processes, %s, process 0 at %s:%d", count, backend, address, port)
    return store


def _local_rank(rank: int) -> int:
    """Return the number of this process on its machine."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return rank


def _gpu_number(local_rank: int) -> int:
    available = torch.cuda.device_count()
    if available == 1 and "SLURM_LOCALID" in os.environ:
        return 0  # srun --gpus-per-task=1 shows each process its own
    if local_rank >= available:
        raise OptionsError(
            f"process {local_rank} of this machine has no GPU: {available} can be seen; start at most {available} "
            f"processes a machine (--nproc_per_node {available}), or use the CPU (num_gpu: 0)"
        )
    return local_rank


def _address(dist_opt: Mapping[str, Any]) -> tuple[str, int]:
    """Find where process 0 listens; torchrun says it, under SLURM it is the first machine of the job."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
    if address is None and nodes:
        address = first_node(nodes)
    if port is None:
        # jobs that share a machine must not share a port
        port = dist_opt.get("port") or 29500 + int(os.environ.get("SLURM_JOB_ID", "0")) % 1000
    if address is None or not str(port).isdigit():
        raise OptionsError(
            "--launcher: the environment does not say where process 0 listens (MASTER_ADDR, MASTER_PORT): start with "
            "torchrun --standalone --nproc_per_node N hriusr/train.py ... --launcher pytorch"
        )
    return address, int(port)


def first_node(nodes: str) -> str:
    """Return the first machine of SLURM's list: gpu[07-09,12],login -> gpu07."""
    match = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    if match is None:
        raise OptionsError(f"--launcher slurm: cannot read the list of machines {nodes!r} (SLURM_JOB_NODELIST)")
    return "".join(part or "" for part in match.groups())


def _explain(error: Exception, store: dist.Store, processes: Processes, going_on: str) -> Exception:
    """Find out who says what went wrong: this process, or another that has said it already."""
    is_lost = not isinstance(error, HriusrError) and isinstance(error, RuntimeError) and _LOST.search(str(error))
    if is_lost:
        error = HriusrError(
            f"process {processes.rank} lost another process, which ended (out of memory? killed?) or cannot be "
            f"reached: {_first_line(error)}. {going_on.capitalize()} goes on from the newest checkpoint"
        )
    try:
        if processes.is_first and not is_lost:
            store.set(_FIRST_ERROR, "1")
            store.set(_ANY_ERROR, "0")
            time.sleep(_LINGERING)
            return error
        # of all that say the same, process 0 is heard; of those that lost another one, only it or the first to notice
        key = _ANY_ERROR if is_lost else _FIRST_ERROR
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if store.check([key]):
                time.sleep(0.5)  # it is speaking: the launcher ends all processes when the first has ended
                return ToldByAnotherError()
            time.sleep(0.05)
        speaker = store.compare_set(_ANY_ERROR, "", str(processes.rank)).decode()
        if is_lost and speaker != str(processes.rank):
            return ToldByAnotherError()
    except RuntimeError:
        pass  # the store went with process 0
    if isinstance(error, HriusrError) and not processes.is_first:
        return type(error)(f"process {processes.rank} of {processes.count}: {error}")
    return error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
