"""A trial is what a router's fit by itself would be, whatever was tried before it and however often it was killed."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtrain import artifacts, config
from medtrain.artifacts import Policy
from medtrain.errors import ConfigError
from medtrain.router import fit as router
from medtrain.router import inputs
from medtrain.router.examples import Examples
from medtrain.router.plan import RoutingPlan
from medtrain.router.plan import fits as cells
from medtrain.router.worker import Device, Here, Task
from medtrain.search import judging, trials
from medtrain.search import trial as tried
from medtrain.search.settings import StudyConfig
from medtrain.search.space import assignments
from medtrain.search.study import Study
from medtrain.search.trials import Stopped
from medtrain.search.trials import fit as kind
from medtrain.storage import Store

TRIED = ["router.tau=0.5", "router.gamma1=0.2", "method.learning_rate=0.4"]
FEWER = ["router.tau=2.0", "split=train", "shots=5"]
PLACES, OTHER = ["router.granularity=layer"], ["model.precision=nf4"]
Make = Callable[..., Any]


def nothing(step: int, numbers: dict[str, float]) -> None:
    """A report to nobody."""


def process(given: Any, root: Store) -> Any:
    return trials.make(given, root, cpus=1, gpu=False)


def found(folder: Store) -> dict[str, bytes]:
    """What a trial's fits found, to the last bit."""
    return {task: folder.read(f"{task}/result.json") for task in ("one", "two")}


def test_it_is_the_fit_by_itself(root: Store, trial: Make, store: Store) -> None:
    given = trial()
    told = process(given, root).run(store, TRIED, nothing)
    apart = {}
    for task, each in kind.fits(given, TRIED).items():
        assert (each.router.tau, each.router.gamma1, each.method["learning_rate"]) == (0.5, 0.2, 0.4)

        def here(fit: Any, part: Any) -> Here:
            return Here(Device(1, gpu=False), Task(root=root.root, fit=fit, part=part))

        made = router.run(root, each, Policy(), here)
        apart[task] = made.facts["losses"]["held out"]
        result = json.loads(store.read(f"{task}/result.json"))
        assert result["losses"] == apart[task]
        assert result["weights"] == list(json.loads(made.store.read("weights.json"))["values"].values())
        assert told[f"selection_loss/{task}"] == apart[task]["fitted"]
        assert not store.files(f"{task}/state") and store.exists(f"{task}/log/metrics.jsonl")
    assert told["selection_loss"] == sum(losses["fitted"] for losses in apart.values()) / 2
    assert told["average_loss"] == pytest.approx(sum(losses["average"] for losses in apart.values()) / 2)
    assert 0 < told["entropy"] < np.log(3) and "CPU" in told["device"]


def test_nothing_of_a_trial_is_left_in_the_next(root: Store, trial: Make, store: Store) -> None:
    one = process(trial(), root)
    one.run(store.sub("first"), TRIED, nothing)
    between = {"fewer rows": FEWER, "more places": PLACES, "another base": OTHER}
    for name, overrides in between.items():
        one.run(store.sub(name), overrides, nothing)
    one.run(store.sub("again"), TRIED, nothing)
    assert found(store.sub("first")) == found(store.sub("again"))
    for name, overrides in between.items():
        process(trial(), root).run(store.sub(f"{name}, fresh"), overrides, nothing)
        assert found(store.sub(name)) == found(store.sub(f"{name}, fresh")) != found(store.sub("first"))


