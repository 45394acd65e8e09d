"""What each option for speed and memory does to a training step and to the data, as ratios against the plain setting.

    python scripts/benchmarks/training_options.py --threads 1 [--turns 3] [--only bf16 | --without compile]

A turn is two steps of a whole training, data included, of the model and loader that an option file builds. All settings
take their turns one after the other, round after round; a ratio is the median over the rounds, so that a machine whose
speed drifts disturbs all alike. On a CPU processor seconds are compared, those of loading processes included, on a GPU
seconds of the clock. Memory is what a step takes at its peak beyond what the run holds between steps (weights,
optimiser, mean): on a CPU by the kernel's high-water mark, in a process of its own. Pictures: the photographs of
scikit-image, 512x512.
"""

import argparse
import contextlib
import copy
import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import skimage.data
import torch
import yaml

from hriusr.analysis.memory_use import peak_bytes, reset_peak, resident_bytes, synchronize
from hriusr.data.image_io import write_image
from hriusr.data.loader import build_train_loader
from hriusr.data.prepare import prepare_bicubic, prepare_lmdb
from hriusr.engine.build import build_model
from hriusr.engine.registered import registered_components
from hriusr.engine.training_setup import build_data
from hriusr.options import Options, load_options

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")
STEPS = 2
BATCH = 8

PLAIN = {
    "name": "plain",
    "scale": 2,
    "num_gpu": 0,
    "datasets": {
        "train": {
            "name": "photographs",
            "type": "PairedImageDataset",
            "dataroot_gt": "gt",
            "dataroot_lq": "lq",
            "gt_size": 64,
            "batch_size_per_gpu": BATCH,
        }
    },
    "network_g": {
        "type": "SwinIR",
        "upscale": 2,
        "embed_dim": 60,
        "depths": [6, 6],
        "num_heads": [6, 6],
        "window_size": 8,
        "mlp_ratio": 2,
    },
    "train": {
        "total_iter": STEPS,
        "ema_decay": 0.999,
        "optim_g": {"type": "Adam", "lr": 2.0e-4, "fused": False, "foreach": False},
        "scheduler": {"type": "MultiStepLR", "milestones": [1]},
        "pixel_opt": {"type": "L1Loss"},
    },
}

TRAIN = "datasets:train:"
SETTINGS: dict[str, dict[str, Any]] = {  # key of a mapping, written as --force_yml has it -> value
    "plain": {},
    "precision: bf16": {"precision": "bf16"},
    "precision: fp16": {"precision": "fp16"},
    "channels_last": {"channels_last": True},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
    "compile": {"compile": True},
    "compile, bf16": {"compile": True, "precision": "bf16"},
    "recompute all blocks": {"train:recompute": {"modules": ["layers.*.blocks.*"]}},
    "recompute each 2nd": {"train:recompute": {"modules": ["layers.*.blocks.*"], "every": 2}},
    "accumulation: 4 of 2": {"train:accumulation": 4, f"{TRAIN}batch_size_per_gpu": BATCH // 4},
    "grad_clip_norm": {"train:grad_clip_norm": 1.0},
    "fused optimiser": {"train:optim_g:fused": True},
    "foreach optimiser": {"train:optim_g:foreach": True},
    "progressive: 32, then 64": {f"{TRAIN}gt_size": 32, f"{TRAIN}progressive": [{"iter": 1, "gt_size": 64}]},
    "1 loading process": {f"{TRAIN}num_worker_per_gpu": 1},
    "prefetch_mode: cpu": {f"{TRAIN}prefetch_mode": "cpu"},
    "prefetch_mode: cuda": {f"{TRAIN}prefetch_mode": "cuda", f"{TRAIN}num_worker_per_gpu": 1},
    "lmdb": {
        f"{TRAIN}dataroot_gt": "gt.lmdb",
        f"{TRAIN}dataroot_lq": "lq.lmdb",
        f"{TRAIN}io_backend": {"type": "lmdb"},
    },
    "cache: memory": {f"{TRAIN}cache": "memory"},
    "cache: disk": {f"{TRAIN}cache": "disk"},
    "lq on the fly": {f"{TRAIN}dataroot_lq": None},
    "ImageNet's dataset, JPEG": {
        f"{TRAIN}type": "ImageNetPairedDataset",
        f"{TRAIN}dataroot_gt": "jpeg",
        f"{TRAIN}dataroot_lq": None,
    },
}
UPDATES = ("plain", "grad_clip_norm", "foreach optimiser", "fused optimiser")
GPU_ONLY = {"prefetch_mode: cuda"}
DATA = ("plain", "lmdb", "cache: memory", "cache: disk", "lq on the fly", "ImageNet's dataset, JPEG")


def options_of(name: str, device: str) -> Options:
    """Return a setting's options, written to run.yml and read from there."""
    values = copy.deepcopy(PLAIN)
    values |= {"name": name.replace(":", ""), "num_gpu": 1 if device == "cuda" else 0}
    for dotted_key, value in SETTINGS[name].items():
        *parents, key = dotted_key.split(":")
        section = values
        for parent in parents:
            section = section[parent]
        section[key] = value
    Path("run.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_options("run.yml", is_train=True, **registered_components())


class Run:
    """A setting's model and data."""

    def __init__(self, name: str, device: str):
        opt = options_of(name, device).to_basicsr_dict()
        self.data = build_data(opt)
        torch.manual_seed(0)
        self.model = build_model(opt)
        if hasattr(self.data.train_set, "preload"):
            self.data.train_set.preload()

    @contextlib.contextmanager
    def batches(self) -> Iterator[Iterator[dict[str, Any]]]:
        """Open the stream of batches from its beginning."""
        stream = build_train_loader(self.data.train_set, self.data.train_opt, seed=0)
        try:
            yield stream
        finally:
            if hasattr(stream, "close"):
                stream.close()  # ends loading processes, so that their time can be read

    def turn(self) -> tuple[float, float]:
        """Take the steps of a turn; return its seconds, of processors or of a GPU's clock, and those of waiting."""
        synchronize(self.model.device)
        start, waited = clock(self.model.device), 0.0
        with self.batches() as batches:
            for number in range(1, STEPS + 1):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked if number > 1 else 0.0  # the first one is never ready
                self.model.feed_data(batch)
                self.model.optimize_parameters(number)
            synchronize(self.model.device)
        return clock(self.model.device) - start, waited

    def step_megabytes(self) -> float:
        """Return what a turn takes at its peak beyond what is held between turns."""
        self.turn()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back to the system
        held = resident_bytes(self.model.device)
        reset_peak(self.model.device)
        self.turn()
        return (peak_bytes(self.model.device) - held) / 1e6


def clock(device: torch.device) -> float:
    """Return seconds: of the clock on a GPU, else of processors, those of processes that have ended included."""
    if device.type == "cuda":
        return time.perf_counter()
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in times)


def measured_memory(name: str, device: str) -> float:
    """Measure a setting's memory; on a CPU in a process of its own, forked before anything was computed."""
    if device == "cuda":
        return Run(name, device).step_megabytes()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(Run(name, device).step_megabytes()))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        child.join()


