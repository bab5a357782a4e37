"""A plan's cost before anything is loaded, by counted operations, and results as a table."""

from typing import Any

import pytest

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.router import inputs, preview
from medtrain.router.plan import RoutingPlan
from medtrain.train import estimate
from medtrain.train.command import EstimateConfig

CORE = EstimateConfig(device="cpu-core", memory_gib=None)


def plan(**tasks: Any) -> RoutingPlan:
    few = {"split": "train", "shots": 4, "method": {"kind": "cmaes", "generations": 3, "population": 5}}
    shared = {"passes": {"micro_tokens": 128}, "model": {"precision": "fp32"}}
    variants = {"few": few, "normal": {"method": {"kind": "gradient", "size": 4, "epochs": 2}}}
    return parse(RoutingPlan, {"name": "p", "library": "even", "fit": shared, "tasks": tasks, "variants": variants})


def test_a_plan_says_what_each_fit_takes_and_what_is_missing(shelf: Any) -> None:
    text = preview.table(shelf.root, plan(x={"tokens": "task"}, one={}), CORE, 2)
    assert "2 tasks x 2 variants = 4 fits" in text
    assert "router/p-x-few: 4 rows," in text and "judged on 5; 3 steps, 16 candidates;" in text
    assert "4 steps, 2 epochs with gradients" in text
    assert "router/p-one-few: cannot be planned yet: artifact tokens/even-one does not exist" in text
    assert "on 2 x cpu-core" in text
    with pytest.raises(ConfigError, match="device='abacus'"):
        preview.table(shelf.root, plan(x={"tokens": "task"}), EstimateConfig(device="abacus"), 1)


def test_time_is_that_of_the_products_of_every_pass(shelf: Any) -> None:
    config = shelf.config("x", method={"kind": "average"})
    given = inputs.read(shelf.root, config)
    linears = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    flops = 0
    for sample in [*given.rows["fit"], *given.rows["held out"]]:
        length = len(sample.input_ids)
        flops += 3 * 2 * (length * (linears + 2 * 64 * length) + 64 * 320 * sample.trained_tokens)
    wanted = flops / (estimate.DEVICES["cpu-core"] * estimate.UTILISATION)
    assert preview.seconds(given, "cpu-core") == pytest.approx(wanted)


def test_results_name_losses_and_the_largest_weights(shelf: Any) -> None:
    made = [
        shelf.fit("r-single", own="two", method={"kind": "single"}),
        shelf.fit("r-mean", method={"kind": "average"}),
    ]
    lines = preview.results(made).splitlines()
    held = made[0].facts["losses"]["held out"]
    assert lines[1].split()[:5] == ["r-single", "5", *(f"{held[name]:.4f}" for name in ("base", "average", "fitted"))]
    assert "two 1.000, one 0.000" in lines[1] and "one 0.333, two 0.333" in lines[2]
