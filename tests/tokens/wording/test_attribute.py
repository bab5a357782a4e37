"""Attributes: a list in one line, and that reading gives back what was written."""

from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import attribute

NAME = st.lists(st.sampled_from(list('ab1 ;；,:."药病') + ["; ", "none"]), min_size=1, max_size=8).map("".join)
NAME = NAME.map(lambda name: " ".join(name.split())).filter(bool)


def gold(*values: str) -> dict[str, object]:
    return {"attribute": "symptoms", "values": list(values)}


def test_values_stand_in_one_line_each_once() -> None:
    assert attribute.render(gold("fever", "cough;  wet", "fever"), "en") == 'fever; "cough; wet"'


def test_no_value_is_said_and_read() -> None:
    for language in ("en", "zh"):
        assert attribute.parse(attribute.render(gold(), language), language) == {"values": []}


def test_a_value_a_line_is_read_too() -> None:
    assert attribute.parse("fever\ncough; fever\n", "en") == {"values": ["fever", "cough"]}


@given(st.lists(NAME, max_size=6), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(values: list[str], language: str) -> None:
    read = attribute.parse(attribute.render(gold(*values), language), language)
    assert read == {"values": list(dict.fromkeys(values))}
