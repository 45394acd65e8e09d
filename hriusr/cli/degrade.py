"""`hriusr degrade`: see what a training for real pictures is fed."""

from pathlib import Path
from typing import Annotated

import typer

from hriusr.entry import guarded


@guarded
def degrade(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", show_default=False, help="A sharp picture.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other examples.")] = 0,
    scale: Annotated[int, typer.Option("--scale", "-s", min=1, help="How much smaller; --opt's goes before.")] = 4,
    opt: Annotated[
        Path | None,
        typer.Option("-opt", "--opt", help="Option file whose degradations are shown; default: Real-ESRGAN's."),
    ] = None,
) -> None:
    """Spoil a picture by blur, noise and JPEG as a training for real pictures does, and write examples."""
    from hriusr.engine.degradation_preview import preview_degradations

    for path in preview_degradations(picture, output, count=count, seed=seed, scale=scale, option_file=opt):
        typer.echo(str(path))
