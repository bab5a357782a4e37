"""What every metric plug-in promises, of the package and of `$MEDTRAIN_PLUGINS`."""

from types import ModuleType

import numpy as np
import pytest

from medtrain import plugins
from medtrain.evaluate.cases import Case
from medtrain.evaluate.intervals import Bootstrap, intervals

ENTITIES = {"entities": [{"type": "A", "text": "x"}, {"type": "B", "text": "y"}]}
RELATIONS = {"relations": [{"type": "A", "head": "x", "tail": "y"}]}
LABELS = {"labels": ["a", "b"]}
LABEL = {"label": "a"}
VALUES = {"attribute": "symptoms", "values": ["x", "y"]}
ANSWERS = {"answers": ["two words"]}
KINDS: tuple[tuple[object, object], ...] = (
    ("多喝水，注意休息。", ""),
    (ENTITIES, {"entities": []}),
    (RELATIONS, {"relations": []}),
    (LABELS, {"labels": []}),
    (LABEL, {"label": ""}),
    (VALUES, {"values": []}),
    (ANSWERS, {"answers": []}),
)
"""For each kind of thing that tasks compare: a gold and the empty prediction."""


def fitting(metric: ModuleType) -> tuple[object, object]:
    """The kind of prediction that a metric measures: the first it takes."""
    for gold, empty in KINDS:
        try:
            metric.measure([Case("d", "x y", gold, gold, True)])
        except (KeyError, TypeError, AttributeError):
            continue
        return gold, empty
    raise AssertionError("takes none of the kinds that tasks make")


@pytest.mark.parametrize("name", plugins.files("evaluate", "metrics"))
def test_metric_keeps_its_contract(name: str) -> None:
    metric = plugins.load("evaluate", "metrics", name)
    gold, empty = fitting(metric)
    right, wrong = Case("1", "x y", gold, gold, True), Case("2", "x y", gold, empty, False)
    statistics = metric.measure([right, wrong, right])
    assert metric.__doc__
    assert statistics.counts.shape[0] == 3 and statistics.counts.dtype == np.float64
    best = statistics.scores(statistics.counts[:1].sum(axis=0))
    assert set(metric.HEADLINES) <= set(best)
    worst = statistics.scores(statistics.counts[1:2].sum(axis=0))
    assert all(float(best[key]) > float(worst[key]) for key in metric.HEADLINES)
    found = intervals(statistics, ["1", "2", "3"], Bootstrap(50, 1))
    assert all(found[key].low <= found[key].value <= found[key].high for key in metric.HEADLINES)
    twice = statistics.scores(np.stack([statistics.counts.sum(axis=0)] * 2))
    assert all(values.shape == (2,) for values in twice.values())


@pytest.mark.parametrize("name", plugins.files("evaluate", "metrics"))
def test_metric_takes_no_rows(name: str) -> None:
    statistics = plugins.load("evaluate", "metrics", name).measure([])
    assert statistics.counts.shape[0] == 0
