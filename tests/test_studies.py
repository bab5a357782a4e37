"""What a study says of its losses, and its control."""

import importlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray

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


def said(claims: list[dict[str, Any]]) -> list[str]:
    return [claim["verdict"] for claim in claims]


def test_the_order_of_the_variants_is_seen_and_so_is_another_one(verdict: Any) -> None:
    paper = {"base": 3.0, "single": 2.0, "average": 2.1, "normal": 1.9, "few-shot": 1.95}
    claims = verdict.of_variants({seed: losses(paper, seed) for seed in (1, 2, 3)})
    assert said(claims) == ["holds"] * 2 and "single" in claims[0]["claim"]
    assert claims[0]["mean"] == pytest.approx(0.1, abs=0.03)
    low, high = claims[0]["interval"]
    assert 0 < low < claims[0]["mean"] < high < 0.2
    other = {**paper, "normal": 2.0, "few-shot": 2.2}
    claims = verdict.of_variants({seed: losses(other, seed) for seed in (1, 2, 3)})
    assert said(claims) == ["not apart from 0", "does not hold"]
    claims = verdict.of_variants({seed: losses({**paper, "average": 1.8}, seed) for seed in (1, 2, 3)})
    assert said(claims)[0] == "does not hold" and "average" in claims[0]["claim"], "the better of the two counts"


def test_an_expert_of_the_same_kind_counts(verdict: Any) -> None:
    kinds = {**dict.fromkeys("abc", "x"), **dict.fromkeys("def", "y")}
    own = {task: {name: 0.5 if name == task else 0.1 for name in kinds} for task in TASKS}
    assert verdict.of_weights([own] * 3, kinds)["mean"] == 6
    two_astray = own | {"a": own["d"], "b": own["e"], "c": own["a"]}
    assert verdict.of_weights([two_astray] * 3, kinds) | {"claim": ""} == {
        "claim": "",
        "mean": 4,
        "interval": [4, 4],
        "verdict": "does not hold",
    }
    assert verdict.of_weights([own, two_astray, two_astray], kinds)["mean"] == 4, "the mean over runs"
    three_astray = two_astray | {"d": own["a"]}
    assert verdict.of_weights([three_astray], kinds, control=True)["verdict"] == "holds"
    assert verdict.of_weights([own], kinds, control=True)["verdict"] == "does not hold"


def by_size(*curve: float, slope: float = 1.0) -> dict[tuple[str, str], float]:
    """Losses of two tasks at 1, 3, 6 and 12 experts in ten orders."""
    draw, found = random.Random(3), dict[tuple[str, str], float]()
    for task in ("one", "two"):
        for size, loss in zip((1, 3, 6, 12), curve, strict=True):
            for order in range(10):
                found[task, f"k{size}-{order}"] = slope * loss + draw.gauss(0, 0.02)
        found[task, "base"] = 9.0
    return found


def test_more_experts_must_help_what_is_unseen_and_not_harm_what_is_seen(verdict: Any) -> None:
    falling, flat = by_size(3.0, 2.7, 2.5, 2.4), by_size(3.0, 3.0, 3.0, 3.0)
    assert said(verdict.of_sizes(falling, "unseen")) == ["holds"] * 4
    assert "holds" not in said(verdict.of_sizes(flat, "unseen"))
    assert said(verdict.of_sizes(flat, "seen"))[0] == "holds"
    assert said(verdict.of_sizes(by_size(3.0, 2.7, 2.5, 2.4, slope=-1), "seen")) == ["does not hold"] * 4
    bump = verdict.of_sizes(by_size(3.0, 2.4, 2.9, 2.3), "unseen")
    assert said(bump)[1:] == ["holds", "does not hold", "holds"], "its ends alone do not tell"
    assert bump[1]["mean"] == pytest.approx(0.6, abs=0.03)


def test_a_control_that_is_as_good_is_no_control(verdict: Any) -> None:
    taught = losses({"base": 3.0, "average": 2.5, "normal": 2.0}, 1)
    assert said(verdict.of_control(taught, losses({"base": 3.0, "average": 2.9, "normal": 2.8}, 2))) == ["holds"] * 2
    assert said(verdict.of_control(taught, taught)) == ["not apart from 0"] * 2
    half = verdict.of_control(taught, losses({"base": 3.0, "average": 2.9, "normal": 2.4}, 2))
    assert said(half) == ["holds", "not apart from 0"], "better than the average as the taught ones are"


def test_orders_are_nested_and_each_ends_with_all_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STUDIES.parent))
    staf = importlib.import_module("studies.staf")
    names = [f"e{number}" for number in range(12)]
    found = staf.orders(names, 3)
    assert len(found) == 3 * 4
    for order in range(3):
        one, three, six, all_of_them = (found[f"k{size}-{order}"]["experts"] for size in (1, 3, 6, 12))
        assert all_of_them[:6] == six and six[:3] == three and three[:1] == one and sorted(all_of_them) == sorted(names)
    assert len({tuple(found[f"k6-{order}"]["experts"]) for order in range(3)}) == 3
    assert len({str({**way, "experts": None, "seed": None}) for way in found.values()}) == 1, "all are fitted alike"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("ray_cluster")
def test_the_study_ends_with_its_claims_and_goes_on_from_what_is_whole(shared: Path, tmp_path: Path) -> None:
    own = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "MEDTRAIN_HOME": str(tmp_path)}
    command = [sys.executable, str(STUDIES / "staf.py"), "--shared", str(shared), "--quick"]
    found, made = [], []
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
        made.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("manifest.json")})
    assert found[0] == found[1] and len(found[0]) == 2 + 1 + 2 * 4 + 2 + 1
    assert made[0] == made[1] and len(made[0]) > 90
    kept = json.loads((tmp_path / "staf-quick/findings.json").read_text())
    assert kept["claims"] == found[1] and kept["minutes"] > 0


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
