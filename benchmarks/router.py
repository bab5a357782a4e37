#!/usr/bin/env python
"""Claim: judging candidates costs what one merged adapter's forward pass costs, and LoRAHub's way 1.4 times that.

Ours is one `Problem.losses` of a generation: 12 experts, 32 examples, 13 candidates. The floor is one packed forward
pass of all candidates' rows under one merged adapter, a rank-8 LoRA of PEFT, with the head on trained tokens only: it
judges one candidate 13 times over. A second floor has that adapter merged into the weights in float32, so that there
is neither adapter nor dequantisation, in passes of ours.

LoRAHub's way is that of its code: for each candidate the weighted sum of the experts' A and B is put in by
`set_peft_model_state_dict`, and the model is called with labels, which makes logits of every token; once on our packed
rows (equal padding) and once on its own batch, all examples padded to the longest. Everybody has the same NF4 base and
thread in one process, and they alternate; the ratio is of CPU time on a CPU (wall time beside it), of wall time on a
GPU.

Nothing is skipped: each candidate's loss is that of Transformers' own padded forward pass with labels under the exact
sum of the experts, one LoRA of all their ranks in PEFT. The first candidate is one expert alone, for which LoRAHub's
way must have our loss too.
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
from bitsandbytes.functional import dequantize_4bit
from experts import Side, Step, claim, contest, in_nf4, open_base
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
TOKENS, TRAINED = (40, 160), (0.2, 0.4)
"""How long examples are, and which share of them is trained."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
"""STAF-LLM's six matrices of a layer."""
FLOOR_BAR, LORAHUB_BAR, SIDE_ROUNDS = 0.85, 1.4, 2
EQUAL = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
"""How far a candidate's loss may be from the naive one, as a share; in float32 no two are as close to each other."""
PASSES = PassConfig()
REAL_BASE = Path(__file__).resolve().parents[2] / "shared" / "models" / "tiny-base"
"""A trained base of the same size class; the one of random weights where it is absent."""


@dataclass
class World:
    """Bases, made examples and experts: what every contestant has."""

    shape: Any
    """A path, or a shape of random weights."""
    device: torch.device
    losses: dict[str, list[float]] = field(default_factory=dict)
    """What each side found for the last generation."""

    def __post_init__(self) -> None:
        self.samples = made_examples(self.base().config.vocab_size)
        self.trained = sum(sample.trained_tokens for sample in self.samples)
        groups = layout([len(sample.input_ids) for sample in self.samples], PASSES.batch)
        self.packed = [self.batch(group, PASSES.batch) for group in groups]
        self.padded = self.batch(range(SHOTS), BatchConfig(layout="padded"))
        base = self.base()
        self.adapters = [made_expert(base, seed) for seed in range(EXPERTS)]

    @property
    def setting(self) -> str:
        """What all contestants had, in words."""
        tokens = sum(len(sample.input_ids) for sample in self.samples)
        padding = round(self.padded.input_ids.numel() / tokens, 3)
        base = self.shape.name if isinstance(self.shape, Path) else f"random {self.shape.hidden_size}-wide base"
        return (
            f"{base} in NF4, {EXPERTS} experts of rank {RANK}, {SHOTS} examples of {tokens} tokens, {self.trained} of "
            f"them trained; padded to the longest {padding} times as many"
        )

    def base(self, layout: str = "packed") -> Any:
        """A base of its own for each contestant, since all of them replace its layers."""
        if isinstance(self.shape, Path):
            return in_nf4(str(self.shape), self.device, layout)
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
            A = 0.1 * torch.randn(RANK, layer.in_features, generator=draw)
            modules[name] = Factors(A, 0.1 * torch.randn(layer.out_features, RANK, generator=draw))
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
        world.losses["ours"] = problem.losses(world.candidates(number))

    return step


def floor(world: World) -> Step:
    """All candidates' rows in one forward pass under one merged adapter."""
    return all_rows(world, world.lora(RANK), POPULATION)


def merged_floor(world: World) -> Step:
    """The same rows in passes of ours, under whole weights."""
    model = world.base()
    for name, layer in list(model.named_modules()):
        if name.endswith(TARGETS):
            whole = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            whole.load_state_dict(
                {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias}), assign=True
            )
            model.set_submodule(name, whole)
    return all_rows(world, model, PASSES.candidates_per_pass)


