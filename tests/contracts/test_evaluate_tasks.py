"""What every task plug-in promises, of the package and of `$MEDTRAIN_PLUGINS`."""

from typing import Any

import pytest

from medtrain import plugins
from medtrain.evaluate.cases import Answer

GOLD: dict[str, Any] = {
    "entities": [{"type": "Disease", "text": "fever", "start": 2, "end": 7}],
    "relations": [{"type": "treats", "head": "aspirin", "tail": "fever"}],
    "labels": ["a"],
    "label_set": ["a", "b"],
    "label": "a",
    "options": {"A": "rest", "B": "Drink water."},
    "answer": "B",
    "attribute": "symptoms",
    "values": ["fever"],
    "summary": "Drink water.",
    "answers": ["water", "fluids"],
    "types": ["Disease"],
}
"""Gold that serves every structured task."""


def answer(text: str, *, gold: dict[str, Any] | None, reference: str) -> Answer:
    return Answer("s:1", "s:1", "s", "task", "en", "test", "what?", "a fever", gold, reference, text, 3, False)


@pytest.mark.parametrize("name", plugins.files("evaluate", "tasks"))
def test_task_keeps_its_contract(name: str) -> None:
    task = plugins.load("evaluate", "tasks", name)
    assert task.__doc__
    wording = plugins.files("tokens", "wording")
    reference = plugins.load("tokens", "wording", name).render(GOLD, "en") if name in wording else "Drink water."
    gold = GOLD if name in wording else None
    right = task.case(answer(reference, gold=gold, reference=reference))
    wrong = task.case(answer("", gold=gold, reference=reference))
    assert right.parsed and not wrong.parsed
    for metric in task.METRICS:
        plugin = plugins.load("evaluate", "metrics", metric)
        statistics = plugin.measure([right, wrong])
        best = statistics.scores(statistics.counts[0])
        assert all(float(best[key]) in (1.0, pytest.approx(100.0)) for key in plugin.HEADLINES)


@pytest.mark.parametrize("name", plugins.files("evaluate", "tasks"))
def test_task_reads_the_reference_where_there_is_no_gold(name: str) -> None:
    task = plugins.load("evaluate", "tasks", name)
    wording = plugins.files("tokens", "wording")
    reference = plugins.load("tokens", "wording", name).render(GOLD, "en") if name in wording else "Drink water."
    case = task.case(answer(reference, gold=None, reference=reference))
    assert case.parsed and case.reference
