"""`hriusr list` and `hriusr profile`: which networks there are, and what one costs."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hriusr.cli.arguments import Precision
from hriusr.cli.progress import StepProgress
from hriusr.entry import guarded
from hriusr.errors import HriusrError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@guarded
def list_networks(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Only names that hold every word, e.g. hat x4.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every named size of every network with its cost, and the architectures an option file may name."""
    from hriusr.archs.registry import known_networks
    from hriusr.archs.variants import VARIANTS

    rows = {
        name: variant
        for name, variant in VARIANTS.items()
        if all(word.lower() in f"{name} {variant.type}".lower() for word in words or ())
    }
    architectures = known_networks()
    if words:
        architectures = [name for name in architectures if all(word.lower() in name.lower() for word in words)]
    if not rows and not architectures:
        raise HriusrError(f"no network has {' and '.join(words)} in its name; hriusr list shows all")
    if as_json:
        sizes = [
            {
                "name": name,
                "type": variant.type,
                "scale": variant.arguments["upscale"],
                "parameters": variant.parameters,
                "multi_adds": variant.multi_adds,
                "source": variant.source,
                "network_g": variant.network_opt(),
            }
            for name, variant in rows.items()
        ]
        typer.echo(json.dumps({"sizes": sizes, "architectures": architectures}, indent=2))
        return

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width of its own
    if rows:
        table = Table(box=None, pad_edge=False, caption="Multi-Adds: for an output of 1280x720", caption_justify="left")
        for title, justify in (("name", "left"), ("architecture", "left"), ("scale", "right"), ("parameters", "right")):
            table.add_column(title, justify=justify, no_wrap=True)
        table.add_column("Multi-Adds", justify="right", no_wrap=True)
        table.add_column("source", no_wrap=True)
        for name, variant in rows.items():
            scale = f"x{variant.arguments['upscale']}"
            costs = (f"{variant.parameters:,}", f"{variant.multi_adds:,.1f} G")
            table.add_row(name, variant.type, scale, *costs, variant.source)
        console.print(table)
    if architectures:
        console.print(Text(f"\narchitectures (network_g.type): {', '.join(architectures)}"), highlight=False)


@guarded
def profile(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="A size (hriusr list), weights, or option file.")
    ],
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Rows x columns of the low-resolution picture that is timed.")
    ] = "64x64",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 1,
    train: Annotated[bool, typer.Option("--train", help="Also time forward and backward pass together.")] = False,
    precision: Annotated[Precision, typer.Option(help="bf16 and fp16 by autocast.")] = Precision.fp32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: the GPU if there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU; default: PyTorch's choice.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs, after one that is not.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure what a network costs: parameters, Multi-Adds, seconds and peak memory of a pass."""
    height, width = _parse_size(size)
    network = find_network(name)

    import torch

    from hriusr.analysis.complexity import count_multi_adds, count_parameters
    from hriusr.analysis.cost import measure_cost
    from hriusr.archs.registry import build_network
    from hriusr.archs.weights import network_from_weights

    if isinstance(network, Path):
        built = network_from_weights(network)
    else:
        with torch.device("meta"):  # counted, not run
            built = build_network(network)
    costs = {
        "name": name,
        "type": type(built).__name__,
        "scale": getattr(built, "upscale", None),
        "parameters": count_parameters(built),
        "size": [height, width],
        "batch_size": batch_size,
        "precision": precision.value,
    }
    if hasattr(built, "upscale") and hasattr(built, "in_chans"):  # networks of BasicSR don't tell their scale
        costs["multi_adds_1280x720"] = count_multi_adds(built)
        costs["multi_adds"] = count_multi_adds(built, height, width) * batch_size
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with StepProgress() as progress:
        measured = measure_cost(
            network,
            height,
            width,
            batch_size=batch_size,
            precision=precision.value,
            device=device,
            threads=threads,
            runs=runs,
            with_training=train,
            progress=progress.show,
        )
    costs |= {"device": measured.device, "threads": measured.threads, "forward": measured.forward.as_dict()}
    if measured.train is not None:
        costs["train"] = measured.train.as_dict()
    typer.echo(json.dumps(costs, indent=2) if as_json else _as_text(costs))


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.lower())
    if match is None:
        raise HriusrError(f"--size {text}: must be rows x columns, both at least 1, for instance 64x96")
    return int(match[1]), int(match[2])


def find_network(name: str) -> dict[str, Any] | Path:
    """Return the network_g section of a named size or an option file, or the path of a weights file."""
    from hriusr.archs.variants import VARIANTS
    from hriusr.options.spelling import did_you_mean

    if name in VARIANTS:
        return VARIANTS[name].network_opt()
    path = Path(name)
    if path.suffix in (".yml", ".yaml"):
        from hriusr.options.inheritance import read_with_bases

        section = read_with_bases(path).values.get("network_g")  # the rest of the file need not be runnable here
        if not isinstance(section, dict):
            raise HriusrError(f"{path}: network_g (={section!r}) must be a section with type and arguments")
        return section
    if path.suffix or os.path.exists(path):
        return path
    hint = did_you_mean(name, VARIANTS, list_all=False) or "; hriusr list shows all"
    raise HriusrError(f"{name} is neither a file nor a named size{hint}")


def _as_text(costs: Mapping[str, Any]) -> str:
    height, width = costs["size"]
    lines = [f"{costs['name']}: {costs['type']}" + (f" x{costs['scale']}" if costs["scale"] else "")]
    lines.append(f"parameters              {costs['parameters']:,}")
    if "multi_adds" in costs:
        lines.append(f"Multi-Adds at 1280x720  {costs['multi_adds_1280x720'] / 1e9:,.1f} G (output)")
        lines.append(f"Multi-Adds              {costs['multi_adds'] / 1e9:,.2f} G")
    for title, key in (("forward", "forward"), ("forward + backward", "train")):
        if key in costs:
            cost = costs[key]
            lines.append(
                f"{title:23} {cost['median_seconds']:.3f} s (median of {len(cost['seconds'])}: "
                f"{min(cost['seconds']):.3f} to {max(cost['seconds']):.3f})"
            )
            lines.append(
                f"{'  peak memory':23} {cost['pass_bytes'] / 1e6:,.0f} MB beyond the loaded network, "
                f"{cost['peak_bytes'] / 1e6:,.0f} MB in all"
            )
    lines.append(
        f"at {costs['batch_size']} x {height} x {width} (rows x columns, low resolution), {costs['precision']}, "
        f"{costs['device']}, {costs['threads']} thread{'s' if costs['threads'] > 1 else ''}"
    )
    return "\n".join(lines)
