"""One label: the bare label, and answers as models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import choice

NAME = st.text(st.sampled_from(list('abc1 ;；,:."(){}药病')), min_size=1, max_size=12)
NAME = NAME.map(lambda name: " ".join(name.split())).filter(bool)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "yes"),
        ("\n yes\nfor the trial was small", "yes"),
        ("Answer: yes", "yes"),
        ("The correct answer is\nno", "no"),
        ("答案：是", "是"),
        ("正确答案是 蕴含", "蕴含"),
        ("answering is hard", "answering is hard"),
        ("Answer:", ""),
        ("", ""),
    ],
)
def test_answers_of_models_are_read(text: str, label: str) -> None:
    assert choice.parse(text, "en") == {"label": label}


@given(NAME, st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(label: str, language: str) -> None:
    assert choice.parse(choice.render({"label": label, "label_set": [label]}, language), language) == {"label": label}
