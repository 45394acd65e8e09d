"""Pictures of the study: PSNR against Multi-Adds and milliseconds (SVG); crops of Urban100 and attribution maps."""

import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from results import MAIN_PROTOCOL, ROOT, read_costs, read_scores
from torch import nn

from hriusr.analysis.attribution import Window, local_attribution
from hriusr.analysis.attribution_picture import blend
from hriusr.analysis.concentration import diffusion_index
from hriusr.archs.weights import network_from_weights
from hriusr.data.image_io import image_to_tensor, read_image, tensor_to_image, write_image
from hriusr.data.matlab_resize import downsample, imresize

# picture of Urban100, top and left of a 96 x 96 crop of it: facades, where the networks differ
CROPS = {
    "img004": (300, 500),
    "img012": (400, 300),
    "img062": (320, 440),
    "img076": (380, 500),
    "img092": (300, 400),
}
_CROP_SIDE, _ENLARGEMENT = 96, 3
_EXPLAINED_SIDE = 16  # of the patch in a crop's middle whose attribution is mapped


def write_plots() -> list[Path]:
    """Write the two plots into experiments/."""
    scores, costs = read_scores(MAIN_PROTOCOL), read_costs()
    plt.rcParams["svg.hashsalt"] = "hriusr"  # the same file for the same numbers
    seconds = {name: 1e3 * cost["forward"]["seconds"] for name, cost in costs.items()}
    multi_adds = {row.network: row.multi_adds / 1e9 for row in scores}
    written = []
    for name, xs, label in (
        ("multi_adds", multi_adds, "G Multi-Adds at 1280x720"),
        ("milliseconds", seconds, "ms for a picture of 320x180, one thread"),
    ):
        figure, axes = plt.subplots(figsize=(7, 4.5))
        for row in scores:
            if row.network not in xs:
                continue
            psnr = row.psnr["Urban100"]
            mean = statistics.fmean(psnr)
            axes.errorbar(xs[row.network], mean, [[mean - min(psnr)], [max(psnr) - mean]], fmt="o", capsize=3)
            axes.annotate(row.network, (xs[row.network], mean), textcoords="offset points", xytext=(5, 4), fontsize=8)
        axes.set(xlabel=label, ylabel="PSNR on Urban100 x2, dB", title="The study: mean of the seeds, least to largest")
        axes.grid(alpha=0.3)
        path = ROOT / "experiments" / f"study_{name}.svg"
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        written.append(path)
    return written


def write_crops(names: list[str], seed: int, urban100: Path, work: Path) -> Path:
    """Write crops side by side, a row a picture: ground truth, bicubic, each network; below, where each network looked.

    The maps (hriusr/analysis/attribution.py) are of the 16 x 16 pixels in the crop's middle, over 96 x 96 pixels of the
    low resolution; each network's mean diffusion index is printed.

    Args:
        names: networks whose runs with this seed are in the work folder.
        seed: of the runs.
        urban100: folder of the ground truth.
        work: the study's work folder; crops.png is written there, never into the repository: the pictures are not ours.
    """
    files = [work / "experiments" / f"{MAIN_PROTOCOL}_{name}_s{seed}" / "models" / "net_g_latest.pth" for name in names]
    networks = [network_from_weights(path).eval() for path in files]
    rows, indices = [], {name: [] for name in names}
    for picture, (top, left) in CROPS.items():
        gt_HWC = read_image(urban100 / f"{picture}.png")
        lr_HWC = downsample(gt_HWC, 2)
        bicubic_HWC = imresize(lr_HWC, 2.0)
        candidates = [gt_HWC, bicubic_HWC, *(_upscale(network, lr_HWC) for network in networks)]
        crops = [candidate[top : top + _CROP_SIDE, left : left + _CROP_SIDE] for candidate in candidates]
        rows.append(_row(crops))
        middle = (_CROP_SIDE - _EXPLAINED_SIDE) // 2
        window = Window(left + middle, top + middle, _EXPLAINED_SIDE)
        shown_HWC = lr_HWC.astype(np.float64) / 255
        maps = []
        for name, network in zip(names, networks, strict=True):
            found = local_attribution(network, shown_HWC, window, scale=2, crop=_CROP_SIDE, alignment=8)
            indices[name].append(diffusion_index(found.map))
            maps.append(blend(found.box.cut(shown_HWC), found.map))
        rows.append(_row([found.box.cut(lr_HWC), np.full_like(crops[0], 255), *maps]))
    for name, values in indices.items():
        print(f"{name}: diffusion index {statistics.fmean(values):.2f}")
    path = work / "crops.png"
    write_image(path, np.concatenate(rows))
    return path


def _row(crops: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([crop.repeat(_ENLARGEMENT, 0).repeat(_ENLARGEMENT, 1) for crop in crops], 1)


def _upscale(network: nn.Module, lr_HWC: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return tensor_to_image(network(image_to_tensor(lr_HWC)[None])[0])
