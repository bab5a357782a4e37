"""The winner against the default: the interval of a naive bootstrap, and what it allows to say."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from medtrain.evaluate.intervals import Bootstrap
from medtrain.search import verdict
from medtrain.search.verdict import Measured


def rows(apart: Callable[[random.Random], float], documents: int = 30, seed: int = 0) -> list[Measured]:
    """Two tasks over the same documents, the second with two rows of each; `apart` is winner - default per token."""
    draw, found = random.Random(seed), []
    for number in range(documents):
        for task, tokens in (("a", 3), ("b", 5), ("b", 9)):
            loss = draw.uniform(1, 9) * tokens
            found.append(Measured(task, f"d{number}", tokens, loss, loss + apart(draw) * tokens))
    return found


def test_it_is_the_bootstrap_of_whole_documents() -> None:
    measured, given = rows(lambda draw: draw.gauss(-0.1, 0.3), 12), Bootstrap(resamples=150, seed=5)
    found = verdict.of(measured, given)

    def loss(chosen: list[Measured], name: str) -> float:
        each = []
        for task in ("a", "b"):
            mine = [row for row in chosen if row.task == task]
            each.append(sum(getattr(row, name) for row in mine) / sum(row.tokens for row in mine))
        return sum(each) / 2

    assert found.winner == pytest.approx(loss(measured, "winner"), rel=1e-12)
    assert found.difference == pytest.approx(loss(measured, "winner") - loss(measured, "default"), rel=1e-9)
    draws, generator = [], np.random.default_rng(5)
    for counts in [*generator.multinomial(12, np.full(12, 1 / 12), 100), *generator.multinomial(12, [1 / 12] * 12, 50)]:
        chosen = [row for row in measured for _ in range(counts[int(row.document[1:])])]
        draws.append(loss(chosen, "winner") - loss(chosen, "default"))
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))
    assert (found.rows, found.documents, found.tasks) == (36, 12, 2)


@pytest.mark.parametrize(
    ("shift", "documents", "found", "words"),
    [
        (-0.2, 30, "better", "is better than"),
        (0.2, 30, "worse", "is WORSE than"),
        (0.0, 30, "open", "is not shown to differ"),
        (-0.2, 9, "open", "is not shown to differ"),
    ],
)
def test_what_may_be_said(shift: float, documents: int, found: str, words: str) -> None:
    said = verdict.of(rows(lambda draw: draw.gauss(shift, 0.2), documents))
    assert said.found == found and words in said.line and f"{said.difference:+.4f}" in said.line
    assert said.facts["found"] == found and said.facts["line"] == said.line


def test_it_is_paired() -> None:
    """Losses differ by far more from row to row than the two settings do."""
    said = verdict.of(rows(lambda draw: -0.01))
    assert said.low == pytest.approx(-0.01) and said.high == pytest.approx(-0.01) and said.found == "better"
