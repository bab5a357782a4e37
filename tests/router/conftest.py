"""Experts over the made base, and the same mixtures the slow way: one float64 model for each candidate."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin, locate
from medtrain.config import parse
from medtrain.experts.folder import Adapter, Factors, write
from medtrain.experts.fuse import Granularity, place
from medtrain.router import fit
from medtrain.router.examples import Examples
from medtrain.router.gate import Gate, RouterConfig, norms_of
from medtrain.router.inputs import Part
from medtrain.router.mixture import Merge, Mixture
from medtrain.router.objective import Objective, PassConfig, Problem
from medtrain.router.settings import FitConfig
from medtrain.router.worker import Device, Here, Task
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples, shard_path, write_shard
from medtrain.train.batches import trained_positions
from medtrain.train.model import ModelConfig, load_base

PAD = 3


class World:
    """The made base and tokens, and experts of unequal ranks, scales and modules, each with a movement that shows."""

    def __init__(self, store: Store):
        self.store = store
        self.path = str(store.local("bases/tiny"))
        self._double: Any = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float64).requires_grad_(False)
        self.samples = Samples.open(locate(store, "tokens", "tiny"))
        self.experts = [self.expert(1, 3, 0.5), self.expert(2, 2, 2.0, "q_proj", "gate_proj", "down_proj")]
        self.experts.append(self.expert(3, 5, 1.0, "v_proj", "down_proj"))

    def base(self, precision: str = "fp32", **settings: Any) -> Any:
        config = ModelConfig.model_validate({"precision": precision, **settings})
        return load_base(self.path, config, torch.device("cpu"), "packed")

    def expert(self, seed: int, rank: int, scale: float, *targets: str) -> Adapter:
        """A random adapter of the layers whose names end in one of the targets, or of all but the head."""
        draw, modules = torch.Generator().manual_seed(seed), {}
        for name, layer in self.base().named_modules():
            if isinstance(layer, torch.nn.Linear) and name != "lm_head" and (not targets or name.endswith(targets)):
                A = 0.2 * torch.randn(rank, layer.in_features, generator=draw)
                modules[name] = Factors(A, 0.2 * torch.randn(layer.out_features, rank, generator=draw), scale)
        return Adapter("artifact:bases/tiny", modules)

    def rows(self, *numbers: int) -> list[Sample]:
        return [self.samples[number] for number in numbers]

    def naive(self, samples: Sequence[Sample], weights: Any, granularity: Granularity = "task") -> torch.Tensor:
        """The mean loss of trained tokens of W0 + sum_i R_i s_i B_i A_i (eq. (10), STAF-LLM), sample by sample.

        Args:
            samples: rows.
            weights: place -> (experts,) float64, through which gradients flow.
            granularity: what has weights of its own.
        """
        changed = {}
        for name, layer in self._double.named_modules():
            for expert, weight in zip(self.experts, weights.get(place(name, granularity), ()), strict=False):
                if (factors := expert.modules.get(name)) is not None:
                    update = weight * factors.scale * factors.B.double() @ factors.A.double()
                    changed[f"{name}.weight"] = changed.get(f"{name}.weight", layer.weight.detach()) + update
        total, count = torch.zeros((), dtype=torch.float64), 0
        for sample in samples:
            ids = torch.tensor(sample.input_ids, dtype=torch.int64)
            logits = torch.func.functional_call(self._double, changed, (), {"input_ids": ids[None]}).logits[0]
            at = torch.from_numpy(trained_positions(sample))
            total = total + cross_entropy(logits[at - 1], ids[at], reduction="sum")
            count += len(at)
        return total / count


@pytest.fixture(scope="module")
def world(made_once: Store) -> World:
    """The made base with experts."""
    return World(made_once)


@pytest.fixture(scope="module")
def random_weights() -> Callable[..., torch.Tensor]:
    """(C, places, experts) float64 weights by seed, each place's sum 1."""

    def draw(candidates: int, places: int, experts: int, seed: int = 0) -> torch.Tensor:
        shape, by = (candidates, places, experts), torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=by, dtype=torch.float64).softmax(-1)

    return draw


