"""Labels: the shape of the answer, and that reading gives back what was written."""

from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import labels

NAME = st.lists(st.sampled_from(list('ab1 ;；,:."药病') + ["; ", "none"]), min_size=1, max_size=8).map("".join)
NAME = NAME.map(lambda name: " ".join(name.split())).filter(bool)


def test_labels_stand_in_one_line_each_once() -> None:
    assert labels.render({"labels": ["b", "a", "b"], "label_set": ["a", "b"]}, "en") == "b; a"


def test_none_of_them_is_said_and_read() -> None:
    for language in ("en", "zh"):
        assert labels.parse(labels.render({"labels": [], "label_set": ["a"]}, language), language) == {"labels": []}


@given(st.lists(NAME, max_size=6), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(written: list[str], language: str) -> None:
    text = labels.render({"labels": written, "label_set": []}, language)
    assert labels.parse(text, language) == {"labels": list(dict.fromkeys(written))}
