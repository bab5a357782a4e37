"""The character metrics against a BLEU and a ROUGE-2 written here, and on the texts their packages choke on."""

import math
from collections import Counter

import pytest

from medtrain.evaluate.cases import Case
from medtrain.evaluate.metrics import bleu_char, gleu_char, rouge_char

PAIRS = [
    ("多喝水，注意休息。", "建议多喝水，多休息。"),
    ("take aspirin daily", "take one aspirin"),
    ("发热", "咳嗽三天"),
]


def values(metric: object, pairs: list[tuple[str, str]]) -> dict[str, float]:
    statistics = metric.measure([Case(str(i), "", r, p, True) for i, (r, p) in enumerate(pairs)])  # type: ignore[attr-defined]
    return {name: float(value) for name, value in statistics.scores(statistics.counts.sum(axis=0)).items()}


def grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def bleu(reference: str, prediction: str, weights: list[float]) -> float:
    """Sentence BLEU, Papineni et al. 2002, zero matches smoothed to 0.1 (method 1 of Chen and Cherry 2014)."""
    total = 0.0
    for n, weight in enumerate(weights, start=1):
        given = grams(prediction, n)
        matches = sum((given & grams(reference, n)).values())
        if n == 1 and matches == 0:
            return 0.0
        total += weight * math.log((matches or 0.1) / max(1, sum(given.values())))
    brevity = 1.0 if len(prediction) > len(reference) else math.exp(1 - len(reference) / len(prediction))
    return 100 * brevity * math.exp(total)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bleu_equals_its_definition(n: int) -> None:
    weight = 0.33 if n == 3 else 1 / n
    expected = sum(bleu(r, p, [weight] * n) for r, p in PAIRS) / len(PAIRS)
    assert values(bleu_char, PAIRS)[f"bleu{n}_char_nltk_m1"] == pytest.approx(expected)


def test_rouge_2_equals_its_definition_on_sets() -> None:
    total = 0.0
    for reference, prediction in PAIRS:
        wanted, given = set(grams(reference.replace(" ", ""), 2)), set(grams(prediction.replace(" ", ""), 2))
        total += 100 * 2 * len(wanted & given) / (len(wanted) + len(given))
    assert values(rouge_char, PAIRS)["rouge2_char_rougepkg"] == pytest.approx(total / len(PAIRS), abs=1e-3)


@pytest.mark.parametrize("metric", [bleu_char, gleu_char, rouge_char])
def test_the_same_text_scores_full_and_an_empty_answer_nothing(metric: object) -> None:
    text = "多喝水，注意休息。"
    assert all(value == pytest.approx(100) for value in values(metric, [(text, text)]).values())
    for nothing in ("", "…" if metric is not rouge_char else " . . "):
        assert all(value < 30 for value in values(metric, [(text, nothing)]).values())


def test_rouge_takes_texts_longer_than_the_recursion_limit() -> None:
    assert values(rouge_char, [("甲乙" * 300, "乙甲" * 300)])["rougeL_char_rougepkg"] > 90
