"""The processes of `hriusr upscale`: those that torchrun started, or workers that this process starts itself.

Processes talk by gloo over 127.0.0.1 (workers), or as torchrun says; tiles are exchanged on the CPU. Workers never
outlive the process that started them: it ends them when it is interrupted or told to end, and they see when it is gone.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from hriusr.errors import HriusrError, OptionsError
from hriusr.upscaling.sharing import ALONE, TileSharing

_TIMEOUT = timedelta(days=1)  # a process may wait that long for another's picture to be encoded
_HOST = "127.0.0.1"
_PAUSE = 0.1  # seconds
_GRACE = 5  # seconds
_ENDED = 128 + signal.SIGTERM  # exit status, as shells count it


@contextmanager
def joined_processes(num_workers: int, arguments: Sequence[str]) -> Iterator[tuple[TileSharing, int]]:
    """Give the processes of this run, and this one's number on its machine.

    Args:
        num_workers: processes on this machine, this one among them; 1 under torchrun, which has started them.
        arguments: of this command, without the program's name: workers get the same.

    Raises:
        OptionsError: num_workers under torchrun.
        HriusrError: the processes don't find each other.
    """
    environment = os.environ
    count = int(environment.get("WORLD_SIZE", "1"))
    workers: list[subprocess.Popen] = []
    store = None
    if count > 1 and num_workers > 1 and "HRIUSR_WORKER" not in environment:
        raise OptionsError(f"workers (={num_workers}) and torchrun contradict each other: leave one out")
    if count == 1 and num_workers == 1:
        yield ALONE, 0
        return
    parent = environment.get("HRIUSR_WORKER")
    if parent:
        _follow(int(parent))
    handler = _exit_when_told_to_end() if parent or count == 1 else None
    if count == 1:
        count = num_workers
        store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
        workers = _start_workers(count, store.port, arguments)
    rank = int(environment["RANK"])
    try:
        try:
            if parent:
                store = dist.TCPStore(_HOST, int(environment["MASTER_PORT"]), is_master=False, timeout=_TIMEOUT)
                store.set(_arrival(rank), "")
            _wait_for_arrivals(store, workers)
            where = {} if store is None else {"store": store, "rank": rank, "world_size": count}
            dist.init_process_group("gloo", timeout=_TIMEOUT, **where)
        except (RuntimeError, ValueError) as error:
            raise HriusrError(f"the {count} processes of this run do not find each other ({error})") from None
        num_local = count if parent or workers else int(environment.get("LOCAL_WORLD_SIZE", count))
        yield TileSharing(rank, count, num_local), int(environment.get("LOCAL_RANK", rank))
    except (KeyboardInterrupt, SystemExit):
        if parent:
            os._exit(_ENDED)  # process 0 says it; leaving the group in order would wait for the others
        _end(workers, at_once=True)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        _end(workers)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _exit_when_told_to_end() -> Any:
    """Let SIGTERM end this process as an exception does, so that files and processes are cleared; return what did."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, lambda *_: sys.exit(_ENDED))


def _follow(parent: int) -> None:
    """End this process soon after the one that started it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(_ENDED)

    if os.name == "posix":  # elsewhere a parent's number stays when it is gone
        threading.Thread(target=watch, daemon=True).start()


def _arrival(rank: int) -> str:
    return f"hriusr_worker_{rank}"


def _wait_for_arrivals(store: dist.Store | None, workers: list[subprocess.Popen]) -> None:
    """Wait until all workers are about to join, which they cannot do where one is gone."""
    missing = dict(enumerate(workers, 1))
    while missing:
        missing = {rank: worker for rank, worker in missing.items() if not store.check([_arrival(rank)])}
        for rank, worker in missing.items():
            if worker.poll() is not None:
                _end(workers, at_once=True)
                raise HriusrError(
                    f"worker {rank} ended with status {worker.returncode} before it began: see above; without a word "
                    "memory may have run out: ask for fewer --workers"
                )
        time.sleep(_PAUSE if missing else 0)


def _start_workers(count: int, port: int, arguments: Sequence[str]) -> list[subprocess.Popen]:
    """Start processes 1 to count - 1, make this one process 0, and share the cores."""
    threads = max((os.cpu_count() or 1) // count, 1)
    torch.set_num_threads(threads)
    os.environ |= {
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "HRIUSR_WORKER": str(os.getpid()),
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else ""),
    }
    workers = []
    for rank in range(1, count):
        environment = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-m", "hriusr.cli", *arguments]
        workers.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}
    return workers


def _end(workers: list[subprocess.Popen], *, at_once: bool = False) -> None:
    """Wait for workers to end by themselves, a little, or tell them to; then make them."""
    for worker in workers if at_once else ():
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_GRACE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "HRIUSR_WORKER"):
        if workers:
            os.environ.pop(name, None)
