"""One expert alone: the named one, or the one that the examples were made by."""

from typing import Any

import pytest

from medtrain.errors import ConfigError
from medtrain.router import methods
from medtrain.router.methods import Given


def test_the_best_alone_is_the_one_that_the_examples_were_made_by(taught: Any) -> None:
    found = methods.fit({"kind": "single"}, Given(taught.names, taught.objective(), seed=0))
    assert found.weights[0].tolist() == [float(number == taught.right) for number in range(3)]
    assert found.facts["losses"][taught.names[taught.right]] == min(found.facts["losses"].values())


def test_a_named_expert_is_taken_and_an_unknown_one_refused(taught: Any) -> None:
    given = Given(taught.names, taught.objective(), seed=0)
    assert methods.fit({"kind": "single", "expert": "three"}, given).weights.tolist() == [[0.0, 0.0, 1.0]]
    with pytest.raises(ConfigError, match="one, two, three"):
        methods.fit({"kind": "single", "expert": "four"}, given)
