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
from medtrain.evaluate import rows, systems
from medtrain.evaluate.generate import generate
from medtrain.evaluate.systems import GenerationConfig, System
from medtrain.records import Record, Turn
from medtrain.storage import Store
from medtrain.tokens.render import Renderer

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