class Taught:
    """Rows whose trained tokens are what the base with one of three experts would have said."""

    names, right = ("one", "two", "three"), 1

    def __init__(self, world: World):
        self._world = world
        self.experts = [world.expert(seed, 3, 1.5) for seed in (11, 12, 13)]
        mixture = Mixture(world.base(), self.experts, "task")
        one = torch.zeros(1, 1, 3)
        one[0, 0, self.right] = 1
        self.samples = []
        for sample in world.rows(*range(10)):
            ids = torch.tensor(sample.input_ids, dtype=torch.int64)
            ((first, end),) = sample.trained
            for at in range(first, end):
                with torch.no_grad(), mixture.weighted(one):
                    told = {"position_ids": torch.arange(at)[None], "sample_lengths": (at,)}
                    ids[at] = mixture.model(input_ids=ids[None, :at], use_cache=False, **told).logits[0, -1].argmax()
            self.samples.append(replace(sample, input_ids=ids.to(torch.int32).numpy()))

    def objective(self, merge: Merge = "cat", **router: Any) -> Objective:
        """A fresh one, at the granularity of a task."""
        config = PassConfig(micro_tokens=4096, candidates_per_pass=2)
        mixture = Mixture(self._world.base(), self.experts, "task", merge)
        gate = Gate(RouterConfig(**router), norms_of(self.experts, mixture.modules))
        return Objective(gate, Problem(Examples(mixture, self.samples, config), self.samples, config))


@pytest.fixture(scope="module")
def taught(world: World) -> Taught:
    """A task that the second expert knows best."""
    return Taught(world)


NAMES = ("one", "two", "three")


class Shelf:
    """A storage root with two libraries of three experts (`even`: of one rank) and a task's tokens in three splits."""

    def __init__(self, world: World):
        self.root, self.world = world.store, world
        self.even = [world.expert(seed, 3, 1.0) for seed in (21, 22, 23)]
        self._library("uneven", world.experts)
        self._library("even", self.even)
        build = self._begin("tokens", "task")
        splits = ["train"] * 16 + ["validation"] * 6 + ["test"] * 5
        rows = [replace(world.samples[number], split=split) for number, split in enumerate(splits)]
        write_shard(build.store, shard_path(0), rows)
        for path in locate(self.root, "tokens", "tiny").store.files("tokenizer"):
            build.store.write(path, self.root.read(f"tokens/tiny/{path}"))
        self.tokens = build.finish({"base": "artifact:bases/tiny", "context_tokens": 64})

    def samples(self, split: str) -> list[Sample]:
        """The task's rows of a split, in artifact order."""
        found = Samples.open(self.tokens)
        return [found[int(row)] for row in found.select(split)]

    def config(self, name: str, **settings: Any) -> FitConfig:
        """A fit of the task with the experts of unequal ranks."""
        given = {"model": {"precision": "fp32"}, "passes": {"micro_tokens": 128, "candidates_per_pass": 2}}
        return parse(FitConfig, {"name": name, "library": "uneven", "tokens": "task", "seed": 3, **given, **settings})

    def here(self, config: FitConfig, part: Part) -> Here:
        """Who runs the model: this process."""
        return Here(Device(1, gpu=False), Task(root=self.root.root, fit=config, part=part))

    def fit(self, name: str, **settings: Any) -> Artifact:
        """A fit in this process."""
        return fit.run(self.root, self.config(name, **settings), Policy(), self.here)

    def _begin(self, kind: str, name: str) -> Build:
        build = begin(self.root, kind, name, Identity({}, {}, name), Policy())
        assert isinstance(build, Build)
        return build

    def _library(self, name: str, experts: Sequence[Adapter]) -> None:
        build, facts = self._begin("library", name), {}
        for number, (expert, adapter) in enumerate(zip(NAMES, experts, strict=True)):
            write(build.store, expert, adapter)
            ranks = {module: factors.rank for module, factors in adapter.modules.items()}
            facts[expert] = {"category": "question answering", "ranks": ranks, "non_commercial": number == 2}
        build.finish({"base": "artifact:bases/tiny", "experts": facts})


@pytest.fixture(scope="module")
def shelf(world: World) -> Shelf:
    """Libraries and a task to fit."""
    return Shelf(world)
