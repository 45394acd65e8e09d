"""`hriusr upscale`: pictures and folders of pictures through a network."""

from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli.arguments import Precision, Settings, parse_settings
from hriusr.entry import guarded
from hriusr.errors import HriusrError


@guarded
def upscale(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE_OR_FOLDER", show_default=False, help="What to enlarge.")],
    weights: Annotated[
        Path,
        typer.Option(
            "--weights",
            "-w",
            help="Network file: .pth or .safetensors, ours, or SwinIR's, HAT's, Swin2SR's, Real-ESRGAN's x4.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; default: <name>_x<scale> beside the input.")
    ] = None,
    tile_size: Annotated[
        int | None, typer.Option(min=0, help="Side of a tile, low-resolution pixels; 0: none; default: by free memory.")
    ] = None,
    tile_overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels read around a tile; default: two windows of the network.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Tiles at once; default: by free memory.")] = None,
    precision: Annotated[Precision, typer.Option(help="bf16 and fp16 are faster on GPUs.")] = Precision.fp32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: the GPU if there is one.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Put behind each result's name.")] = None,
    extension: Annotated[
        str | None, typer.Option(help="png, jpg, tif ...; default: the input's if lossless, else png.")
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also the folders below.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    jpeg_quality: Annotated[int, typer.Option(min=0, max=100, help="Of results in JPEG.")] = 95,
    settings: Settings = None,
) -> None:
    """Enlarge a picture or all pictures of a folder; grey, transparency and 16 bits are kept."""
    from rich.console import Console

    from hriusr.upscaling.upscale import upscale_path

    report = upscale_path(
        picture,
        output,
        weights=weights,
        network_settings=parse_settings(settings),
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        batch_size=batch_size,
        precision=precision.value,
        device=device,
        suffix=suffix,
        extension=extension,
        recursive=recursive,
        overwrite=overwrite,
        jpeg_quality=jpeg_quality,
        console=Console(stderr=True),
    )
    if report.failures:
        raise HriusrError(f"{len(report.failures)} of {len(report.outcomes)} picture(s) failed, see above")
