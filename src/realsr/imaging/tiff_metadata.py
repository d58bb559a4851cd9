"""What a TIFF file tells besides its pixels."""

from realsr.imaging.exif import DESCRIPTIVE, exif_from_tiff
from realsr.imaging.photo import Metadata
from realsr.imaging.tiff_layout import TiffLayout

ICC, XMP, IPTC = 34675, 700, 33723
_LAYOUT = frozenset(  # the tags of how the pixels are stored, and of the place among other pages
    [*range(254, 269), *range(273, 282), 284, *range(288, 294), 297, 317, 320, *range(321, 326)]
    + [330, *range(332, 342), 347, *range(512, 522), *range(529, 533)]
)
_NAMES = {
    301: "transfer function",
    318: "white point of its colours",
    319: "primaries of its colours",
    34377: "image resources of Photoshop",
    37724: "layers of Photoshop",
}


def read_tiff_metadata(data: bytes, layout: TiffLayout) -> tuple[Metadata, list[str]]:
    """Return the metadata of a TIFF file's picture, and what else the file holds, in words."""

    def value(tag: int) -> bytes | None:
        entry = layout.tags.get(tag)
        return bytes(data[entry.start : entry.start + entry.length]) if entry else None

    omissions, exif = list(layout.omissions), None
    try:
        exif = exif_from_tiff(data, layout.position)
    except ValueError:
        omissions.append("EXIF that cannot be read")
    rest = layout.tags.keys() - _LAYOUT - DESCRIPTIVE - {ICC, XMP, IPTC}
    omissions += [name for tag, name in _NAMES.items() if tag in rest]
    if numbers := sorted(rest - _NAMES.keys()):
        omissions.append(f"tag{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}")
    return Metadata(value(ICC), exif, value(XMP), value(IPTC)), omissions