def test_base_experts_and_rows_stay(root: Store, trial: Make, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    plain, opened = inputs.mixture, inputs.read
    monkeypatch.setattr(inputs, "mixture", lambda *given: made.append("base") or plain(*given))
    monkeypatch.setattr(inputs, "read", lambda *given: made.append("rows") or opened(*given))
    batches = Examples.__init__
    monkeypatch.setattr(Examples, "__init__", lambda *given: made.append("examples") or batches(*given))
    one = process(trial(), root)
    one.run(store.sub("first"), TRIED, nothing)
    assert sorted(made) == ["base", *["examples"] * 4, *["rows"] * 2]
    one.run(store.sub("second"), ["router.tau=3.0", "method.epochs=1"], nothing)
    assert len(made) == 7


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(("asked", "end"), [(2, Killed), (6, Killed), (3, Stopped)])
def test_ended_in_the_middle_it_goes_on_to_the_same_weights(
    root: Store, trial: Make, store: Store, asked: int, end: type[BaseException]
) -> None:
    """A task has four steps, after each of which the trial asks; between the two tasks it reports."""
    whole, reports = store.sub("whole"), list[tuple[int, dict[str, float]]]()
    process(trial(), root).run(whole, TRIED, lambda step, numbers: reports.append((step, numbers)))
    assert [(step, bool(numbers)) for step, numbers in reports] == [(1, False)] * 4 + [(1, True)] + [(2, False)] * 4
    first = json.loads(whole.read("one/result.json"))["losses"]["fitted"]
    assert reports[4][1]["selection_loss"] == first
    count = [0]

    def report(step: int, numbers: dict[str, float]) -> None:
        count[0] += 1
        if count[0] == asked:
            raise end("pruned")

    with pytest.raises(end):
        process(trial(), root).run(store.sub("ended"), TRIED, report)
    count[0] = -100
    told = process(trial(), root).run(store.sub("ended"), TRIED, report)
    assert found(store.sub("ended")) == found(whole)
    # A step that was logged and not saved is made again: saving comes after asking.
    assert count[0] == -100 + 9 - ((asked - 1) if asked < 6 else (asked - 1) - 1)
    assert told == process(trial(), root).run(store.sub("ended"), TRIED, report)


def test_a_result_that_was_cut_while_it_was_written_is_made_again(root: Store, trial: Make, store: Store) -> None:
    process(trial(), root).run(store, TRIED, nothing)
    whole = found(store)
    store.write("two/result.json", whole["two"][:-9])
    process(trial(), root).run(store, TRIED, nothing)
    assert found(store) == whole


def test_the_winner_is_judged_on_rows_that_nobody_saw(root: Store, trial: Make, store: Store) -> None:
    given = trial()
    one = process(given, root)
    one.run(store.sub("winner"), TRIED, nothing)
    facts = one.judge(store.sub("judged"), TRIED, store.sub("winner"))
    planned = kind.fits(given, TRIED)
    read = {task: inputs.read(root, each).rows for task, each in planned.items()}
    seen = {task: {sample.id for part in rows.values() for sample in part} for task, rows in read.items()}
    final = kind.final.rows(root, planned, 200)
    assert facts["rows"] == sum(len(each.samples) for each in final.values())
    losses = []
    for task, each in final.items():
        assert each.samples and not seen[task] & {sample.id for sample in each.samples}
        weights = np.array(json.loads(store.read(f"winner/{task}/result.json"))["weights"])
        held = one._held.others(one._held.inputs(root, planned[task]), each.samples)
        (total,) = held.losses([np.stack([weights, weights])])[0][:1]
        losses.append(total / sum(sample.trained_tokens for sample in each.samples))
    assert facts["winner"] == pytest.approx(sum(losses) / 2, rel=1e-6) and facts["difference"] != 0
    assert facts["low"] <= facts["difference"] <= facts["high"]
    same = one.judge(store.sub("judged"), [], store.sub("judged"))
    assert same["difference"] == 0 and same["found"] == "open"


def test_a_study_judges_its_winner(root: Store, trial: Make) -> None:
    space = {"router.tau": {"low": 0.1, "high": 5, "log": True}}
    settings = {"name": "taus", "trial": trial().model_dump(mode="json"), "space": space, "metric": kind.METRIC}
    whole = config.parse(StudyConfig, {"study": {**settings, "budget": {"trials": 3}}})
    study, one = Study(root, whole, Policy()), process(trial(), root)
    assert judging.winner(study) is None and judging.line(study.store) == ""
    while (order := study.next()) is not None:
        tried.run(one, study.store, order, "here", nothing)
        study.ended(order.number)
    won = judging.winner(study)
    assert won is not None and won.value == min(told.value or 9e9 for told in study.told) and len(study.told) == 3
    given, places, device = settings["trial"], (root.root, study.store.root), (1.0, False)
    changed = assignments(won.values)
    facts = judging.judge(given, places, device, won)
    again = one.judge(study.store.sub("x"), changed, study.store.sub("y"))
    assert facts == {"trial": won.number, **again} and facts["line"] == judging.line(study.store)
    study.store.write("verdict.json", json.dumps({**facts, "line": "kept"}).encode())
    assert judging.judge(given, places, device, won)["line"] == "kept"
    other = next(told for told in study.told if told.number != won.number)
    assert judging.judge(given, places, device, other)["trial"] == other.number


def test_the_same_settings_are_the_same_trial(root: Store, trial: Make) -> None:
    def mark(given: Any, *overrides: str) -> str:
        return kind.identity(given, root, list(overrides)).fingerprint

    plain = mark(trial())
    assert plain == mark(trial(), "router.tau=1.0") == mark(trial(name="x"), "method.save_every_steps=7")
    own = trial().fit | {"router": {"tau": 0.5}}
    assert plain != mark(trial(), "router.tau=0.5") == mark(trial(fit=own))
    assert {"library/three", "tokens/three-one", "tokens/three-two"} == set(kind.identity(trial(), root, []).inputs)
    base = kind.base(trial(), root)
    assert base["router"]["tau"] == 1.0 and base["method"]["learning_rate"] == 0.2 and "tokens" not in base


def test_the_command_line_makes_the_same_fits(trial: Make, store: Store) -> None:
    given = trial(tasks={"one": {"own": "b", "fit": {"shots": 4}}, "two": {"tokens": "three-two"}}, name="best")
    (place,) = kind.named(given, store, "study", "abc")
    assert kind.fits(given, [*TRIED, place]) == kind.fits(given, TRIED), "where things lie is no part of the fit"
    words = shlex.split(kind.command(given, [*TRIED, place]))
    assert words.pop() == f"storage.root={store.root}"
    assert words[:4] == ["ray", "job", "submit", "jobs/fit_router.py"] and "plan.fit.router.tau=0.5" in words
    project = Path(__file__).resolve().parents[3]
    content = config.override(config.read_yaml(project / "jobs/configs/fit_router/demo.yaml"), words[4:])
    made = {task: each for (task, _), each in cells(config.parse(RoutingPlan, content["plan"])).items()}
    assert made == kind.fits(given, TRIED)
    assert made["one"].name == "best-one-tuned"


@pytest.mark.parametrize(
    ("settings", "overrides", "words"),
    [
        ({}, ["held_out.max_rows=3"], "trials that differ in held_out cannot be compared"),
        ({}, ["router.temperature=3"], "router.temperature: unknown field"),
        ({"tasks": {"one": {"fit": {"router": {"tau": 1}}}}}, ["router.tau=2"], "tasks.one.fit has a router.tau"),
        ({"fit": {"name": "x"}}, [], "fit.name='x': the trial and its tasks say that"),
        ({"fit": {"split": "test"}}, [], "held_out.split=test"),
        ({"final": 3}, [], "final: unknown field"),
    ],
    ids=str,
)
def test_what_cannot_be_tried(trial: Make, settings: dict[str, Any], overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kind.fits(trial(**settings), overrides)


def test_a_study_without_final_rows_does_not_begin(root: Store, trial: Make) -> None:
    greedy = trial(fit={**trial().fit, "held_out": {"max_rows": None}})
    with pytest.raises(ConfigError, match="none is left to judge the winner on"):
        kind.base(greedy, root)
    assert artifacts.locate(root, "library", "three").facts["experts"]
