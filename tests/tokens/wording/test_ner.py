"""Entities: the shape of the answer, and that reading gives back what was written."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import ner

NAME = st.lists(st.sampled_from(list('ab1 ;；,，:：."[]-药病') + ["; ", ": ", "none"]), min_size=1, max_size=8).map(
    "".join
)
NAME = NAME.map(lambda name: " ".join(name.split())).filter(bool)


def gold(*entities: tuple[str, str, int | None]) -> dict[str, Any]:
    ends = [(kind, text, start, None if start is None else start + len(text)) for kind, text, start in entities]
    return {
        "entities": [dict(zip(("type", "text", "start", "end"), e, strict=True)) for e in ends],
        "types": ["A", "B"],
    }


def pairs(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(e["type"], e["text"]) for e in found["entities"]}


def test_types_and_names_stand_in_the_order_of_the_text_each_once() -> None:
    entities = gold(("Disease", "ulcer", 30), ("Drug", "aspirin", 9), ("Drug", "zinc", 2), ("Drug", "aspirin", 50))
    assert ner.render(entities, "en") == "Drug: zinc; aspirin\nDisease: ulcer"
    assert ner.render(entities, "zh") == "Drug：zinc; aspirin\nDisease：ulcer"


def test_without_offsets_the_order_is_that_of_the_gold() -> None:
    assert ner.render(gold(("B", "z", None), ("A", "y", None)), "en") == "B: z\nA: y"


def test_nothing_found_is_said_and_read() -> None:
    for language in ("en", "zh"):
        assert ner.parse(ner.render(gold(), language), language) == {"entities": []}


def test_answers_of_taiyi_and_of_models_are_read() -> None:
    assert pairs(ner.parse("部位：足\n疾病：感染; 坏疽病变\n", "zh")) == {
        ("部位", "足"),
        ("疾病", "感染"),
        ("疾病", "坏疽病变"),
    }
    assert pairs(ner.parse("Chemical: a; a;a; ;\nDisease: None\nnonsense", "en")) == {
        ("Chemical", "a"),
        ("Chemical", "a;a"),
    }
    assert pairs(ner.parse("疾病：无\n药物：甲；乙", "zh")) == {("药物", "甲"), ("药物", "乙")}


def test_a_cut_context_keeps_whole_entities() -> None:
    entities = gold(("A", "aspirin", 0), ("A", "zinc", 12), ("B", "aspirin", None), ("B", "iron", None))
    assert pairs(ner.restrict(entities, "aspirin and zi")) == {("A", "aspirin"), ("B", "aspirin")}


@given(st.lists(st.tuples(NAME, NAME), max_size=6), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(entities: list[tuple[str, str]], language: str) -> None:
    written = gold(*((kind, text, None) for kind, text in entities))
    assert pairs(ner.parse(ner.render(written, language), language)) == set(entities)
