"""Lanes over the made base and tokens, and the same training in a plain loop over PEFT."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from medtrain.artifacts import locate
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters
from medtrain.train.batches import collate
from medtrain.train.lanes.engine import LaneEngine
from medtrain.train.lanes.lane import Lane, LaneStep
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig, learning_rate
from medtrain.train.order import BatchConfig, Plan
from medtrain.train.state import State, trainable

PAD = 3
OPTIMIZER = OptimizerConfig(learning_rate=5e-3, weight_decay=1e-2, clip=0.02, warmup_fraction=0.2, lora_plus=2)


@dataclass(frozen=True)
class Expert:
    """One expert of the tests: its own rows, seed, batch and number of steps."""

    seed: int
    steps: int = 24
    rows: tuple[int, int] = (0, 64)
    size: int = 6
    micro_tokens: int = 96
    """Two or three micro-batches a step."""
    dropout: float = 0.1

    def adapter(self) -> dict[str, Any]:
        """AdaLoRA whose budget phase is over before its last third; the ranks of experts differ."""
        shape = {"init_rank": 4 + self.seed % 3, "target_rank": 2, "dropout": self.dropout}
        return {"kind": "adalora", **shape, "tinit": 3, "tfinal": self.steps // 3, "delta_t": 2}

    def batch(self) -> BatchConfig:
        return BatchConfig(size=self.size, micro_tokens=self.micro_tokens)

    def plan(self, samples: Samples) -> Plan:
        rows = samples.select("train")[slice(*self.rows)]
        return Plan(rows, samples.lengths[rows], self.batch(), seed=self.seed, epochs=50)


EXPERTS = {
    "a": Expert(1),
    "b": Expert(2, steps=15, rows=(0, 20), size=2, dropout=0.3),
    "c": Expert(3, rows=(10, 64), size=9),
}
"""`b` ends early and often has no second micro-batch; none has the batch sizes of another."""


class World:
    """The made artifacts at a precision; everything that trains on them."""

    experts, optimizer = EXPERTS, OPTIMIZER

    def __init__(self, store: Store, precision: str):
        # Computing in float32: a CPU may emulate bfloat16, which `test_layers.py` has.
        self._config = ModelConfig.model_validate({"precision": precision, "compute_dtype": "float32"})
        self.store = store
        self.samples = Samples.open(locate(store, "tokens", "tiny"))

    def base(self) -> Any:
        return load_base(str(self.store.local("bases/tiny")), self._config, torch.device("cpu"), "packed")

    def engine(self, **settings: Any) -> LaneEngine:
        return LaneEngine(self.base(), **settings)

    def lane(self, engine: LaneEngine, expert: Expert, state: State | None = None, updates: int = 0) -> Lane:
        """A fresh lane, or one that goes on."""
        model = engine.attach(expert.adapter(), expert.seed)
        rule = adapters.rule(expert.adapter(), model, expert.steps)
        lane = Lane(model, self.samples, batch=expert.batch(), optimizer=OPTIMIZER, pad_id=PAD, rule=rule)
        if state is not None:
            lane.go_on(state, updates)
        return lane

    def step(self, engine: LaneEngine, done: Mapping[str, int], **experts: Expert) -> dict[str, dict[str, float]]:
        """The next step of the named experts."""
        return engine.step(
            {
                name: LaneStep(
                    expert.plan(self.samples).at(done[name]),
                    learning_rate(OPTIMIZER, done[name], expert.steps),
                    done[name],
                )
                for name, expert in experts.items()
            }
        )

    def together(self, experts: Mapping[str, Expert], **settings: Any) -> dict[str, tuple[State, list[float]]]:
        """Train experts in one engine; each leaves when its steps are done."""
        engine, done = self.engine(**settings), dict.fromkeys(experts, 0)
        losses: dict[str, list[float]] = {name: [] for name in experts}
        lanes = {name: self.lane(engine, expert) for name, expert in experts.items()}
        for name, lane in lanes.items():
            engine.add(name, lane)
        while engine.lanes:
            found = self.step(engine, done, **{name: experts[name] for name in engine.lanes})
            for name, metrics in found.items():
                losses[name].append(metrics["loss"])
                done[name] += 1
                if done[name] == experts[name].steps:
                    engine.remove(name)
        return {name: (lane.weights(), losses[name]) for name, lane in lanes.items()}

    def plain(self, expert: Expert) -> tuple[State, State, list[float]]:
        """One expert in a loop over PEFT's own layers and rank allocation: weights before, after, and losses."""
        model = adapters.attach(self.base(), expert.adapter(), expert.seed).train()
        told = model.peft_config["default"]
        told.total_step, told.tinit, told.tfinal, told.deltaT = expert.steps, 3, expert.steps // 3, 2
        module = LossModule(model)
        parameters = trainable(module)
        start = {name: p.detach().clone() for name, p in parameters.items()}
        slow = [p for name, p in parameters.items() if "lora_B" not in name]
        fast = [p for name, p in parameters.items() if "lora_B" in name]
        adamw = torch.optim.AdamW([{"params": slow}, {"params": fast}], weight_decay=1e-2)
        plan, losses = expert.plan(self.samples), []
        for step in range(expert.steps):
            micro_batches = plan.at(step)
            trained = sum(int(self.samples.trained_tokens[row]) for m in micro_batches for row in m.rows)
            total = 0.0
            for micro in micro_batches:
                torch.manual_seed(micro.seed)
                loss = module(collate([self.samples[row] for row in micro.rows], expert.batch(), PAD))
                (loss / trained).backward()
                total += float(loss.detach())
            apart = [not_orthogonal(p if "lora_A" in n else p.T) for n, p in parameters.items() if "lora_E" not in n]
            (0.5 * torch.stack(apart).mean()).backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), OPTIMIZER.clip)
            rate = learning_rate(OPTIMIZER, step, expert.steps)
            adamw.param_groups[0]["lr"], adamw.param_groups[1]["lr"] = rate, 2 * rate
            adamw.step()
            model.base_model.update_and_allocate(step + 1)
            adamw.zero_grad()
            losses.append(total / trained)
        return start, {name: p.detach().clone() for name, p in parameters.items()}, losses

    @staticmethod
    def movement(start: State, wanted: State, found: State) -> float:
        """d = |w - w'| / |w - w0| over all tensors together."""
        apart = sum(float((wanted[name] - found[name]).square().sum()) for name in wanted)
        moved = sum(float((wanted[name] - start[name]).square().sum()) for name in wanted)
        return float((apart / moved) ** 0.5)


def not_orthogonal(rows: torch.Tensor) -> torch.Tensor:
    """||P P^T - I||_F."""
    return torch.linalg.norm(rows @ rows.T - torch.eye(len(rows)))


@pytest.fixture(scope="module")
def world(made_once: Store) -> Callable[[str], World]:
    """The made artifacts at a precision."""
    return lambda precision: World(made_once, precision)
