"""The demo learns, for three seeds: stage 1 finds entities, stage 2 answers; on shuffled answers it gains nothing."""

import importlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin, locate
from medtrain.config import load
from medtrain.demo import lexicon
from medtrain.evaluate import harness
from medtrain.evaluate.cases import Answer, Reply, answer_of
from medtrain.evaluate.harness import EvaluationConfig
from medtrain.records import Record, Turn, from_arrow, to_arrow
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens import pipeline as tokens

JOBS = Path(__file__).resolve().parents[2] / "jobs"
SEEDS = (1, 2, 3)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a job by name on its demo.yaml, with overrides."""
    monkeypatch.syspath_prepend(str(JOBS))
    yield lambda name, *overrides: importlib.import_module(name).main(list(overrides))


def kind_of(answer: str) -> str:
    """What an answer names, by the lexicon: a plant, an organ, a sign, else an illness; with its language."""
    pools = {"plant": lexicon.PLANTS, "organ": lexicon.ORGANS, "sign": lexicon.SIGNS}
    found = next((kind for kind, words in pools.items() if answer in words.split()), "illness")
    return f"{found} {'en' if answer.isascii() else 'zh'}"


def with_shuffled_answers(records: Sequence[Record]) -> list[Record]:
    """The records with the answers of train questions dealt out anew among questions of the same kind.

    So a model learns what an answer looks like, and nothing about which drug or illness it belongs to.
    """
    rng, dealt = random.Random(0), list(records)
    places: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        if (record.task, record.split) == ("qa", "train"):
            places[kind_of(record.turns[-1].text)].append(place)
    for mine in places.values():
        answers = [records[place].turns[-1].text for place in mine]
        rng.shuffle(answers)
        for place, answer in zip(mine, answers, strict=True):
            *before, last = records[place].turns
            dealt[place] = replace(records[place], turns=(*before, replace(last, text=answer)))
    return dealt


def shuffled(store: Store) -> None:
    """data/shuffled from data/demo, and its stage-2 tokens on the very same base."""
    original = locate(store, "data", "demo")
    build = begin(store, "data", "shuffled", Identity({}, {"data/demo": original.fingerprint}, ""), Policy())
    assert isinstance(build, Build)
    paths = original.store.files("shards")
    records = [r for path in paths for r in from_arrow(pq.read_table(original.store.local(path)))]
    target = build.store.local(paths[0])
    target.parent.mkdir(parents=True)
    pq.write_table(to_arrow(with_shuffled_answers(records)), target)
    build.finish(original.facts)
    module = importlib.import_module("build_tokens")
    sets = load(module.Job, JOBS / "configs" / "build_tokens" / "demo.yaml").sets
    config = next(one for one in sets if one.name == "demo-stage2")
    renamed = config.model_copy(update={"name": "shuffled-stage2", "data": "shuffled"})
    tokens.build(store, renamed, "artifact:bases/demo", Policy())


def evaluation() -> EvaluationConfig:
    """The demo's evaluation over the base and the three runs of every seed."""
    demo = load(importlib.import_module("evaluate_model").Job, JOBS / "configs" / "evaluate_model" / "demo.yaml")
    content = demo.evaluation.model_dump(mode="json")
    systems = [{"name": "base", "run": "stage1/s1", "adapter": False}]
    for seed in SEEDS:
        systems += [
            {"name": f"first {seed}", "run": f"stage1/s{seed}"},
            {"name": f"second {seed}", "run": f"stage2/s{seed}"},
            {"name": f"control {seed}", "run": f"stage2/control{seed}"},
        ]
    return EvaluationConfig.model_validate({**content, "name": "study", "systems": systems})


def difference(scores: Any, task: str, metric: str, later: str, earlier: str) -> tuple[float, float]:
    """The 95 % interval of a paired difference; `later` stands behind `earlier` among the systems."""
    group = next(group for group in scores["groups"] if (group["task"], group["source"]) == (task, None))
    found = next(d for d in group["differences"] if (d["to"], d["from"]) == (later, earlier))["scores"][metric]
    return float(found["low"]), float(found["high"])


