"""Batches do not depend on workers, prefetching, interruption or ranks; errors arrive as themselves."""

import itertools
import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch

from hriusr.basicsr_bridge import register_package
from hriusr.data import prefetch
from hriusr.data.image_io import write_image
from hriusr.data.loader import build_train_loader, build_val_loader, telling_of_dead_workers
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.prefetch import prefetch_on_gpu, prefetch_on_thread
from hriusr.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    root = tmp_path_factory.mktemp("loader")
    for number in range(5):
        write_image(root / f"{number}.png", photo("coffee")[40 * number : 40 * number + 48, 100:148])
    return root


def dataset(folder, phase="train", **changed):
    opt = {"name": "five", "dataroot_gt": str(folder), "phase": phase, "scale": 2, "gt_size": 16}
    return PairedImageDataset(opt | changed)


def batches(folder, count, *, batch_size=2, num_workers=0, seed=7, rank=0, world_size=1, start=0, **changed):
    opt = {"batch_size_per_gpu": batch_size, "num_worker_per_gpu": num_workers, **changed}
    data = dataset(folder, cache=changed.get("cache", "none"))
    position = start * batch_size * world_size
    loader = build_train_loader(data, opt, seed=seed, rank=rank, world_size=world_size, start_position=position)
    return list(itertools.islice(loader, count))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["lq"], other["lq"])
        assert torch.equal(one["gt"], other["gt"])
        assert one["gt_path"] == other["gt_path"]


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_workers_do_not_change_the_batches(folder, num_workers, cache):
    assert_same(batches(folder, 6, num_workers=num_workers, cache=cache), batches(folder, 6))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resuming_in_the_middle_goes_on_exactly(folder, num_workers):
    assert_same(batches(folder, 4, start=3, num_workers=num_workers), batches(folder, 7)[3:])


def test_two_ranks_cover_what_one_covers(folder):
    alone = batches(folder, 4, batch_size=4, start=1)
    shares = [batches(folder, 4, batch_size=2, start=1, rank=rank, world_size=2) for rank in range(2)]
    for whole, left, right in zip(alone, *shares, strict=True):
        assert torch.equal(whole["gt"], torch.stack([left["gt"], right["gt"]], 1).flatten(0, 1))


def test_seed_changes_and_enlargement_is_used(folder):
    assert not torch.equal(batches(folder, 1, seed=1)[0]["gt"], batches(folder, 1, seed=2)[0]["gt"])
    paths = [batch["gt_path"][0] for batch in batches(folder, 10, batch_size=1, dataset_enlarge_ratio=2)]
    assert len(set(paths[:5])) < 5
    assert all(paths.count(path) == 2 for path in paths)


def test_prefetching_on_a_thread_changes_nothing(folder):
    prefetched = batches(folder, 5, prefetch_mode="cpu", num_prefetch_queue=2)
    assert_same(prefetched, batches(folder, 5))
    assert_same(batches(folder, 2, prefetch_mode=None), batches(folder, 2))
    with pytest.raises(DataError, match=r"prefetch_mode \(=gpu\).*cpu, cuda"):
        batches(folder, 1, prefetch_mode="gpu")


def test_thread_passes_on_the_end_and_errors():
    assert list(prefetch_on_thread(iter([{"a": 1}, {"a": 2}]), 1)) == [{"a": 1}, {"a": 2}]

    def broken():
        yield {"a": 1}
        raise DataError("x.png is gone")

    stream = prefetch_on_thread(broken(), 1)
    assert next(stream) == {"a": 1}
    with pytest.raises(DataError, match=r"^x\.png is gone$"):
        next(stream)


def test_closing_ends_the_thread_and_what_it_draws_from(folder):
    class Slow(PairedImageDataset):
        def __getitem__(self, key):
            time.sleep(0.2)
            return super().__getitem__(key)

    processes = set(multiprocessing.active_children())
    data = Slow({"dataroot_gt": str(folder), "phase": "train", "scale": 2, "gt_size": 16})
    opt = {"batch_size_per_gpu": 2, "num_worker_per_gpu": 1, "prefetch_mode": "cpu"}
    loader = build_train_loader(data, opt, seed=0)
    next(loader)
    assert set(multiprocessing.active_children()) > processes
    loader.close()
    assert set(multiprocessing.active_children()) == processes
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_closing_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(prefetch, "_PATIENCE", 0.1)
    goes_on, is_closed = threading.Event(), threading.Event()

    def stuck():
        try:
            yield {"a": 1}
            goes_on.wait(60)
            yield {"a": 2}
        finally:
            is_closed.set()

    stream = prefetch_on_thread(stuck(), 1)
    next(stream)
    begin = time.monotonic()
    stream.close()
    assert time.monotonic() - begin < 30
    goes_on.set()
    assert is_closed.wait(30)


