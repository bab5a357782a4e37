"""What a study says of its losses, and its control."""

import importlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medtrain import plugins
from medtrain.data import stage
from medtrain.records import Record

STUDIES = Path(__file__).resolve().parents[1] / "benchmarks" / "studies"
TASKS = tuple("abcdef")


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES.parent))
    return importlib.import_module("studies.verdict")


def losses(means: dict[str, float], seed: int) -> dict[tuple[str, str], float]:
    """Of every task in every way, with noise."""
    draw = random.Random(seed)
    return {(task, name): mean + draw.gauss(0, 0.02) for task in TASKS for name, mean in means.items()}


def test_the_order_of_the_variants_is_seen_and_so_is_another_one(verdict: Any) -> None:
    paper = {"base": 3.0, "single": 2.0, "average": 2.1, "normal": 1.9, "few-shot": 1.95}
    claims = verdict.of_variants({seed: losses(paper, seed) for seed in (1, 2, 3)})
    assert [claim["holds"] for claim in claims] == [True, True, True]
    assert claims[0]["mean"] == pytest.approx(0.1, abs=0.03)
    low, high = claims[0]["interval"]
    assert 0 < low < claims[0]["mean"] < high < 0.2
    other = {**paper, "normal": 2.05, "few-shot": 2.1}
    claims = verdict.of_variants({seed: losses(other, seed) for seed in (1, 2, 3)})
    assert [claim["holds"] for claim in claims] == [False, True, False]


def test_an_expert_of_the_same_kind_counts(verdict: Any) -> None:
    kinds = {**dict.fromkeys("abc", "x"), **dict.fromkeys("def", "y")}
    own = {task: [{name: 0.5 if name == task else 0.1 for name in kinds}] * 3 for task in TASKS}
    assert verdict.of_weights(own, kinds)["mean"] == 6
    two_astray = own | {"a": own["d"], "b": own["e"], "c": own["a"]}
    assert verdict.of_weights(two_astray, kinds) | {"claim": ""} == {
        "claim": "",
        "mean": 4,
        "interval": [4, 4],
        "holds": False,
    }


def test_more_experts_must_help_what_is_unseen_and_not_harm_what_is_seen(verdict: Any) -> None:
    curve = {"k1": 3.0, "k3": 2.7, "k6": 2.5, "k12": 2.4}
    found: dict[tuple[str, str], float] = {}
    for task, slope in (("new", 1.0), ("known", 0.0), ("worse", -1.0)):
        for name, loss in curve.items():
            for order in range(1 if name == "k12" else 10):
                found[task, f"{name}-{order}"] = slope * loss + 0.001 * order
    claims = verdict.of_sizes(found, {"unseen": ("new",), "seen": ("known",)})
    assert [claim["holds"] for claim in claims] == [True, True]
    claims = verdict.of_sizes(found, {"unseen": ("known",), "seen": ("worse",)})
    assert claims[0]["mean"] == pytest.approx(0.0045, abs=1e-4) and claims[1]["holds"] is False


def test_a_control_that_is_as_good_is_no_control(verdict: Any) -> None:
    taught, dealt = (losses({"base": 3.0, "normal": loss}, seed) for seed, loss in ((1, 2.0), (2, 2.8)))
    assert verdict.of_control(taught, dealt)["holds"] and not verdict.of_control(taught, taught)["holds"]


def test_shuffled_answers_are_the_same_answers_of_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDTRAIN_PLUGINS", str(STUDIES / "plugins"))
    corpus = tmp_path / "rows.jsonl"
    rows = (
        f'{{"messages": [{{"role": "user", "content": "q{n}"}}, {{"role": "assistant", "content": "a{n}"}}]}}\n'
        for n in range(40)
    )
    corpus.write_text("".join(rows) + "no row\n")
    given = {"source": "shuffled", "name": "made", "path": str(corpus), "of": {"source": "messages"}}
    config, module = stage.source_config(given), plugins.load("data", "sources", "shuffled")
    (unit,) = module.units(config, tmp_path)
    found = list(module.read(unit, config))
    records = [item for item in found if isinstance(item, Record)]
    answers = [record.turns[-1].text for record in records]
    assert len(found) == 41 and Counter(answers) == Counter(f"a{n}" for n in range(40))
    assert sum(record.turns[0].query == f"q{answer[1:]}" for record, answer in zip(records, answers, strict=True)) < 8
    assert list(module.read(unit, config)) == found
