"""What a run reads of its tokens."""

from typing import Any

import pytest

from medtrain.artifacts import locate
from medtrain.config import parse
from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import inputs
from medtrain.train.settings import TrainConfig


def config(**settings: Any) -> TrainConfig:
    batch = {"size": 8, "layout": "packed", "micro_tokens": 256}
    return parse(TrainConfig, {"name": "x", "tokens": "tiny", "epochs": 3, "batch": batch, **settings})


def test_rows_steps_and_tokens(made: Store) -> None:
    given = inputs.read(locate(made, "tokens", "tiny"), config(max_steps=12, validation={"max_rows": 5}))
    assert len(given.rows) == 64 and given.plan.steps == 24 and given.steps == 12
    assert given.tokens == 3 * given.samples.lengths[given.rows].sum() // 2
    held = [row for _, micro in given.held_out for row in micro.rows]
    assert len(held) == 5 and not set(held) & set(given.rows.tolist())
    assert {source for source, _ in given.held_out} == {"notes", "questions"}


def test_a_category_that_no_row_has_is_said(made: Store) -> None:
    for categories in (("NER",), ("QA", "NERR")):
        with pytest.raises(TrainingError, match=r"train.categories='NER+': tokens/tiny has no such row; there are: QA"):
            inputs.read(locate(made, "tokens", "tiny"), config(categories=categories))
