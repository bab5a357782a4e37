"""medtrain.search.preview: what a study will do, and what it has found."""

from typing import Any

from medtrain.artifacts import Policy
from medtrain.search import preview, trial, trials
from medtrain.search.study import Study
from medtrain.storage import Store


def test_a_plan_says_what_varies_how_often_and_how_long(configured: Any) -> None:
    space = {"x": {"low": 0.1, "high": 1, "log": True}, "y": {"choices": [1, 2]}, "seed": {"fixed": 4}}
    config = configured(space=space, budget={"trials": 6, "cost": 2.0}, price={"per_slot_hour": 3600.0})
    root = Store(config.storage.root)
    before = preview.plan(root, config)
    assert "x: 0.1 to 1, logarithmic; base 0.5" in before and "y: one of [1, 2]" in before
    assert "seed: always 4" in before and "3 coordinates, populations of 7" in before
    assert "budget: trials 6, cost 2; 2 trials at a time" in before and "known once trials have run" in before
    study = Study(root, config, Policy())
    assert preview.winner(study) == "study s: no trial gave loss"
    order = study.next()
    assert order is not None
    made = trials.make(study.settings.trying, root, 1.0, False)
    trial.run(made, study.store, order, "here", lambda step, numbers: None)
    study.ended(order.number)
    after = preview.plan(root, config)
    assert "to go: 5 trials; cost" in after and "to finish by budget.trials" in after
    hours = configured(space=space, budget={"hours": 1.0})
    assert "budget: hours 1; 2 trials" in preview.plan(root, hours) and "by budget.hours" in preview.plan(root, hours)
    found = preview.winner(study)
    assert study.best is not None
    assert found.splitlines()[-1] == study.command(study.best.values) and f"{study.best.value:.6g}" in found
