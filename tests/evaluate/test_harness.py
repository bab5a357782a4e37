"""An evaluation from artifacts to report over real Ray actors, and what is done again when something changes."""

import json
from typing import Any

import pytest

from medtrain import config
from medtrain.artifacts import Artifact, Policy, locate
from medtrain.errors import ConfigError, IdentityMismatch, MissingArtifact
from medtrain.evaluate import harness
from medtrain.evaluate.cases import from_lines
from medtrain.evaluate.harness import EvaluationConfig
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store

CLUSTER = RuntimeConfig(workers=1, cpus_per_worker=0.5, use_gpu=False)


def settings(**changes: Any) -> EvaluationConfig:
    content = {
        "name": "toy",
        "data": "toy",
        "systems": [{"name": "base", "run": "stage1/toy", "adapter": False}, {"name": "stage 1", "run": "stage1/toy"}],
        "tasks": ["ner", "qa"],
        "chunk_rows": 5,
        "resamples": 50,
        "generation": {"max_new_tokens": 6},
    }
    return config.parse(EvaluationConfig, {**content, **changes})


def evaluate(root: Store, chosen: EvaluationConfig) -> Artifact:
    return harness.evaluate(root, harness.plan(root, chosen), Policy(), CLUSTER)


def test_an_evaluation_from_end_to_end(ray_cluster: None, world: Store, capfd: pytest.CaptureFixture[str]) -> None:
    made = evaluate(world, settings())
    files = made.store.files("predictions")
    assert files == [f"predictions/{system}/{i:05d}.jsonl" for system in ("base", "stage-1") for i in range(3)]
    assert sum(len(from_lines(made.store.read(path))) for path in files) == 24
    scores = json.loads(made.store.read("scores.json"))
    assert [(g["task"], g["split"], g["source"], g["rows"]) for g in scores["groups"]] == [
        ("ner", "validation", None, 8),
        ("ner", "validation", "other", 4),
        ("ner", "validation", "toy", 4),
        ("qa", "test", None, 4),
    ]
    assert "<svg" in made.store.read("report.html").decode()
    shown = "\n".join(harness.result_lines(made))
    assert "stage 1 - base" in shown and shown.endswith("/evaluations/toy/report.html")
    assert "Fever" not in capfd.readouterr().out

    # Other metrics score the saved answers again: an edited answer shows that none is generated.
    path = files[0]
    edited = made.store.read(path).replace(b'"text": "', b'"text": "E')
    made.store.write(path, edited)
    made.store.write(
        "manifest.json",
        made.store.read("manifest.json").replace(
            f'"{path}": {made.manifest["files"][path]}'.encode(), f'"{path}": {len(edited)}'.encode()
        ),
    )
    again = evaluate(world, settings(metrics={"qa": ["gleu_char"]}))
    assert again.store.read(path) == edited
    assert list(json.loads(again.store.read("scores.json"))["groups"][-1]["systems"]["base"]["scores"]) == [
        "gleu_char_nltk"
    ]
    assert locate(world, "evaluations", "toy").facts["scoring"] != made.facts["scoring"]

    with pytest.raises(IdentityMismatch, match="max_new_tokens"):
        evaluate(world, settings(generation={"max_new_tokens": 7}))


def test_the_plan_says_what_will_be_done(world: Store) -> None:
    shown = harness.plan(world, settings(max_rows=3)).describe()
    assert "base (stage1/toy, base alone), stage 1 (stage1/toy)" in shown
    assert "ner, validation: 3 rows" in shown and "qa, test: 3 rows" in shown
    assert "2 systems x 6 rows = 4 chunks" in shown and "36 generated tokens" in shown


def test_every_system_gets_the_same_chunks_of_like_length(world: Store) -> None:
    chunks = list(harness.plan(world, settings()).chunks())
    base, trained = chunks[:3], chunks[3:]
    assert [c.records for c in base] == [c.records for c in trained]
    lengths = [sum(len(t.query + t.context) for t in r.turns) for c in base for r in c.records]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": "none"}, MissingArtifact, "jobs/prepare_data.py"),
        ({"systems": [{"name": "s", "run": "stage2/toy"}]}, MissingArtifact, "jobs/stage2.py"),
        ({"tasks": ["nre"]}, ConfigError, "did you mean 'ner'"),
        ({"metrics": {"qa": ["bleu"]}}, ConfigError, "no plug-in 'bleu'"),
        ({"tasks": ["relations"]}, ConfigError, "no such row"),
        ({"systems": [{"name": "a b", "run": "x/y"}, {"name": "a-b", "run": "x/y"}]}, ConfigError, "share a folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    world: Store, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        harness.plan(world, settings(**changes))
    assert not world.exists("evaluations")
