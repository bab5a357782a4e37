"""Whether a winner is better than the default: the difference of their losses on the same rows, with its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from medtrain.evaluate.intervals import Array, Bootstrap, Scores, Statistics, differences, ratio

FEWEST_DOCUMENTS = 10
"""Below this the ends of a bootstrap interval mean little, and nothing is claimed."""
LOSS = "loss"


@dataclass(frozen=True)
class Measured:
    """One row under both: losses summed over its trained tokens, in nats."""

    task: str
    document: str
    tokens: int
    default: float
    winner: float


@dataclass(frozen=True)
class Verdict:
    """Mean over tasks of the loss per trained token, in nats; `difference` is winner - default, below 0 is better."""

    default: float
    winner: float
    difference: float
    low: float
    high: float
    """Ends of the 95 % interval of the difference: a paired bootstrap over documents."""
    rows: int
    documents: int
    tasks: int
    found: Literal["better", "worse", "open"]
    """What the interval allows to say."""

    @property
    def line(self) -> str:
        """The verdict in words."""
        words = {"better": "is better than", "worse": "is WORSE than", "open": "is not shown to differ from"}
        return (
            f"the winner {words[self.found]} the default: {self.winner:.4f} against {self.default:.4f} nats per token, "
            f"difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] (95 %, paired bootstrap of "
            f"{self.documents} documents, {self.rows} rows of {self.tasks} tasks; no trial has seen them)"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "line": self.line}


def of(measured: Sequence[Measured], bootstrap: Bootstrap | None = None) -> Verdict:
    """The verdict of some rows; documents are drawn again whole, with their rows in all tasks.

    Args:
        measured: one or more rows of each task.
        bootstrap: how often and from which seed.
    """
    tasks = list(dict.fromkeys(row.task for row in measured))
    counts = {
        name: _counts(tasks, measured, [getattr(row, name) for row in measured]) for name in ("default", "winner")
    }
    default, winner = (Statistics(counts[name], _scores) for name in ("default", "winner"))
    names = [row.document for row in measured]
    apart = differences(default, winner, names, bootstrap or Bootstrap())[LOSS]
    known = len(set(names))
    found: Literal["better", "worse", "open"] = "better" if apart.high < 0 else "worse" if apart.low > 0 else "open"
    return Verdict(
        default=_mean(default),
        winner=_mean(winner),
        difference=apart.value,
        low=apart.low,
        high=apart.high,
        rows=len(measured),
        documents=known,
        tasks=len(tasks),
        found=found if known >= FEWEST_DOCUMENTS else "open",
    )


def _counts(tasks: Sequence[str], measured: Sequence[Measured], losses: Sequence[float]) -> Array:
    """(rows, 2 tasks): the loss and the tokens of a row, in the two columns of its task."""
    found = np.zeros((len(measured), 2 * len(tasks)))
    for number, (row, loss) in enumerate(zip(measured, losses, strict=True)):
        place = 2 * tasks.index(row.task)
        found[number, place : place + 2] = loss, row.tokens
    return found


def _mean(known: Statistics) -> float:
    return float(_scores(known.counts.sum(axis=0))[LOSS])


def _scores(totals: Array) -> Scores:
    """The mean over tasks of the loss per token, NaN where a task has no row."""
    return {LOSS: ratio(totals[..., 0::2], totals[..., 1::2]).mean(axis=-1)}
