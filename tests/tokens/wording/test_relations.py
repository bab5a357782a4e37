"""Relations: the shape of the answer, and that reading gives back what was written."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from medtrain.tokens.wording import relations

NAME = st.lists(
    st.sampled_from(list('ab1 ;；,，:：."[]-药病') + ["; ", ", ", "]; [", ": [", "none"]), min_size=1, max_size=8
).map("".join)
NAME = NAME.map(lambda name: " ".join(name.split())).filter(bool)


def gold(*triples: tuple[str, str, str]) -> dict[str, Any]:
    return {"relations": [dict(zip(("type", "head", "tail"), t, strict=True)) for t in triples], "types": ["A"]}


def triples(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(r["type"], r["head"], r["tail"]) for r in found["relations"]}


def test_one_line_a_relation_and_each_pair_once() -> None:
    written = gold(("treats", "a", "b"), ("causes", "c", "d"), ("treats", "e", "f"), ("treats", "a", "b"))
    assert relations.render(written, "en") == "treats: [a, b]; [e, f]\ncauses: [c, d]"
    assert relations.render(written, "zh") == "treats：[a, b]; [e, f]\ncauses：[c, d]"


def test_nothing_found_is_said_and_read() -> None:
    for language in ("en", "zh"):
        assert relations.parse(relations.render(gold(), language), language) == {"relations": []}


def test_answers_of_taiyi_and_of_models_are_read() -> None:
    text = "relation between compound and protein entity: [a, b]; [1,2-x, [3H]y]; [broken\n药物治疗：[头, 尾];"
    kind = "relation between compound and protein entity"
    assert triples(relations.parse(text, "en")) >= {
        (kind, "a", "b"),
        (kind, "1,2-x", "[3H]y"),
        ("药物治疗", "头", "尾"),
    }
    assert triples(relations.parse("CPR:4: [a, b]", "en")) == {("CPR:4", "a", "b")}


def test_a_cut_context_keeps_relations_with_both_ends() -> None:
    assert triples(relations.restrict(gold(("A", "x", "y"), ("A", "x", "z")), "x then y")) == {("A", "x", "y")}


@given(st.lists(st.tuples(NAME, NAME, NAME), max_size=5), st.sampled_from(["en", "zh"]))
def test_what_is_written_is_read(written: list[tuple[str, str, str]], language: str) -> None:
    assert triples(relations.parse(relations.render(gold(*written), language), language)) == set(written)
