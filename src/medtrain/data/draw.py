"""Seeded draws that depend on nothing but the seed and a name: not on order, files or the number of workers."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def key(seed: int, purpose: str, name: str) -> int:
    """64 bits; another purpose gives unrelated ones, so that a sample and a holdout of one seed are independent."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{seed}:{name}".encode(), digest_size=8).digest(), "big")


def share(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1)."""
    return key(seed, purpose, name) / 2**64


def smallest(seed: int, documents: Iterable[str], count: int) -> npt.NDArray[np.int64]:
    """Which `count` rows are drawn, as row numbers in order: the documents of the smallest keys, row by row.

    The result over parts, drawn again, is the result over the whole.
    """
    names = list(documents)
    keys = np.array([key(seed, "sample", name) for name in names], dtype=np.uint64)
    drawn: npt.NDArray[np.int64] = np.sort(np.argsort(keys, kind="stable")[:count])
    return drawn
