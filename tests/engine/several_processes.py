"""Run a function in several processes that find each other as torchrun's would; forked, nothing is imported anew."""

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import torch


def free_port() -> int:
    """Return a TCP port of this machine that nobody uses at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_processes(count: int, work: Callable[[int], Any], timeout: float = 120) -> list[Any]:
    """Call work(rank) in each of count processes.

    Args:
        count: processes.
        work: its result must be picklable; what it raises comes back as an AssertionError with the traceback.
        timeout: seconds for all together; those that are still alive are killed then.

    Returns:
        Their results, by rank.
    """
    context = multiprocessing.get_context("fork")
    port, pipes, processes = free_port(), [], []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(rank, count, port, work, sender))
        with warnings.catch_warnings():  # Python 3.12 on forking beside threads
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        pipes.append(receiver)
        processes.append(process)
    try:
        results = [_receive(pipe, timeout) for pipe in pipes]
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
    failures = [f"process {rank}:\n{result}" for rank, (kind, result) in enumerate(results) if kind == "error"]
    assert not failures, "\n\n".join(failures)
    return [result for _, result in results]


def _receive(pipe: Any, timeout: float) -> tuple[str, Any]:
    try:
        return pipe.recv() if pipe.poll(timeout) else ("error", "still running")
    except EOFError:
        return "error", "ended without a word"


def _child(rank: int, count: int, port: int, work: Callable[[int], Any], sender: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # its pool does not survive a fork
    try:
        sender.send(("result", work(rank)))
    except BaseException:
        sender.send(("error", traceback.format_exc()))
    sender.close()
