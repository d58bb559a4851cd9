"""Image files, resampling and blur kernels, independent of networks and training."""

from realsr.core.errors import ImageError
from realsr.imaging.formats import (
    IMAGE_SUFFIXES,
    Layout,
    check_format,
    find_images,
    holds_alpha,
    list_images,
)
from realsr.imaging.image_files import (
    count_pixels,
    encode_uint8,
    log_damage,
    open_photo_writer,
    read_photo,
    read_uint8,
    read_uint8_and_damage,
    write_photo,
    write_uint8,
)
from realsr.imaging.photo import Metadata, Photo
from realsr.imaging.resampling import (
    apply_kernel,
    apply_kernel_uint8,
    crop_to_multiple,
    resize,
    shrink_uint8,
)
from realsr.imaging.row_encoders import encode_zlib_png
from realsr.imaging.samples import fill_transparent, is_opaque, to_float, to_uint8

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageError",
    "Layout",
    "Metadata",
    "Photo",
    "apply_kernel",
    "apply_kernel_uint8",
    "check_format",
    "count_pixels",
    "crop_to_multiple",
    "encode_uint8",
    "encode_zlib_png",
    "fill_transparent",
    "find_images",
    "holds_alpha",
    "is_opaque",
    "list_images",
    "log_damage",
    "open_photo_writer",
    "read_photo",
    "read_uint8",
    "read_uint8_and_damage",
    "resize",
    "shrink_uint8",
    "to_float",
    "to_uint8",
    "write_photo",
    "write_uint8",
]
