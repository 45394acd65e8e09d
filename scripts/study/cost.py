"""What a step and a picture cost, in turns with SwinIR, so that a busy machine does not favour anyone."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from results import RUNS, write_result
from torch import nn

from hriusr.analysis.cost_process import measure
from hriusr.archs.registry import build_network
from hriusr.engine.versions import collect_versions

_REFERENCE = "swinir"
_TRAIN_SHAPE, _PICTURE_SIZE = (8, 3, 32, 32), (180, 320)


def measure_costs(networks: Mapping[str, Mapping[str, Any]], names: list[str], turns: int) -> None:
    """Measure those of the names that lack; write costs/NAME.json."""
    for name in names:
        path = RUNS / "costs" / f"{name}.json"
        if path.exists():
            continue
        torch.set_num_threads(1)
        pair = [build_network({"upscale": 2, **networks[one]}) for one in (_REFERENCE, name)]
        pair = [network.to(memory_format=torch.channels_last) for network in pair]
        content: dict[str, Any] = {"network": name, "processor": collect_versions()["cpu"]}
        for kind, work in (("train", _train), ("forward", _forward)):
            reference, own = _fastest(work, pair, turns)
            content[kind] = {"seconds": own, "ratio": own / reference}
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            content["pass_bytes"] = pool.apply(_pass_bytes, ({"upscale": 2, **networks[name]},))
        write_result(path, content)
        ratios = (content[kind]["ratio"] for kind in ("train", "forward"))
        print("{}: {:.2f} of SwinIR's time in training, {:.2f} in inference".format(name, *ratios), flush=True)


def _pass_bytes(network_opt: Mapping[str, Any]) -> int:
    """Return what a forward pass in fp32 takes beyond the network; for a process of its own, which knows the rivals."""
    order = {"network": {"network_g": network_opt}, "shape": [1, *_PICTURE_SIZE], "precision": "fp32", "device": "cpu"}
    messages = measure(order | {"threads": 1, "runs": 1, "with_training": False})
    return next(message["pass_bytes"] for message in messages if "pass_bytes" in message)


def _fastest(work: Callable[[nn.Module], None], networks: list[nn.Module], turns: int) -> list[float]:
    """Return each network's least processor seconds over some turns, behind one that is not counted."""
    seconds = [[_cpu_seconds(work, network) for network in networks] for _ in range(turns + 1)]
    return [min(column) for column in zip(*seconds[1:], strict=True)]


def _cpu_seconds(work: Callable[[nn.Module], None], network: nn.Module) -> float:
    start = time.process_time()
    work(network)
    return time.process_time() - start


def _train(network: nn.Module) -> None:
    lr_BCHW = torch.rand(_TRAIN_SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        sr_BCHW = network.train()(lr_BCHW)
    sr_BCHW.float().abs().mean().backward()
    network.zero_grad()


def _forward(network: nn.Module) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network.eval()(torch.rand(1, 3, *_PICTURE_SIZE))
