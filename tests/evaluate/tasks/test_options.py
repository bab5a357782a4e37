"""Which options an answer stands for."""

import pytest

from medtrain.evaluate.cases import Answer
from medtrain.evaluate.tasks import options

GIVEN = {"A": "C. difficile", "B": "ACE", "C": "Rest\nand water", "D": "ACE"}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("C. Rest and water", "C"),
        ("C", "C"),
        ("rest and water.", "C"),
        ("C. difficile", "A"),
        ("A. C. difficile", "A"),
        ("DA", "AD"),
        ("ACE", ""),
        ("E. coli", ""),
        ("I do not know", ""),
        ("", ""),
    ],
)
def test_a_key_or_the_bare_text_of_one_option(text: str, keys: str) -> None:
    gold = {"options": GIVEN, "answer": "C"}
    answer = Answer("s:1", "d", "s", "options", "en", "test", "why?", "", gold, "C. Rest", text, 3, False)
    case = options.case(answer)
    assert (case.reference, case.prediction, case.parsed) == ({"label": "C"}, {"label": keys}, bool(keys))


def test_a_text_that_is_a_key_is_that_key() -> None:
    assert options.keys("b", "en", {"A": "B", "B": "A"}) == ""
    assert options.keys("B", "en", {"A": "B", "B": "A"}) == "B"
    assert options.keys("0", "en", {"A": "0", "B": "1"}) == "A"
