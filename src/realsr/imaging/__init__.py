"""Images: reading and writing files, resizing, applying kernels. Pure; knows nothing of learning."""

from realsr.imaging.files import (
    IMAGE_SUFFIXES,
    ImageError,
    Picture,
    encode_picture,
    encode_uint8,
    list_images,
    read_picture,
    read_uint8,
    to_float,
    to_uint8,
    write_bytes,
    write_picture,
    write_uint8,
)
from realsr.imaging.filtering import apply_kernel, apply_kernel_uint8
from realsr.imaging.resize import crop_to_multiple, resize
from realsr.imaging.shrink import shrink_uint8

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageError",
    "Picture",
    "apply_kernel",
    "apply_kernel_uint8",
    "crop_to_multiple",
    "encode_picture",
    "encode_uint8",
    "list_images",
    "read_picture",
    "read_uint8",
    "resize",
    "shrink_uint8",
    "to_float",
    "to_uint8",
    "write_bytes",
    "write_picture",
    "write_uint8",
]