def all_rows(world: World, model: Any, side_by_side: int) -> Step:
    """All candidates' rows, so many candidates' at a time, under whatever the model holds."""
    module = LossModule(model.eval())

    def step(number: int) -> None:
        total, packed = torch.zeros((), dtype=torch.float64, device=world.device), world.packed
        with torch.no_grad():
            for first in range(0, POPULATION, side_by_side):
                copies = min(side_by_side, POPULATION - first)
                whole = [join(packed)] if side_by_side == POPULATION else packed
                for batch in whole:
                    total += module.token_losses(join([batch] * copies)).double().sum()
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
        world.losses[name] = [score(weights[0]) for weights in world.candidates(number)]

    return step


def naive(world: World, number: int) -> list[float]:
    """Each candidate's loss in a padded forward pass of its own, under the exact sum as one LoRA in PEFT."""
    model, given, found = world.lora(EXPERTS * RANK, "padded"), called_with(world.padded), []
    for weights in world.candidates(number):
        parts = [(float(w), peft_state(adapter)) for w, adapter in zip(weights[0], world.adapters, strict=True)]
        exact = {
            key: torch.cat([own[key] for _, own in parts])
            if "lora_A" in key
            else torch.cat([w * own[key] for w, own in parts], dim=1)
            for key in parts[0][1]
        }
        set_peft_model_state_dict(model, exact)
        with torch.no_grad():
            found.append(float(model(**given).loss))
    return found


def called_with(batch: Batch) -> dict[str, Any]:
    """A batch as a model of Transformers takes it, with the labels."""
    labels = torch.full_like(batch.input_ids, -100)
    labels.view(-1)[batch.predictors + 1] = batch.targets
    given: dict[str, Any] = {"input_ids": batch.input_ids, "labels": labels}
    if batch.attention_mask is None:
        return given | {"position_ids": batch.position_ids, "sample_lengths": batch.lengths}
    return given | {"attention_mask": batch.attention_mask}


PEERS: dict[str, tuple[float | None, Callable[[World], Step]]] = {
    "the floor: one forward pass under one merged adapter": (FLOOR_BAR, floor),
    "the floor merged into the weights": (FLOOR_BAR, merged_floor),
    "LoRAHub at equal padding": (LORAHUB_BAR, lambda world: lorahub(world, world.packed, "LoRAHub at equal padding")),
    "LoRAHub, padded": (None, lambda world: lorahub(world, [world.padded], "LoRAHub, padded")),
}
"""What ours must reach against each, and how it is made; those without a bar run fewer rounds."""


def contests(world: World, quick: bool) -> list[dict[str, Any]]:
    """Ours against everybody, one object a claim; printed as they come."""
    step, found = ours(world), []
    for barred, rounds in ((True, 1 if quick else 5), (False, 1 if quick else SIDE_ROUNDS)):
        own = Side(step)
        peers = {name: Side(make(world)) for name, (bar, make) in PEERS.items() if (bar is not None) is barred}
        contest({"": own} | peers, rounds, world.device)
        for name, side in peers.items():
            facts: dict[str, Any] = {
                "claim": f"a generation of {POPULATION} candidates against {name}",
                "setting": world.setting,
            }
            if name in world.losses:
                facts["loss_difference"] = float(f"{abs(world.losses[name][0] / world.losses['ours'][0] - 1):.2g}")
            found.append(claim(own, side, PEERS[name][0], world.device, **facts))
            print(json.dumps(found[-1]), flush=True)
    return found


def equality(world: World) -> dict[str, Any]:
    """The claim that no candidate's loss is another than the naive one."""
    ours(world)(0)
    wanted, found = np.array(naive(world, 0)), np.array(world.losses["ours"])
    furthest = float(np.abs(found / wanted - 1).max())
    apart = float(np.diff(np.sort(wanted)).min() / wanted.max())
    equal = EQUAL[world.base().model.embed_tokens.weight.dtype]
    return {
        "claim": f"the losses of {POPULATION} candidates are the naive ones: the largest difference, as a share",
        "setting": world.setting,
        "ours": float(f"{furthest:.2g}"),
        "peer": equal,
        "ratio": round(equal / furthest, 1) if furthest else None,
        "bar": 1,
        "holds": furthest <= equal,
        "closest_candidates": float(f"{apart:.2g}"),
    }


def main() -> None:
    """Run the contests and print their results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights, and not the trained base")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    made = options.shape or not REAL_BASE.is_dir()
    world = World(SHAPES[options.shape or "tiny"] if made else REAL_BASE, device)
    found = [equality(world)]
    print(json.dumps(found[0]), flush=True)
    found += contests(world, options.quick)
    found[0] |= {key: found[1][key] for key in ("device", "versions")}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
