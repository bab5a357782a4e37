"""SQuAD's exact match and F1 against its definition written out here."""

import random
import re

import pytest

from medtrain.evaluate.cases import Case
from medtrain.evaluate.metrics import squad_f1

WORDS = ["heart", "failure", "The", "a", "an", "left-sided", "(acute)", "Heart,", "theatre", "A.", "x2", "é"]


def scores(rows: list[tuple[list[str], str]]) -> tuple[float, float]:
    cases = [Case(str(i), "", {"answers": gold}, {"answers": [given]}, True) for i, (gold, given) in enumerate(rows)]
    statistics = squad_f1.measure(cases)
    found = statistics.scores(statistics.counts.sum(axis=0))
    return float(found["squad_exact_match"]), float(found["squad_f1"])


def naive(gold: str, given: str) -> tuple[float, float]:
    """One answer, step by step: normalised texts compared, tokens struck off one by one."""

    def normalised(text: str) -> str:
        text = "".join(char for char in text.lower() if not re.match(r"[!-/:-@\[-`{-~]", char))
        return " ".join(word for word in re.split(r"\s+", text) if word not in ("a", "an", "the", ""))

    wanted, left = normalised(gold).split(), normalised(given).split()
    total, shared = len(left), 0
    for token in wanted:
        if token in left:
            left.remove(token)
            shared += 1
    if not shared:
        return 0.0, 0.0
    precision, recall = shared / total, shared / len(wanted)
    return 100.0 * (normalised(gold) == normalised(given)), 200 * precision * recall / (precision + recall)


def test_it_equals_the_definition() -> None:
    chance = random.Random(7)
    rows = [
        ([" ".join(chance.choices(WORDS, k=chance.randint(1, 4))) for _ in range(chance.randint(1, 3))],
         " ".join(chance.choices(WORDS, k=chance.randint(1, 4))))
        for _ in range(500)
    ]  # fmt: skip
    exact = sum(max(naive(answer, given)[0] for answer in gold) for gold, given in rows) / len(rows)
    f1 = sum(max(naive(answer, given)[1] for answer in gold) for gold, given in rows) / len(rows)
    assert 1 < exact < f1 < 99
    assert scores(rows) == (pytest.approx(exact), pytest.approx(f1))


@pytest.mark.parametrize(
    ("gold", "given", "exact", "f1"),
    [
        (["the heart failure"], "Heart failure.", 100, 100),
        (["heart failure", "failure"], "failure", 100, 100),
        (["acute heart failure"], "heart failure", 0, 80),
        (["急性心衰"], "心衰", 0, 200 / 3),
        (["心衰"], "心 衰", 100, 100),
        (["the"], "a", 0, 0),
        ([], "x", 0, 0),
        (["x"], "", 0, 0),
    ],
)
def test_by_hand(gold: list[str], given: str, exact: float, f1: float) -> None:
    assert scores([(gold, given)]) == (pytest.approx(exact), pytest.approx(f1))
