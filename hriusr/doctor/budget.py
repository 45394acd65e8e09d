"""Will it fit, how long will it take, and what holds it up: memory, time and disk of the whole run."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from hriusr.data.prepare_jobs import num_cores
from hriusr.doctor.findings import Report
from hriusr.doctor.stages import heaviest_stage, mean_batch_size
from hriusr.doctor.trial import DataRate, StepCost
from hriusr.engine.speedometer import duration
from hriusr.models.sr_model import RestorationModel
from hriusr.upscaling.memory_plan import available_bytes, bytes_per_pixel

_TIGHT = 0.9  # of the memory
_LARGE_PICTURE = 1.0  # megapixels: above, sub-images are read faster
_LARGEST_VAL_SHARE = 0.2  # of the time


def check_memory(model: RestorationModel, cost: StepCost, opt: Mapping[str, Any], report: Report) -> bool:
    """Predict the memory of the wanted batch, the heaviest where patches grow; return whether it fits."""
    stage = heaviest_stage(opt)
    batch_size, key = stage.batch_size, "batch_size_per_gpu" if stage.first_step == 1 else "progressive"
    wanted = cost.fixed_bytes + batch_size * cost.sample_bytes
    if model.device.type == "cuda":
        limit = float(torch.cuda.get_device_properties(model.device).total_memory)
    else:
        limit = available_bytes(model.device) + psutil.Process().memory_info().rss
    most = int((_TIGHT * limit - cost.fixed_bytes) // cost.sample_bytes) if cost.sample_bytes else batch_size
    report.measure(
        "memory",
        predicted_gb=round(wanted / 1e9, 2),
        limit_gb=round(limit / 1e9, 2),
        batch_size=batch_size,
        gb_a_sample=round(cost.sample_bytes / 1e9, 4),
        largest_batch=max(0, most),
    )
    if wanted > _TIGHT * limit:
        whole = batch_size * (opt["train"].get("accumulation") or 1)
        fitting = max((size for size in range(1, max(1, most) + 1) if whole % size == 0), default=1)
        name = "batch_size_per_gpu" if key != "progressive" else f"batch_size of the stage of {stage.gt_size} pixels"
        remedy = f"set {name}: {fitting} and train.accumulation: {whole // fitting}, which trains alike"
        if most < 1:
            remedy = "lower gt_size or take a smaller network; not even one sample fits"
        elif opt.get("precision", "fp32") == "fp32" and model.device.type == "cuda":
            remedy += ", or precision: bf16"
        report.add(
            "error" if wanted > limit else "warning",
            f"datasets.train.{key}",
            f"{batch_size} samples need about {wanted / 1e9:.1f} GB, there are {limit / 1e9:.1f} GB",
            remedy,
        )
    return wanted <= limit


def check_val_memory(
    model: RestorationModel, largest: Mapping[str, tuple[int, int]], opt: Mapping[str, Any], report: Report
) -> None:
    """Predict the memory for the largest picture of each validation set, unless it is cut into tiles.

    Args:
        model: its network is measured.
        largest: entry -> (height, width), LR pixels.
        opt: options in BasicSR's form.
        report: where findings go.
    """
    if opt.get("tile") or not largest:
        return
    per_pixel = bytes_per_pixel(
        model.inference_network, scale=int(opt["scale"]), device=model.device, precision=model.precision.name
    )
    for entry, (height, width) in largest.items():
        needed, free = per_pixel * height * width, available_bytes(model.device)
        report.measure(f"datasets.{entry}", gb_for_largest_picture=round(needed / 1e9, 2))
        if needed > _TIGHT * free:
            report.add(
                "warning",
                f"datasets.{entry}",
                f"its largest picture ({width}x{height} LR) needs about {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free",
                "cut pictures into tiles: tile: {tile_size: 256, tile_pad: 32}",
            )


def check_speed(
    opt: Mapping[str, Any],
    data_rate: DataRate,
    step_seconds: float,
    val_seconds: float,
    megapixels: float,
    report: Report,
) -> None:
    """Compare data with compute, name the bottleneck, and say when the run will be over."""
    train_opt = opt["datasets"]["train"]
    samples = mean_batch_size(opt) * (opt["train"].get("accumulation") or 1)
    compute_rate = samples / step_seconds
    total = int(opt["train"]["total_iter"])
    seconds_a_step = max(step_seconds, samples / data_rate.samples_per_second)
    num_validations = total // int(opt["val"]["val_freq"]) if opt.get("val") else 0
    eta = data_rate.seconds_to_first + total * seconds_a_step + num_validations * val_seconds
    is_data = data_rate.samples_per_second < compute_rate
    report.measure(
        "speed",
        data_samples_per_second=round(data_rate.samples_per_second, 2),
        compute_samples_per_second=round(compute_rate, 2),
        bottleneck="data" if is_data else "compute",
        seconds_a_step=round(seconds_a_step, 4),
        seconds_a_validation=round(val_seconds, 2),
        validations=num_validations,
        eta_seconds=round(eta),
        eta=duration(eta),
    )
    if is_data:
        report.add(
            "warning",
            "datasets.train",
            f"data come at {data_rate.samples_per_second:.0f} samples a second, the network takes {compute_rate:.0f}: "
            f"it will wait {1 - data_rate.samples_per_second / compute_rate:.0%} of the time",
            _faster_data(train_opt, megapixels),
        )
    workers = int(train_opt.get("num_worker_per_gpu") or 0)
    if workers > num_cores():
        report.add(
            "note",
            "datasets.train.num_worker_per_gpu",
            f"{workers} loading processes on {num_cores()} CPU cores",
            "as many as cores are enough",
        )
    if num_validations and num_validations * val_seconds > _LARGEST_VAL_SHARE * eta:
        report.add(
            "warning",
            "val.val_freq",
            f"validation will take {num_validations * val_seconds / eta:.0%} of the time "
            f"({num_validations} times {duration(val_seconds)})",
            "raise val_freq, or validate on fewer or smaller pictures",
        )


def _faster_data(train_opt: Mapping[str, Any], megapixels: float) -> str:
    remedies = []
    workers, cores = int(train_opt.get("num_worker_per_gpu") or 0), num_cores()
    if workers < cores:
        remedies.append(f"raise num_worker_per_gpu to {cores}")
    if megapixels > _LARGE_PICTURE:
        remedies.append("cut the pictures with `hriusr prepare sub-images`")
    if train_opt.get("cache") not in ("memory", "disk"):
        remedies.append("set cache: memory if they fit into it, else cache: disk")
    return ", or ".join(remedies) or "a machine with more or faster cores"


def _checkpoint_bytes(model: RestorationModel) -> tuple[int, int]:
    """Return the bytes of the weights that a .pth holds, and those of a whole checkpoint; call it after a step."""
    weights = _weights_bytes(model, model.net_g) * (2 if hasattr(model, "net_g_ema") else 1)
    states = [state for optimizer in model.optimizers for state in optimizer.state_dict()["state"].values()]
    whole = weights + sum(value.nbytes for state in states for value in state.values() if torch.is_tensor(value))
    if hasattr(model, "net_d"):
        whole += _weights_bytes(model, model.net_d)
    pairs = getattr(model, "pairs", None)
    if pairs is not None:  # a full pool, RGB of 8 bits
        whole += pairs.pool.size * 3 * (pairs.gt_size**2 + (pairs.gt_size // pairs.scale) ** 2)
    return weights, whole


def _weights_bytes(model: RestorationModel, network: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.get_bare_model(network).state_dict().values())


def check_disk(model: RestorationModel, opt: Mapping[str, Any], report: Report) -> None:
    """Add up the checkpoints of the run and compare with the free space; call it after a step."""
    weights, one = _checkpoint_bytes(model)
    best = weights if (opt.get("val") or {}).get("metrics") else 0
    total, every = int(opt["train"]["total_iter"]), int(opt["logger"]["save_checkpoint_freq"])
    number = -(-total // every)
    keep, keep_every = opt["logger"].get("keep_checkpoints"), opt["logger"].get("keep_every")
    if keep:
        number = min(number, keep + (total // keep_every if keep_every else 0))
    needed = (number + 1) * one + 2 * best  # one more of each while it is written
    folder = Path(opt.get("root_path", ".")).absolute()
    free = shutil.disk_usage(folder).free
    report.measure(
        "disk",
        checkpoint_mb=round(one / 1e6, 1),
        best_weights_mb=round(best / 1e6, 1),
        checkpoints=number,
        needed_gb=round(needed / 1e9, 2),
        free_gb=round(free / 1e9, 2),
    )
    if needed > free:
        report.add(
            "error",
            "logger.save_checkpoint_freq",
            f"{number} checkpoints of {one / 1e6:.0f} MB need {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB",
            "set logger.keep_checkpoints: 3, or save less often",
        )
    elif needed > 0.5 * free:
        report.add(
            "warning",
            "logger.save_checkpoint_freq",
            f"{number} checkpoints will take {needed / 1e9:.1f} of {free / 1e9:.1f} GB that are free",
            "set logger.keep_checkpoints to keep the newest only",
        )
