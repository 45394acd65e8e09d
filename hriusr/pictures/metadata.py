"""What a picture file says beside its pixels, as plain values: colour profile, EXIF, XMP, resolution, delays."""

from dataclasses import dataclass, field, replace

from hriusr.pictures.vips import load_vips

_KEPT = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data", "photoshop-data", "image-description")
_KEPT_OF_FRAMES = ("delay", "loop")
_KEPT_PREFIXES = ("exif-ifd", "png-comment-")
_DESCRIBES_PIXELS = ('{"shape"', "ImageJ=", "<?xml")  # by tifffile, ImageJ, OME: true of the old pixels only
_STALE = ("Orientation", "PixelXDimension", "PixelYDimension")  # pixels are upright and more than there were


@dataclass(frozen=True)
class PictureMetadata:
    """What goes from the source to the result.

    Attributes:
        fields: by libvips' names: bytes for ICC profile, EXIF, XMP and IPTC, text, delays of frames (milliseconds)
            and how often they are repeated (0: for ever).
        pixels_per_mm: horizontal and vertical resolution of a print.
        resolution_unit: "in" or "cm" where the file says which; None: it does not.
    """

    fields: dict[str, bytes | str | int | float | list[int]] = field(default_factory=dict)
    pixels_per_mm: tuple[float, float] = (1.0, 1.0)
    resolution_unit: str | None = None


def metadata_of(image) -> PictureMetadata:
    """Take the metadata of a pyvips.Image."""
    kept = {}
    for name in image.get_fields():
        is_stale = name.startswith("exif-ifd") and name.rsplit("-", 1)[-1] in _STALE
        if name in _KEPT or name in _KEPT_OF_FRAMES or name.startswith(_KEPT_PREFIXES):
            value = image.get(name)
            is_stale |= name == "image-description" and str(value).startswith(_DESCRIBES_PIXELS)
            if not is_stale and isinstance(value, bytes | str | int | float | list):
                kept[name] = value
    unit = image.get("resolution-unit") if "resolution-unit" in image.get_fields() else None
    return PictureMetadata(kept, (image.xres, image.yres), unit)


def turned(metadata: PictureMetadata) -> PictureMetadata:
    """Return the metadata of a picture that was turned by a quarter: resolution across becomes that along."""
    other = {"XResolution": "YResolution", "YResolution": "XResolution"}
    fields = {}
    for name, value in metadata.fields.items():
        start, dash, tag = name.rpartition("-")
        fields[start + dash + other.get(tag, tag)] = value
    return replace(metadata, fields=fields, pixels_per_mm=metadata.pixels_per_mm[::-1])


def with_metadata(image, metadata: PictureMetadata, *, num_frames: int = 1):
    """Return a pyvips.Image that carries the metadata; delays only where it has frames, one above the other."""
    types = load_vips().GValue
    image = image.copy()
    for name, value in metadata.fields.items():
        if name in _KEPT_OF_FRAMES and num_frames == 1:
            continue
        kind = {bytes: types.blob_type, str: types.gstr_type, int: types.gint_type, float: types.gdouble_type}
        image.set_type(kind.get(type(value), types.array_int_type), name, value)
    if "exif-data" in metadata.fields:
        image.set_type(types.gint_type, "orientation", 1)  # else that of the source would be written again
    if metadata.resolution_unit is not None:
        image.set_type(types.gstr_type, "resolution-unit", metadata.resolution_unit)
    if num_frames > 1:
        image.set_type(types.gint_type, "page-height", image.height // num_frames)
    return image.copy(xres=metadata.pixels_per_mm[0], yres=metadata.pixels_per_mm[1])  # last: EXIF has set its own
