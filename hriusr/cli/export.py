"""`hriusr export`: networks as files for other runtimes."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli.arguments import Precision, Settings, parse_settings, with_ending
from hriusr.cli.networks import find_network
from hriusr.entry import guarded
from hriusr.errors import OptionsError, WeightsError


class Target(str, Enum):
    """Format of an exported network."""

    onnx = "onnx"
    torch_export = "torch-export"
    torchscript = "torchscript"
    safetensors = "safetensors"


@guarded
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS|NAME",
            show_default=False,
            help="Weights: a file, or a name that comes with hriusr; or a size (hriusr list), random, for timing.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", show_default=False, help="Default: WEIGHTS with the format's ending."),
    ] = None,
    to: Annotated[
        Target | None,
        typer.Option(
            help="onnx (.onnx), torch-export (.pt2), torchscript (.pt), safetensors. Default: OUT's ending, else onnx."
        ),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of weights and computing; pictures go in and out in fp32.")
    ] = Precision.fp32,
    opset: Annotated[int | None, typer.Option(min=1, help="Version of ONNX's operators; default: 18.")] = None,
    check: Annotated[bool, typer.Option(help="Compare with the network at five sizes before writing.")] = True,
    ema: Annotated[bool, typer.Option("--ema/--params", help="Which weights, where the file holds both.")] = True,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a network for other runtimes, for pictures of any size; ONNX of a large one takes minutes."""
    from hriusr.exporting.export import export_network
    from hriusr.exporting.formats import ENDINGS

    network = _shipped(source) or find_network(source)
    if to is None:
        to = next((kind for kind in Target if output is not None and output.suffix == ENDINGS[kind.value]), Target.onnx)
    if output is None:
        output = with_ending(Path(source), ENDINGS[to.value])
        if output == network:
            raise OptionsError(f"the output would be the input {source} itself: give another name for it")
    result = export_network(
        network,
        output,
        to=to.value,
        precision=precision.value,
        opset=opset,
        check=check,
        prefer_ema=ema,
        settings=parse_settings(settings),
        overwrite=overwrite,
    )
    facts = result.facts
    kind = facts.network_g["type"]
    typer.echo(
        f"{source}: {kind} x{facts.scale}, {facts.in_chans} channel(s), windows repeat every {facts.size_multiple}"
    )
    if not isinstance(network, Path):
        typer.echo("  note: a size has no trained weights: the numbers in it are random, for timing only")
    for (batch, height, width), error in result.errors.items():
        typer.echo(f"  {batch} x {height} x {width}: largest error {error:.2g}")
    checked = f"largest error {max(result.errors.values()):.2g}" if result.errors else "not checked"
    typer.echo(f"wrote {result.target} ({result.target.stat().st_size / 1e6:.1f} MB, {precision.value}, {checked})")


def _shipped(name: str) -> Path | None:
    """Return the file of weights that come with hriusr, by any of their names."""
    from hriusr.archs.pretrained import find_weights, shipped_weights

    try:
        path = find_weights(name)
    except WeightsError:
        return None
    return path if path in shipped_weights().values() else None
