"""Memory and speed of `hriusr upscale` as pictures grow: up to a gigapixel, and against a picture that is not tiled.

    python scripts/benchmarks/upscale_memory.py --work FOLDER [--megapixels 16 64 256 1024] [--format tif] [--threads 1]

Each run is a process of its own: a picture made of scikit-image's photographs (so large ones repeat), upscaled x4 by
HRIUSR-tiny with random weights. Printed: peak resident memory, and CPU seconds a megapixel of the result, for the
pictures of the given sizes and for an untiled one of 16 megapixels in the same run. Results are deleted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.pictures.vips import load_vips
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.upscale import upscale_path

SCALE = 4
UNTILED_MEGAPIXELS = 16


def make_source(path: Path, side: int) -> None:
    """Write a PNG of side x side pixels, row by row."""
    vips = load_vips()
    names = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field")
    parts = [np.ascontiguousarray(getattr(skimage.data, name)()[:300, :400, :3]) for name in names]
    image = vips.Image.arrayjoin([vips.Image.new_from_array(part) for part in parts], across=len(parts))
    image = image.replicate(-(-side // image.width), -(-side // image.height)).crop(0, 0, side, side)
    image.copy(interpretation="srgb").pngsave(str(path), compression=1)


def run_one(source: Path, target: Path, tile_size: int | None, threads: int) -> None:
    """Upscale in this process and print what it took."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build_network(VARIANTS["hriusr_tiny_x2"].network_opt() | {"upscale": SCALE}).eval()
    started, wall = time.process_time(), time.perf_counter()
    report = upscale_path(source, target, network=network, tiles=TileOptions(tile_size=tile_size), overwrite=True)
    if report.failures:
        sys.exit(report.failures[0].reason)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    height, width = report.outcomes[0].size
    print(
        json.dumps(
            {
                "megapixels": height * width / 1e6,
                "peak_mb": peak,
                "cpu_seconds": time.process_time() - started,
                "wall_seconds": time.perf_counter() - wall,
                "result_mb": target.stat().st_size / 1e6,
            }
        )
    )


def measure(arguments: argparse.Namespace, megapixels: float, tile_size: int | None) -> dict[str, float]:
    """Do one size in a new process."""
    source = arguments.work / f"source_{megapixels:g}.png"
    target = arguments.work / f"result_{megapixels:g}.{arguments.format}"
    make_source(source, round((megapixels * 2**20) ** 0.5) // SCALE)
    command = [sys.executable, __file__, "--work", str(arguments.work), "--threads", str(arguments.threads)]
    command += ["--one", str(source), str(target), "-1" if tile_size is None else str(tile_size)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{megapixels} megapixels: ended with {done.returncode}")
        return json.loads(done.stdout)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures; 4 bytes a pixel of the largest")
    parser.add_argument("--megapixels", type=float, nargs="*", default=[16, 64, 256, 1024], help="of results, in 2^20")
    parser.add_argument("--format", default="tif", help="of results: tif or png")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        source, target, tile_size = arguments.one
        run_one(Path(source), Path(target), None if tile_size == "-1" else int(tile_size), arguments.threads)
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    print("| result | peak memory | CPU seconds a megapixel | against untiled | wall seconds | file |")
    print("|---|---|---|---|---|---|")
    speed = None
    for name, megapixels, tile_size in [("untiled", UNTILED_MEGAPIXELS, 0)] + [
        ("planned tiles", megapixels, None) for megapixels in arguments.megapixels
    ]:
        row = measure(arguments, megapixels, tile_size)
        own = row["cpu_seconds"] / row["megapixels"]
        speed = own if speed is None else speed
        print(
            f"| {row['megapixels']:.0f} MP, {name} | {row['peak_mb']:.0f} MB | {own:.2f} | {own / speed:.2f} | "
            f"{row['wall_seconds']:.0f} | {row['result_mb']:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
