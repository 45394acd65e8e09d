"""`hriusr convert`: weights files between formats and programs."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli.arguments import Precision, Settings, parse_settings, with_ending
from hriusr.entry import guarded
from hriusr.errors import OptionsError


class Format(str, Enum):
    """Format of a weights file."""

    safetensors = "safetensors"
    pth = "pth"


@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", show_default=False, help="Weights: .pth or .safetensors.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", show_default=False, help="Default: IN with the other ending.")
    ] = None,
    to: Annotated[
        Format | None,
        typer.Option(help="pth: as the original code and spandrel load it. Default: OUT's ending, else not IN's."),
    ] = None,
    ema: Annotated[bool, typer.Option("--ema/--params", help="Which weights, where IN holds both.")] = True,
    precision: Annotated[Precision, typer.Option(help="Number format of the stored weights.")] = Precision.fp32,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Rewrite weights of SwinIR, HAT, Swin2SR or ours, published or trained here, and say what network they are of."""
    from hriusr.archs.convert import convert_weights

    target = _target(source, target, to)
    result = convert_weights(
        source,
        target,
        prefer_ema=ema,
        settings=parse_settings(settings),
        dtype=precision.value,
        overwrite=overwrite,
    )
    found = result.found
    network_opt = found.network_opt
    how = "as the file says" if result.says_network else "found from its tensors"
    scale = network_opt.get("upscale", network_opt.get("scale"))
    scale = "" if scale is None else f" x{scale}"
    typer.echo(f"{source}: {network_opt['type']}{scale}, {result.num_parameters:,} parameters, {how}")
    typer.echo(f"  {found.describe(name for name in network_opt if name != 'type')}")
    if found.assumed:
        typer.echo(f"  not in the file, usual values taken: {found.describe(found.assumed)}")
    for name, reason in found.doubtful.items():
        typer.echo(f"  not in the file, in doubt: {found.describe([name])} ({reason}); change it by --set {name}=...")
    for note in result.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB, {precision.value})")


def _target(source: Path, target: Path | None, to: Format | None) -> Path:
    """Choose the output's name: as asked, and never an ending that contradicts --to."""
    if target is None:
        other = Format.pth if source.suffix == ".safetensors" else Format.safetensors
        return with_ending(source, f".{(to or other).value}")
    if to is not None and target.suffix != f".{to.value}":
        raise OptionsError(f"--to {to.value} and OUT {target} disagree: leave one out")
    return target