def samples_a_second(run: Run, seconds: float = 2.0) -> float:
    """Count training samples that the data alone give, a processor second."""
    count = 0
    with run.batches() as batches:
        next(batches)
        start = time.process_time()
        while time.process_time() - start < seconds:
            count += len(next(batches)["lq"])
        return count / (time.process_time() - start)


def update_milliseconds(run: Run, count: int = 20) -> float:
    """Time the update alone: norm, clipping, the optimiser's step; of a run that has taken a turn."""
    model = run.model
    spent = []
    for number in range(count):
        synchronize(model.device)
        start = clock(model.device)
        model._update(model.optimizer_g, model.precision.scaler, model.guard, number)
        synchronize(model.device)
        spent.append(clock(model.device) - start)
    return statistics.median(spent) * 1e3


def write_pictures() -> None:
    """Write the photographs as PNG, with their low resolution, as databases and, in a folder a class, as JPEG."""
    for number, name in enumerate(PHOTOGRAPHS):
        image_HWC = cv2.resize(getattr(skimage.data, name)()[..., :3], (512, 512), interpolation=cv2.INTER_AREA)
        write_image(Path("gt", f"{name}.png"), image_HWC)
        write_image(Path("jpeg", str(number), f"{name}.jpg"), image_HWC)
    prepare_bicubic("gt", "lq", scale=2, filename_tmpl="{}", num_processes=1, progress=False)
    for folder in ("gt", "lq"):
        prepare_lmdb(folder, f"{folder}.lmdb", num_processes=1, progress=False)


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", default=[""], help="settings whose name has one of these words, and plain")
    parser.add_argument("--without", nargs="+", default=[], help="leave out settings whose name has one of these words")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("hriusr").setLevel(logging.ERROR)
    names = [
        name
        for name in SETTINGS
        if (name == "plain" or any(word in name for word in arguments.only))
        and not any(word in name for word in arguments.without)
        and (name not in GPU_ONLY or arguments.device == "cuda")
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_pictures()
        memory = {name: measured_memory(name, arguments.device) for name in names}
        runs = {name: Run(name, arguments.device) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        waits: dict[str, list[float]] = {name: [] for name in names}
        first: dict[str, float] = {}
        for turn in range(arguments.turns + 1):
            for name, run in runs.items():
                spent, waited = run.turn()
                if turn:  # the first turn warms up, and compiles
                    seconds[name].append(spent)
                    waits[name].append(waited)
                else:
                    first[name] = spent
        rates = {name: samples_a_second(runs[name]) for name in DATA if name in runs}
        updates = {name: update_milliseconds(runs[name]) for name in UPDATES if name in runs}
        os.chdir("/")
    kind = torch.cuda.get_device_name() if arguments.device == "cuda" else f"cpu, {arguments.threads} threads"
    lines = [f"torch {torch.__version__}, {kind}, {arguments.turns} turns of {STEPS} steps, {BATCH} patches of 64x64"]
    lines += ["", "| setting | s a step | time | first turn s | MB of a step | memory | waits, ms a step |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name in names:
        ratio = statistics.median(own / plain for own, plain in zip(seconds[name], seconds["plain"], strict=True))
        lines.append(
            f"| {name} | {statistics.median(seconds[name]) / STEPS:.3f} | {ratio:.2f} | {first[name]:.1f} "
            f"| {memory[name]:.0f} | {memory[name] / memory['plain']:.2f} "
            f"| {statistics.median(waits[name]) / (STEPS - 1) * 1e3:.1f} |"
        )
    needed = BATCH / (statistics.median(seconds["plain"]) / STEPS)
    lines += ["", "| data | samples a second and core | times what the plain step takes |", "|---|---|---|"]
    lines += [f"| {name} | {rate:.0f} | {rate / needed:.0f} |" for name, rate in rates.items()]
    lines += ["", "| update | ms |", "|---|---|", *(f"| {name} | {ms:.1f} |" for name, ms in updates.items())]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
