"""Deflate (RFC 1951) in blocks of rows, compressed by ISA-L in several threads."""

import platform
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch
from isal import isal_zlib

Block = TypeVar("Block")

_LEVEL = 1  # levels 0 to 2 give the same bytes on every x86-64 with SSE4.2; level 3 does not
_RAW = -15  # a window of 32 KiB without header and checksum
_ADLER_MODULUS = 65521
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def compressor_name() -> str:
    """Return what the compressed bytes depend on besides the version: library and processor.

    ISA-L has another hash function on x86-64 than on ARM.
    """
    machine = platform.machine().lower()
    return f"isal {_ARCHITECTURES.get(machine, machine)}"


def deflate_part(data: Any, is_last: bool) -> bytes:
    """Return a part of a deflate stream, which ends at a byte boundary and refers to no other part."""
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    part = compressor.compress(data)
    return part + compressor.flush(isal_zlib.Z_FINISH if is_last else isal_zlib.Z_SYNC_FLUSH)


def zlib_stream(data: Any) -> bytes:
    """Return data as a complete zlib stream (RFC 1950)."""
    return bytes(isal_zlib.compress(data, _LEVEL))


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
    is called in the calling thread. At most one block more than threads is in memory.
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
        while len(self._pending) > self._threads:
            self._consume(self._pending.popleft().result())

    def finish(self) -> None:
        """Consume the remaining results and end the threads."""
        while self._pending:
            self._consume(self._pending.popleft().result())
        if self._pool is not None:
            self._pool.shutdown()
