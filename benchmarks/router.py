#!/usr/bin/env python
"""Claim: judging candidates costs what one merged adapter's forward passes cost, and LoRAHub's way 1.4 times that.

Ours is one `Problem.losses` of a generation: 12 experts, 32 examples, 13 candidates. The floor is a plain packed
forward of all candidates' rows under one merged adapter, a rank-8 LoRA of PEFT, with the head on trained tokens only:
it judges one candidate 13 times over. Beside it: the same under the experts fused exactly, whose rank is their sum.

LoRAHub's way is that of its code: for each candidate the weighted sum of the experts' A and B is put in by
`set_peft_model_state_dict`, and the model is called with labels, which makes logits of every token; once on our packed
rows (equal padding) and once on its own batch, all examples padded to the longest. Everybody has the same NF4 base and
thread in one process, and they alternate; the ratio is of CPU time on a CPU (wall time beside it), of wall time on a
GPU. The first candidate is one expert alone, for which both ways must have the same loss.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]

import numpy as np
import peft
import torch
from experts import Side, Step, claim, contest, open_base
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from train_step import SHAPES

from medtrain.experts.folder import Adapter, Factors
from medtrain.router.examples import Examples
from medtrain.router.gate import Array
from medtrain.router.mixture import Mixture
from medtrain.router.objective import PassConfig, Problem
from medtrain.tokens.shards import Sample
from medtrain.train.batches import Batch, collate, join
from medtrain.train.loss import LossModule
from medtrain.train.order import BatchConfig, layout

EXPERTS, SHOTS, POPULATION, RANK = 12, 32, 13, 8
TOKENS, TRAINED = (60, 250), (0.2, 0.4)
"""How long examples are, and which share of them is trained."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
"""STAF-LLM's six matrices of a layer."""
FLOOR_BAR, LORAHUB_BAR = 0.85, 1.4
PASSES = PassConfig()


@dataclass
class World:
    """Bases of random weights, made examples and experts: what every contestant has."""

    shape: Any
    device: torch.device
    losses: dict[str, float] = field(default_factory=dict)
    """What each side found for the expert that is alone."""

    def __post_init__(self) -> None:
        self.samples = made_examples(self.shape.vocab_size)
        self.trained = sum(sample.trained_tokens for sample in self.samples)
        groups = layout([len(sample.input_ids) for sample in self.samples], PASSES.batch)
        self.packed = [self.batch(group, PASSES.batch) for group in groups]
        self.padded = self.batch(range(SHOTS), BatchConfig(layout="padded"))
        base = self.base()
        self.adapters = [made_expert(base, seed) for seed in range(EXPERTS)]

    def base(self, layout: str = "packed") -> Any:
        """A base of its own for each contestant, since all of them replace its layers."""
        with tempfile.TemporaryDirectory() as folder:
            return open_base(self.shape, self.device, folder, layout)

    def batch(self, rows: Sequence[int], config: BatchConfig) -> Batch:
        """Examples on the device."""
        return collate([self.samples[row] for row in rows], config, 0).to(self.device)

    def candidates(self, number: int) -> list[Array]:
        """A generation's weights, (1, experts) each; the first is one expert alone."""
        drawn = np.random.default_rng(number).dirichlet(np.ones(EXPERTS), POPULATION)
        drawn[0] = np.eye(EXPERTS)[0]
        return list(drawn[:, None])

    def lora(self, rank: int, layout: str = "packed") -> Any:
        """A base with one LoRA, in PEFT."""
        config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
        return peft.get_peft_model(self.base(layout), config).eval()


def made_examples(vocabulary: int) -> list[Sample]:
    """Rows of random tokens whose last part is trained."""
    draw, found = np.random.default_rng(0), []
    for number in range(SHOTS):
        length = int(draw.integers(*TOKENS, endpoint=True))
        first = length - int(length * draw.uniform(*TRAINED))
        ids = draw.integers(1, vocabulary, length).astype(np.int32)
        found.append(Sample(str(number), "made", "qa", "QA", "en", "train", ids, ((first, length),)))
    return found


def made_expert(base: Any, seed: int) -> Adapter:
    """Random factors."""
    draw, modules = torch.Generator().manual_seed(seed), {}
    for name, layer in base.named_modules():
        if name.endswith(TARGETS):
            A = 0.05 * torch.randn(RANK, layer.in_features, generator=draw)
            modules[name] = Factors(A, 0.05 * torch.randn(layer.out_features, RANK, generator=draw))
    return Adapter("made", modules)


