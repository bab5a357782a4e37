"""A system opened from artifacts answers as its parts do."""

import json
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
from transformers import Qwen2ForCausalLM

from medtrain import artifacts
from medtrain.errors import ConfigError, MissingArtifact
from medtrain.evaluate import harness, rows, systems
from medtrain.evaluate.generate import generate
from medtrain.evaluate.harness import EvaluationConfig
from medtrain.evaluate.systems import GenerationConfig, System
from medtrain.experts.fold import read as read_adapter
from medtrain.experts.folder import write as write_adapter
from medtrain.records import Record, Turn
from medtrain.router import fit
from medtrain.router.settings import FitConfig
from medtrain.router.worker import Device, Here, Task
from medtrain.storage import Store
from medtrain.tokens.render import Renderer
from medtrain.tokens.shards import shard_path, write_shard

SHORT = GenerationConfig(max_new_tokens=8, batch_rows=3)
BASE, TRAINED = System(name="base", run="stage1/toy", adapter=False), System(name="stage 1", run="stage1/toy")


def held_out(root: Store) -> list[Record]:
    return rows.held_out(artifacts.locate(root, "data", "toy"), ("ner", "qa"), ("validation", "test"), None, 42)


def test_the_base_and_the_adapter_answer_as_themselves(world: Store, tokenizer: Any) -> None:
    records = held_out(world)
    renderer = Renderer.open(artifacts.locate(world, "tokens", "toy"))
    prompts = [renderer.prompt(record) for record in records]
    base = Qwen2ForCausalLM.from_pretrained(world.local("bases/toy")).eval()
    expected = generate(base, tokenizer, prompts, SHORT)
    answers = systems.open_system(world, SHORT, BASE, "cpu")(records)
    assert [(a.id, a.text) for a in answers] == [(r.id, e.text) for r, e in zip(records, expected, strict=True)]
    tuned = peft.PeftModel.from_pretrained(base, str(world.local("stage1/toy/adapter"))).eval()
    changed = generate(tuned, tokenizer, prompts, SHORT)
    assert changed != expected
    assert [a.text for a in systems.open_system(world, SHORT, TRAINED, "cpu")(records)] == [e.text for e in changed]


def test_an_answer_carries_what_its_scoring_needs(world: Store) -> None:
    answers = systems.open_system(world, SHORT, BASE, "cpu")(held_out(world))
    entity = answers[0]
    assert entity.gold is not None and entity.gold["entities"][0]["text"] == "Fever 0"
    assert (entity.reference, entity.context) == ("Disease: Fever 0", "Fever 0 and cough.")
    assert answers[-1].reference.startswith("多喝水")


def test_a_row_that_cannot_be_asked_is_refused_alone(world: Store) -> None:
    records = held_out(world)[:3]
    records[1] = replace(records[1], turns=(Turn("user", query="x " * 600),))
    answers = systems.open_system(world, SHORT, BASE, "cpu")(records)
    assert [bool(answer.refused) for answer in answers] == [False, True, False]
    assert "x x" not in answers[1].refused and "toy:1" in answers[1].refused


def test_rows_are_drawn_by_seed_from_held_out_splits_only(world: Store) -> None:
    data = artifacts.locate(world, "data", "toy")
    every = [r.id for r in rows.held_out(data, ("ner", "qa"), ("validation", "test"), None, 1)]
    drawn = [r.id for r in rows.held_out(data, ("ner", "qa"), ("validation", "test"), 3, 1)]
    other = [r.id for r in rows.held_out(data, ("ner", "qa"), ("validation", "test"), 3, 2)]
    assert len(every) == 12 and "qa:4" not in every
    assert len(drawn) == 6 and [i for i in every if i in drawn] == drawn
    assert set(drawn) != set(other)


def test_missing_inputs_name_their_job(world: Store) -> None:
    with pytest.raises(MissingArtifact, match="jobs/stage2.py"):
        systems.run_of(world, System(name="x", run="stage2/toy"))
    with pytest.raises(ConfigError, match="kind/name"):
        systems.run_of(world, System(name="x", run="stage2"))


def test_a_generation_leaves_no_state_behind(world: Store) -> None:
    state = torch.random.get_rng_state()
    hot = GenerationConfig(max_new_tokens=4, temperature=1.0)
    systems.open_system(world, hot, BASE, "cpu")(held_out(world)[:2])
    opened = systems.open_system(world, hot, BASE, "cpu")
    assert json.dumps([a.text for a in opened(held_out(world)[:2])])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_fitted_router_is_a_system(world: Store, tokenizer: Any) -> None:
    tokens, records = artifacts.locate(world, "tokens", "toy"), held_out(world)
    renderer = Renderer.open(tokens)
    write_shard(tokens.store, shard_path(0), [sample for r in records if (sample := renderer.sample(r)[0]) is not None])
    expert = read_adapter(world.sub("stage1/toy"), "adapter")
    library = artifacts.begin(world, "library", "toy", artifacts.Identity({}, {}, ""), artifacts.Policy())
    assert isinstance(library, artifacts.Build)
    write_adapter(library.store, "only", expert)
    known = {"ranks": {name: factors.rank for name, factors in expert.modules.items()}}
    library.finish({"base": tokens.facts["base"], "experts": {"only": known}})
    settings = {"precision": "fp32"}
    config = FitConfig.model_validate({"name": "toy", "library": "toy", "tokens": "toy", "model": settings})
    fit.run(
        world,
        config.model_copy(update={"method": {"kind": "average"}}),
        artifacts.Policy(),
        lambda asked, part: Here(Device(1, gpu=False), Task(root=world.root, fit=asked, part=part)),
    )
    routed = System(name="routed", run="router/toy")
    answers = [a.text for a in systems.open_system(world, SHORT, routed, "cpu")(records)]
    assert answers == [a.text for a in systems.open_system(world, SHORT, TRAINED, "cpu")(records)]
    assert answers != [a.text for a in systems.open_system(world, SHORT, BASE, "cpu")(records)]
    asked = EvaluationConfig(name="x", systems=(BASE, routed), data="toy", tasks=("ner", "qa"))
    assert harness.plan(world, asked).identity.inputs.keys() == {"data/toy", "stage1/toy", "router/toy"}
    assert [a.kind for a in harness.chain(world, asked)] == ["data", "tokens", "stage1", "router"]