def beyond_chance(answers: Sequence[Answer]) -> tuple[float, float]:
    """The 95 % interval of exact match less what the same answers would get dealt out among questions of their kind."""
    kinds = [kind_of(answer.reference.strip()) for answer in answers]
    golds = Counter(zip(kinds, (answer.reference.strip() for answer in answers), strict=True))
    gains = [
        float(answer.text.strip() == answer.reference.strip()) - golds[kind, answer.text.strip()] / kinds.count(kind)
        for kind, answer in zip(kinds, answers, strict=True)
    ]
    drawn = np.random.default_rng(0).integers(len(gains), size=(4000, len(gains)))
    low, high = np.percentile(np.asarray(gains)[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("ray_cluster")
def test_both_stages_learn_and_shuffled_answers_teach_nothing(store: Store, jobs: Any) -> None:
    root = f"storage.root={store.root}"
    jobs("prepare_data", root)
    jobs("build_tokens", root)
    shuffled(store)
    for seed in SEEDS:
        alone = (root, "runtime.workers=1", f"train.seed={seed}")  # a second one would train the same
        jobs("stage1", *alone, f"train.name=s{seed}")
        both = (*alone, f"train.merge_from=stage1/s{seed}")
        jobs("stage2", *both, f"train.name=s{seed}")
        jobs("stage2", *both, f"train.name=control{seed}", "train.tokens=shuffled-stage2")
    planned = harness.plan(store, evaluation())
    made = harness.evaluate(store, planned, Policy(), RuntimeConfig(workers=2))
    assert isinstance(made, Artifact)
    print("\n".join(harness.result_lines(made)))
    scores = json.loads(made.store.read("scores.json"))
    assert sum(group["rows"] for group in scores["groups"] if group["source"] is None) >= 200
    named = {system.name: system for system in evaluation().systems}
    for seed in SEEDS:
        first, second, control = f"first {seed}", f"second {seed}", f"control {seed}"
        assert difference(scores, "ner", "ner_micro_f1_set", first, "base")[0] > 0
        assert difference(scores, "ner", "ner_micro_f1_set", second, first)[1] >= 0
        assert difference(scores, "qa", "exact_match", second, first)[0] > 0
        assert difference(scores, "qa", "exact_match", control, second)[1] < 0
        asked = {s: [a for a in harness.read_answers(made.store, named[s]) if a.task == "qa"] for s in named}
        taught, untaught = beyond_chance(asked[second]), beyond_chance(asked[control])
        print(f"seed {seed}, answers beyond chance: stage 2 {taught}, control {untaught}")
        assert taught[0] > max(0.0, untaught[1])  # the base has read the facts once, in plain text


def test_beyond_chance_sees_answers_that_fit_their_questions_alone() -> None:
    record = Record("q", "q", "q", "qa", "QA", "en", "test", (Turn("user", query="?"),))
    golds = [f"name {i % 8}" for i in range(160)]
    right = [answer_of(record, gold, Reply(gold, 1, False)) for gold in golds]
    dealt = [answer_of(record, gold, Reply(f"name {i // 20}", 1, False)) for i, gold in enumerate(golds)]
    assert beyond_chance(right)[0] > 0.8 and beyond_chance(dealt)[0] <= 0 <= beyond_chance(dealt)[1]


def test_only_train_answers_are_shuffled() -> None:
    made = [
        Record(f"q:{i}", f"d{i}", "q", "qa", "QA", "en", split, ())
        for i, split in enumerate(("train", "train", "test"))
    ]
    made = [replace(r, turns=(Turn("user", query=r.id), Turn("assistant", text=f"answer {r.id}"))) for r in made]
    dealt = with_shuffled_answers(made)
    assert sorted(r.turns[-1].text for r in dealt) == sorted(r.turns[-1].text for r in made)
    assert dealt[2] == made[2] and [r.turns[0] for r in dealt] == [r.turns[0] for r in made]
