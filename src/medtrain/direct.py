"""Direct I/O: files past this machine's cache, so that what is read back comes from the disk or the server.

No other file loses its place in memory, either. File systems that have no such access are used through the cache.
"""

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 1 << 22
"""What is moved at a time; memory, places and sizes must be multiples of a page."""

Part = bytes | memoryview
T = TypeVar("T")


def write(path: Path, parts: Sequence[Part]) -> None:
    """Write a whole file, part after part, and force it out of this machine's memory.

    Raises:
        OSError: the file system refuses.
    """

    def written(access: int) -> None:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | access) as file:
            for block, filled in _blocks(parts):
                unit = mmap.PAGESIZE if access else 1
                rest = block.data[: -(-filled // unit) * unit]
                while rest:
                    rest = rest[os.write(file, rest) :]
            if access:
                os.ftruncate(file, sum(len(part) for part in parts))
            os.fsync(file)

    _where_known(written)


def same(path: Path, parts: Sequence[Part]) -> bool:
    """Whether a file is what stands in `parts`, without the whole file in memory.

    Raises:
        OSError: the file system refuses.
    """

    def compared(access: int) -> bool:
        with _opened(path, os.O_RDONLY | access) as file:
            if os.fstat(file).st_size != sum(len(part) for part in parts):
                return False
            found = _page_aligned()
            for block, filled in _blocks(parts):
                read = 0
                while read < filled and (more := os.readv(file, [found.data[read:]])):
                    read += more
                if not np.array_equal(found[:read], block[:filled]):
                    return False
        return True

    return _where_known(compared)


def _where_known(use: Callable[[int], T]) -> T:
    """Use a file by direct access, else as usual: it may be refused when it is opened, or at its first block."""
    try:
        return use(getattr(os, "O_DIRECT", 0))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return use(0)


def _page_aligned() -> npt.NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(-1, BLOCK_BYTES), np.uint8)


def _blocks(parts: Sequence[Part]) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """The content in one block of memory, filled anew each time, and how far it is filled."""
    block, filled = _page_aligned(), 0
    for part in parts:
        rest = np.frombuffer(part, np.uint8)
        while len(rest):
            taken = min(len(rest), BLOCK_BYTES - filled)
            block[filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
            if filled == BLOCK_BYTES:
                yield block, filled
                filled = 0
    if filled:
        yield block, filled


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o666)
    try:
        yield file
    finally:
        os.close(file)
