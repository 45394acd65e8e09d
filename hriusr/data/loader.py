"""From datasets to batches: an endless stream for training, one picture after the other for validation.

What a batch holds depends on the seed and the batch's number alone, not on workers, prefetching or interruptions.
An error in a loading process arrives as itself: one DataError with its one line.
"""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from hriusr.data.patch_schedule import PatchSchedule, ScheduledBatches
from hriusr.data.prefetch import prefetch_on_gpu, prefetch_on_thread
from hriusr.data.sampler import ResumableSampler
from hriusr.errors import DataError, HriusrError

logger = logging.getLogger(__name__)

Batch = dict[str, Any]

_GRACE = 30  # seconds a loading process lives on after SIGTERM, if its parent does not end it before


class _Failure:
    """An error of the user's, on its way from a loading process: DataLoader would wrap it into a traceback."""

    def __init__(self, error: HriusrError):
        self.error = error


class _CatchingDataset(Dataset):
    """Hands out a _Failure where the dataset raises an error meant for the user."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.opt = getattr(dataset, "opt", {})  # BasicSR's validation reads loader.dataset.opt["name"]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except HriusrError as error:
            return _Failure(error)


def _collate(items: list) -> Any:
    return next((item for item in items if isinstance(item, _Failure)), None) or default_collate(items)


def _start_worker(_: int) -> None:
    """One thread a loading process: its neighbours use the other cores. OpenCV's pool does not survive a fork."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # Ctrl-C and SLURM signal the whole group: the parent finishes its step and saves, then ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


class PictureLoader(DataLoader):
    """DataLoader that raises a dataset's DataError as itself."""

    def __init__(self, dataset: Dataset, **arguments: Any):
        # a generator of its own: DataLoader would else draw from torch's global one, and resuming would differ
        arguments.setdefault("generator", torch.Generator().manual_seed(0))
        super().__init__(_CatchingDataset(dataset), collate_fn=_collate, worker_init_fn=_start_worker, **arguments)

    def __iter__(self) -> Iterator[Batch]:
        with warnings.catch_warnings():  # Python 3.12 on forking beside torch's threads, which the workers don't use
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            batches = super().__iter__()
        return self._unwrap(batches)

    def _unwrap(self, batches: Iterator) -> Iterator[Batch]:
        """Pass on batches; raise the error that comes instead of one."""
        batch = None
        try:
            while True:
                with telling_of_dead_workers():
                    batch = next(batches, None)
                if batch is None:
                    return
                if isinstance(batch, _Failure):
                    raise batch.error
                yield batch
        finally:
            # Ends the workers now. Left to the garbage collector (an error refers to this frame, and the frame to the
            # error) they end in no order, and each may be waited for in vain for 5 seconds.
            del batch, batches


@contextlib.contextmanager
def telling_of_dead_workers() -> Iterator[None]:
    """Turn the end of a loading process, which PyTorch tells by a signal, whatever runs just then, into a clear error.

    Raises:
        DataError: in place of PyTorch's RuntimeError. An error inside of a loading process is passed on as it is.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise DataError(
            f"a loading process ended unexpectedly ({str(error).splitlines()[0]}): "
            "out of memory or shared memory; lower num_worker_per_gpu"
        ) from error


def build_train_loader(
    dataset: Dataset,
    dataset_opt: Mapping[str, Any],
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start_position: int = 0,
    start_iteration: int = 0,
) -> Iterator[Batch]:
    """Return the endless stream of this rank's training batches.

    Args:
        dataset: takes SampleKey; its pictures are loaded into memory here, where its options ask for that.
        dataset_opt: batch_size_per_gpu; optionally num_worker_per_gpu, dataset_enlarge_ratio, pin_memory (where there
            is a GPU; default true), progressive (see patch_schedule.py), prefetch_mode (cpu, cuda or none),
            num_prefetch_queue.
        seed: decides on order, crops and flips; not negative.
        rank: this process among world_size.
        world_size: processes that train together.
        start_position: samples that all ranks together have taken already; the stream goes on behind them.
        start_iteration: steps done, which growing patches depend on.

    Returns:
        Iterator of {lq, gt: (batch, C, H, W) float32, lq_path, gt_path: lists}; with prefetch_mode cuda on the GPU.

    Raises:
        DataError: when a batch cannot be made (from next), or pictures do not fit into memory.
    """
    num_workers = int(dataset_opt.get("num_worker_per_gpu") or 0)
    if hasattr(dataset, "preload"):
        dataset.preload(max(2, num_workers))
    sampler = ResumableSampler(
        len(dataset),
        seed,
        rank,
        world_size,
        start_position,
        enlarge_ratio=dataset_opt.get("dataset_enlarge_ratio") or 1,
    )
    loader = PictureLoader(
        dataset,
        batch_sampler=ScheduledBatches(sampler, PatchSchedule.from_options(dataset_opt), start_iteration + 1),
        num_workers=num_workers,  # they persist: the stream never ends
        pin_memory=torch.cuda.is_available() and dataset_opt.get("pin_memory", True),
    )
    mode = dataset_opt.get("prefetch_mode")
    if mode == "cuda" and torch.cuda.is_available():
        return prefetch_on_gpu(iter(loader), torch.device("cuda", torch.cuda.current_device()))
    if mode == "cpu":
        return prefetch_on_thread(iter(loader), int(dataset_opt.get("num_prefetch_queue") or 1))
    if mode not in (None, "cuda"):
        raise DataError(f"prefetch_mode (={mode}) is not supported: use cpu, cuda or ~")
    return iter(loader)


def build_val_loader(dataset: Dataset, *, rank: int = 0, world_size: int = 1) -> PictureLoader:
    """Return a loader of whole pictures, one a batch, in the dataset's order.

    Args:
        dataset: its pictures may differ in size.
        rank: this process among world_size; it sees the pictures rank, rank + world_size ...
        world_size: processes that validate together.

    Returns:
        Can be gone through again and again; has len() and .dataset.opt.
    """
    return PictureLoader(dataset, batch_size=1, sampler=range(rank, len(dataset), world_size), num_workers=0)
