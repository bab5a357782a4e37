"""The exact-match metrics against counting by hand."""

import random

import pytest

from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Statistics
from medtrain.evaluate.metrics import entity_f1, entity_f1_filter, label_f1, relation_f1, value_f1

Entities = list[tuple[str, str]]


def scores(statistics: Statistics) -> dict[str, float]:
    return {name: float(value) for name, value in statistics.scores(statistics.counts.sum(axis=0)).items()}


def case(gold: Entities, predicted: Entities, context: str = "") -> Case:
    def shape(rows: Entities) -> dict[str, list[dict[str, str]]]:
        return {"entities": [{"type": kind, "text": text} for kind, text in rows]}

    return Case("d", context, shape(gold), shape(predicted), True)


def naive_f1(pairs: list[tuple[Entities, Entities]], kind: str | None) -> float:
    """F1 by loops over strings, of one type or of all."""
    tp = fp = fn = 0
    for gold, predicted in pairs:
        wanted = {e for e in gold if kind in (None, e[0])}
        given = {e for e in predicted if kind in (None, e[0]) and e[1] not in ("None", "")}
        for entity in wanted | given:
            tp += entity in wanted and entity in given
            fp += entity not in wanted
            fn += entity not in given
    return 2 * tp / (2 * tp + fp + fn)


def test_entity_f1_equals_a_naive_count() -> None:
    chance = random.Random(3)
    pool = [(kind, text) for kind in ("A", "B", "C") for text in ("x", "y", "z", "None", "")]
    gold_pool = [entity for entity in pool if entity[1] not in ("None", "")]
    pairs = [(chance.choices(gold_pool, k=4), chance.choices(pool, k=5)) for _ in range(30)]
    found = scores(entity_f1.measure([case(gold, predicted) for gold, predicted in pairs]))
    each = [naive_f1(pairs, kind) for kind in ("A", "B", "C")]
    assert found["ner_micro_f1_set"] == pytest.approx(naive_f1(pairs, None))
    assert [found[f"ner_f1_set[{kind}]"] for kind in "ABC"] == pytest.approx(each)
    assert found["ner_macro_f1_set"] == pytest.approx(sum(each) / 3)


def test_repeats_count_once_and_case_matters() -> None:
    found = scores(entity_f1.measure([case([("D", "fever")], [("D", "fever"), ("D", "fever"), ("D", "Fever")])]))
    assert found["ner_micro_precision_set"] == 0.5
    assert found["ner_macro_recall_set"] == 1.0


def test_a_type_that_no_gold_has_costs_precision_and_has_no_score_of_its_own() -> None:
    found = scores(entity_f1.measure([case([("D", "fever")], [("D", "fever"), ("Invented", "fever")])]))
    assert found["ner_macro_f1_set"] == 1.0
    assert found["ner_micro_precision_set"] == 0.5
    assert not any("Invented" in name for name in found)


def test_the_filter_drops_what_is_not_in_the_text() -> None:
    cases = [case([("D", "fever")], [("D", "fever"), ("D", "cough")], context="a fever")]
    assert scores(entity_f1_filter.measure(cases))["ner_micro_f1_set_filter"] == 1.0
    assert scores(entity_f1.measure(cases))["ner_micro_f1_set"] == pytest.approx(2 / 3)


def test_relations_need_all_three_parts() -> None:
    gold = {"relations": [{"type": "CID", "head": "a", "tail": "b"}, {"type": "CID", "head": "a", "tail": "c"}]}
    given = {"relations": [{"type": "CID", "head": "a", "tail": "b"}, {"type": "CID", "head": "c", "tail": "a"}]}
    assert scores(relation_f1.measure([Case("d", "", gold, given, True)]))["re_micro_f1_set"] == 0.5


def test_labels_by_hand() -> None:
    cases = [
        Case("1", "", {"labels": ["a", "b"]}, {"labels": ["a"]}, True),
        Case("2", "", {"labels": ["b"]}, {"labels": ["b"]}, True),
        Case("3", "", {"labels": []}, {"labels": ["unknown"]}, True),
    ]
    found = scores(label_f1.measure(cases))
    assert found["tc_micro_f1_set"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["tc_example_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["tc_exact_match"] == pytest.approx(1 / 3)


def test_values_by_hand() -> None:
    cases = [
        Case("1", "", {"attribute": "symptoms", "values": ["a", "b"]}, {"values": ["b", "c", "b"]}, True),
        Case("2", "", {"attribute": "tests", "values": ["b"]}, {"values": ["b"]}, True),
    ]
    found = scores(value_f1.measure(cases))
    assert found["attribute_micro_f1_set"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["attribute_f1_set[symptoms]"] == 0.5
    assert found["attribute_macro_f1_set"] == 0.75
