"""What one node keeps of a run, as bytes; knows neither Ray nor PyTorch, so that its process stays small."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

H = TypeVar("H")
"""A holder, or the handle of one."""

KEPT = 2
"""States that a holder keeps: a second one, because the newest may be refused when it is read back. Beside them the
newest of a best step, whose weights storage may not have yet."""

Bytes = npt.NDArray[np.uint8]
"""(n,) A file, in a type that Ray moves without a copy in which no other thread runs."""

Files = tuple[dict[str, Bytes], dict[str, str]]
"""A checkpoint's files and their checksums, by name."""


@dataclass(frozen=True, order=True)
class Offer:
    """A state that a holder has; compared by step, then attempt."""

    step: int
    attempt: int
    best_step: int
    """The step whose weights a resumed run may be asked for at its end; they lie in a durable checkpoint."""

    @property
    def is_best(self) -> bool:
        """Whether it has the best step's weights itself."""
        return self.step == self.best_step


class Holder:
    """The last states of one run on one node, and the best; a state of an attempt that was given up is refused."""

    def __init__(self) -> None:
        self._kept: dict[Offer, Files] = {}
        self._attempt = 0

    def put(self, offer: Offer, files: Files) -> bool:
        """Keep a state and forget all but the newest two and the best; whether it was kept."""
        if offer.attempt < self._attempt:
            return False
        self._attempt = offer.attempt
        contents, sums = files
        # Copied, since what comes lies in the object store and dies with the worker that put it there.
        self._kept[offer] = {name: content.copy() for name, content in contents.items()}, sums
        by_age = sorted(self._kept, key=lambda kept: (kept.attempt, kept.step))
        best = [kept for kept in by_age if kept.is_best][-1:]
        for old in by_age[:-KEPT]:
            if old not in best:
                del self._kept[old]
        return True

    def offers(self) -> list[Offer]:
        """What is here."""
        return sorted(self._kept)

    def get(self, offer: Offer) -> Files | None:
        """A state, None if it was forgotten."""
        return self._kept.get(offer)


def usable(copies: Iterable[tuple[Offer, H]], last: int, durable: Callable[[int], bool]) -> Iterator[tuple[Offer, H]]:
    """The copies of states beyond the last durable checkpoint, newest first, one for each holder of a state.

    The best step's weights must be durable, where they will be asked for: a kill may have come before they were. That
    is asked when it is a copy's turn, for the answer may cost the reading of a checkpoint.
    """
    for offer, holder in sorted(copies, key=lambda copy: copy[0], reverse=True):
        if offer.step > last and durable(offer.best_step):
            yield offer, holder