def test_loading_leaves_the_global_random_numbers_alone(folder):
    before = torch.get_rng_state()
    batches(folder, 2, num_workers=1)
    list(build_val_loader(dataset(folder, "val")))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_error_in_a_worker_is_the_data_error_itself(folder, num_workers):
    opt = {"batch_size_per_gpu": 2, "num_worker_per_gpu": num_workers}
    loader = build_train_loader(dataset(folder, gt_size=64), opt, seed=0)
    with pytest.raises(DataError) as caught:
        next(loader)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


class Suicidal(PairedImageDataset):
    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_one_line_with_a_remedy(folder):
    data = Suicidal({"dataroot_gt": str(folder), "phase": "train", "scale": 2, "gt_size": 16})
    loader = build_train_loader(data, {"batch_size_per_gpu": 1, "num_worker_per_gpu": 1}, seed=0)
    with pytest.raises(DataError, match=r"ended unexpectedly .*num_worker_per_gpu"):
        next(loader)


def test_worker_killed_while_something_else_runs_is_told_as_well(folder):
    """PyTorch raises in the midst of whatever the main thread does."""
    others = set(multiprocessing.active_children())
    opt = {"batch_size_per_gpu": 1, "num_worker_per_gpu": 1}
    loader = build_train_loader(dataset(folder), opt, seed=0)
    next(loader)
    (worker,) = set(multiprocessing.active_children()) - others
    message = r"ended unexpectedly .*num_worker_per_gpu"
    threading.Timer(0.2, os.kill, (worker.pid, signal.SIGKILL)).start()
    with pytest.raises(DataError, match=message), telling_of_dead_workers():
        time.sleep(30)
    with pytest.raises(RuntimeError, match=r"^another$"), telling_of_dead_workers():
        raise RuntimeError("another")


def test_workers_use_one_thread_each(folder):
    class Threads(PairedImageDataset):
        def __getitem__(self, key):
            return {"threads": torch.get_num_threads()}

    data = Threads({"dataroot_gt": str(folder), "phase": "train", "scale": 2, "gt_size": 16})
    loader = build_train_loader(data, {"batch_size_per_gpu": 1, "num_worker_per_gpu": 1}, seed=0)
    assert next(loader)["threads"].item() == 1


def test_validation_sees_every_picture_once_and_again(folder):
    loader = build_val_loader(dataset(folder, "val"))
    assert len(loader) == 5
    assert loader.dataset.opt["name"] == "five"
    for _ in range(2):
        names = [os.path.basename(batch["gt_path"][0]) for batch in loader]
        assert names == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_validation_ranks_share_the_pictures(folder):
    shares = [
        [batch["gt_path"][0] for batch in build_val_loader(dataset(folder, "val"), rank=r, world_size=2)]
        for r in (0, 1)
    ]
    assert [len(share) for share in shares] == [3, 2]
    assert len({*shares[0], *shares[1]}) == 5


def test_basicsrs_own_loader_takes_our_dataset(folder):
    register_package()
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.data.data_sampler import EnlargedSampler

    opt = {"name": "five", "type": "PairedImageDataset", "dataroot_gt": str(folder), "phase": "train", "scale": 2}
    opt |= {"gt_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1, "io_backend": {"type": "disk"}}
    data = build_dataset(opt)
    loader = build_dataloader(data, opt, num_gpu=1, sampler=EnlargedSampler(data, 1, 0, 1), seed=3)
    (first, *_), (again, *_) = list(loader), list(loader)
    assert first["gt"].shape == (2, 3, 16, 16)
    assert torch.equal(first["gt"], again["gt"])


@pytest.mark.gpu
def test_prefetching_on_the_gpu_changes_nothing(folder):
    device = torch.device("cuda", torch.cuda.current_device())
    expected = batches(folder, 5)
    copied = list(prefetch_on_gpu(iter(batches(folder, 5)), device))
    assert all(batch["lq"].device == device for batch in copied)
    assert_same([{**batch, "lq": batch["lq"].cpu(), "gt": batch["gt"].cpu()} for batch in copied], expected)
    streamed = batches(folder, 5, prefetch_mode="cuda", pin_memory=True, num_workers=2)
    assert_same([{**batch, "lq": batch["lq"].cpu(), "gt": batch["gt"].cpu()} for batch in streamed], expected)
