"""Deflate (RFC 1951) in blocks of rows, compressed by ISA-L in several threads.

Where ISA-L is not installed, since no wheels exist for the platform, zlib replaces it.
"""

import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

adler32 = zlib.adler32 if isal_zlib is None else isal_zlib.adler32
crc32 = zlib.crc32 if isal_zlib is None else isal_zlib.crc32

Block = TypeVar("Block")

ZLIB_HEADER = b"\x78\x01"  # deflate with a window of 32 KiB, fast (RFC 1950)
_LEVEL = 1  # levels 0 to 2 of ISA-L give the same bytes on all x86-64 with SSE4.2, 3 does not
_RAW = -15  # a window of 32 KiB without header and checksum
_ADLER_MODULUS = 65521
_RUN_LENGTHS = zlib.DEF_MEM_LEVEL, zlib.Z_RLE  # zlib's fast form for filtered images


def deflate_part(data: Any, is_last: bool) -> bytes:
    """Return a part of a deflate stream, which ends at a byte boundary and refers to no other part."""
    if isal_zlib is None:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, *_RUN_LENGTHS)
    else:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    part = compressor.compress(data)
    return bytes(part + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH))


def zlib_stream(data: Any) -> bytes:
    """Return data as a complete zlib stream (RFC 1950)."""
    return ZLIB_HEADER + deflate_part(data, True) + adler32(data).to_bytes(4, "big")


def append_adler(first: int, second: int, size: int) -> int:
    """Return the Adler-32 checksum of two concatenated parts from those of the parts.

    first, second: checksums; size: bytes of the second part. RFC 1950, section 8.2: a checksum is
    b * 65536 + a, with a = 1 + the sum of the bytes and b = the sum of all values of a, mod 65521.
    """
    a_first, a_second = first & 0xFFFF, second & 0xFFFF
    a = (a_first + a_second - 1) % _ADLER_MODULUS
    b = ((first >> 16) + (second >> 16) + size * (a_first - 1)) % _ADLER_MODULUS
    return b << 16 | a


class OrderedThreads(Generic[Block]):
    """Computes blocks in threads and passes the results on in the order of the blocks.

    The number of threads is torch's; with one, blocks are computed in the calling thread. `consume`
    is called in the calling thread. At most two blocks per thread are in memory, so that a thread
    need not wait while an earlier block is compressed.
    """

    def __init__(self, consume: Callable[[Block], None]):
        self._consume, self._threads = consume, torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._pending = deque[Future[Block]]()

    def submit(self, compute: Callable[..., Block], *arguments: Any) -> None:
        """Start compute(*arguments); consume earlier results. Raises their errors."""
        if self._threads == 1:
            self._consume(compute(*arguments))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "deflate")
        self._pending.append(self._pool.submit(compute, *arguments))
        while len(self._pending) > 2 * self._threads:
            self._consume(self._pending.popleft().result())

    def finish(self) -> None:
        """Consume the remaining results and end the threads."""
        while self._pending:
            self._consume(self._pending.popleft().result())
        if self._pool is not None:
            self._pool.shutdown()