def peft_state(adapter: Adapter) -> dict[str, torch.Tensor]:
    """An adapter as `get_peft_model_state_dict` gives it."""
    found = {}
    for name, factors in adapter.modules.items():
        found[f"base_model.model.{name}.lora_A.weight"] = factors.A
        found[f"base_model.model.{name}.lora_B.weight"] = factors.B
    return found


def ours(world: World) -> Step:
    """A generation through the room."""
    examples = Examples(Mixture(world.base(), world.adapters, "task"), world.samples, PASSES)
    problem = Problem(examples, world.samples, PASSES)

    def step(number: int) -> None:
        world.losses["ours"] = problem.losses(world.candidates(number))[0]

    return step


def floor(world: World, rank: int) -> Step:
    """All candidates' rows under one merged adapter."""
    module = LossModule(world.lora(rank))
    passes = [PASSES.candidates_per_pass] * (POPULATION // PASSES.candidates_per_pass)
    passes += [POPULATION - sum(passes)] if sum(passes) < POPULATION else []

    def step(number: int) -> None:
        for side_by_side in passes:
            total = torch.zeros((), dtype=torch.float64, device=world.device)
            with torch.no_grad():
                for batch in world.packed:
                    total += module.token_losses(join([batch] * side_by_side)).double().sum()
            float(total)

    return step


def lorahub(world: World, batches: Sequence[Batch], name: str) -> Step:
    """For each candidate: sum state dicts, load the sum, call the model with labels; as LoRAHub's `get_score` does."""
    model = world.lora(RANK, "packed" if batches[0].attention_mask is None else "padded")
    inputs = [(called_with(batch), batch.trained_tokens) for batch in batches]
    cache = [peft_state(adapter) for adapter in world.adapters]
    assert cache[0].keys() == get_peft_model_state_dict(model).keys()

    def score(weights: Array) -> float:
        merged = {key: sum(float(w) * own[key] for w, own in zip(weights, cache, strict=True)) for key in cache[0]}
        set_peft_model_state_dict(model, merged)
        with torch.no_grad():
            return sum(float(model(**given).loss) * trained for given, trained in inputs) / world.trained

    def step(number: int) -> None:
        found = [score(weights[0]) for weights in world.candidates(number)]
        world.losses[name] = found[0]

    return step


def called_with(batch: Batch) -> dict[str, Any]:
    """A batch as a model of Transformers takes it, with the labels."""
    labels = torch.full_like(batch.input_ids, -100)
    labels.view(-1)[batch.predictors + 1] = batch.targets
    given: dict[str, Any] = {"input_ids": batch.input_ids, "labels": labels}
    if batch.attention_mask is None:
        return given | {"position_ids": batch.position_ids, "sample_lengths": batch.lengths}
    return given | {"attention_mask": batch.attention_mask}


PEERS: dict[str, tuple[float | None, Callable[[World], Step]]] = {
    "the floor: one merged adapter": (FLOOR_BAR, lambda world: floor(world, RANK)),
    "the experts fused exactly": (None, lambda world: floor(world, EXPERTS * RANK)),
    "LoRAHub at equal padding": (LORAHUB_BAR, lambda world: lorahub(world, world.packed, "LoRAHub at equal padding")),
    "LoRAHub, padded": (None, lambda world: lorahub(world, [world.padded], "LoRAHub, padded")),
}
"""What ours must reach against each, and how it is made."""


def results(world: World, sides: dict[str, Side], shape: str) -> list[dict[str, Any]]:
    """One object a claim."""
    tokens = sum(len(sample.input_ids) for sample in world.samples)
    padding = round(world.padded.input_ids.numel() / tokens, 3)
    found = []
    for name, (bar, _) in PEERS.items():
        facts = {
            "claim": f"a generation of {POPULATION} candidates against {name}",
            "setting": f"{shape} base in NF4, {EXPERTS} experts of rank {RANK}, {SHOTS} examples of {tokens} tokens, "
            f"{world.trained} of them trained; padded to the longest {padding} times as many",
        }
        if name in world.losses:
            facts["loss_difference"] = float(f"{abs(world.losses[name] / world.losses['ours'] - 1):.2g}")
        found.append(claim(sides["ours"], sides[name], bar, world.device, **facts))
    return found


def main() -> None:
    """Run the contest and print its results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    world = World(SHAPES[options.shape], device)
    sides = {"ours": Side(ours(world))} | {name: Side(make(world)) for name, (_, make) in PEERS.items()}
    contest(sides, 1 if options.quick else 5, device)
    print(json.dumps(results(world, sides, options.shape)), flush=True)


if __name__ == "__main__":
    main()
