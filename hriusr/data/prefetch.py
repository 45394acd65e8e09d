"""Batches made ready before they are asked for: prefetch_mode cpu and cuda of BasicSR's datasets."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import torch

Batch = dict[str, Any]

_PATIENCE = 10  # seconds for the batch that is under way when no more are wanted


def prefetch_on_thread(batches: Iterator[Batch], length: int) -> Iterator[Batch]:
    """Draw batches on a thread of its own.

    Args:
        batches: where they come from.
        length: how many wait ready at most (num_prefetch_queue), besides the one that the thread holds.

    Yields:
        The same batches; an error of theirs is raised here. Closing this closes batches, too, so that loading
        processes end.
    """
    waiting: queue.Queue = queue.Queue(length)
    is_over = threading.Event()

    def put(item: Any) -> bool:
        while not is_over.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def draw() -> None:
        try:
            for batch in batches:
                if not put((batch, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))
        finally:
            if hasattr(batches, "close"):  # here: no other thread may while this one is inside of them
                batches.close()

    thread = threading.Thread(target=draw, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield batch
    finally:
        is_over.set()
        thread.join(_PATIENCE)


def prefetch_on_gpu(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy the next batch to the GPU while the present one is worked on; pinned memory makes that overlap.

    Args:
        batches: where they come from.
        device: a CUDA device.

    Yields:
        The batches with their tensors on the device.
    """
    stream = torch.cuda.Stream(device)

    def copy_next() -> Batch | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(stream):
            return {
                key: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
                for key, value in batch.items()
            }

    ready = copy_next()
    while ready is not None:
        torch.cuda.current_stream(device).wait_stream(stream)
        for value in ready.values():
            if torch.is_tensor(value):
                value.record_stream(torch.cuda.current_stream(device))
        present, ready = ready, copy_next()
        yield present
