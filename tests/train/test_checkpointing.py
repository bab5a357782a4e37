"""Which layers are recomputed; `test_engine.py` sees that no weight changes, `test_estimate.py` what it saves."""

import pytest

from medtrain.train.checkpointing import recomputed


@pytest.mark.parametrize(
    ("layers", "how", "wanted"),
    [
        (4, "none", []),
        (4, "whole", [0, 1, 2, 3]),
        (4, "selective", [0, 2]),
        (5, "selective", [1, 3]),
        (1, "selective", []),
    ],
)
def test_selective_takes_every_second_and_never_the_last(layers: int, how: str, wanted: list[int]) -> None:
    assert recomputed(layers, how) == wanted
