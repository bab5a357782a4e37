"""Which label of its set an answer names."""

import pytest

from medtrain.evaluate.cases import Answer
from medtrain.evaluate.tasks import choice

LABELS = ["yes", "no", "no effect", "Cause(E1,E2)"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("**Yes**", "yes"),
        ("Yes, for two reasons", "yes"),
        ("no effect", "no effect"),
        ("No effect: none was seen", "no effect"),
        ("Answer: no\nbecause", "no"),
        ("cause(e1,e2)", "Cause(E1,E2)"),
        ("no one knows", ""),
        ("nothing", ""),
        ("maybe", ""),
        ("", ""),
    ],
)
def test_the_label_that_an_answer_names(text: str, label: str) -> None:
    gold = {"label": "yes", "label_set": LABELS}
    answer = Answer("s:1", "d", "s", "choice", "en", "test", "why?", "a text", gold, "yes", text, 3, False)
    case = choice.case(answer)
    assert (case.reference, case.prediction, case.parsed) == ({"label": "yes"}, {"label": label}, bool(label))
