#!/usr/bin/env python
"""Claim: a training step under DeepSpeed ZeRO-1 costs what a bare PyTorch loop costs, to within three per cent.

Ours is `Engine.step`; the peer is the loop below: same NF4 base, LoRA, micro-batches, seeds, collation, loss, AdamW,
clipping and thread count. They alternate step by step in one process. On a CPU the ratio is of CPU time (wall time
beside it), on a GPU of wall time. ZeRO-2 and ZeRO-3 are reported from fewer rounds and claim nothing.

On a CPU without bfloat16 instructions everybody computes in float32: bfloat16 products are emulated there, at a
fortieth of the speed, and would hide whatever the engine costs.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import pyarrow as pa
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from medtrain.tokens.shards import SCHEMA, Samples
from medtrain.train import adapters
from medtrain.train.batches import collate
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine, join_group
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig, build
from medtrain.train.order import BatchConfig, MicroBatch, Plan

SHAPES = {
    "tiny": Qwen2Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "qwen2-0.5b": Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
}
TOKENS, MICRO_SAMPLES, ACCUMULATION, RATE, BAR, SIDE_ROUNDS = 256, 4, 4, 1e-4, 0.97, 2
ADAPTER = {"kind": "lora", "rank": 64, "alpha": 16, "dropout": 0.05}
BATCH = BatchConfig(size=MICRO_SAMPLES * ACCUMULATION, layout="padded", micro_samples=MICRO_SAMPLES)
OPTIMIZER = OptimizerConfig(learning_rate=RATE)
Step = Callable[[list[MicroBatch]], float]


@dataclass
class Runner:
    """One contestant and the seconds of each of its steps."""

    step: Step
    linear: Any = field(default_factory=lambda: torch.nn.functional.linear)
    """The linear layer as it is after this contestant was built: ZeRO-3 replaces it for the whole process."""
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def run(self, micro_batches: list[MicroBatch], cuda: bool) -> None:
        """Make one step and note what it took."""
        torch.nn.functional.linear = self.linear
        cpu, wall = time.process_time(), time.perf_counter()
        loss = self.step(micro_batches)
        if cuda:
            torch.cuda.synchronize()
        self.cpu_s.append(time.process_time() - cpu)
        self.wall_s.append(time.perf_counter() - wall)
        self.losses.append(loss)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 by itself."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def made_samples(count: int, vocabulary: int, tokens: int = TOKENS) -> Samples:
    """Rows of random tokens, the second half of each trained."""
    draw = np.random.default_rng(0)
    text = {"source": "made", "task": "qa", "category": "QA", "language": "en", "split": "train"}
    span = {"length": tokens, "trained_tokens": tokens // 2, "trained": [[tokens // 2, tokens]]}
    rows = [{"id": str(n), **text, **span, "input_ids": draw.integers(1, vocabulary, tokens)} for n in range(count)]
    return Samples(pa.Table.from_pylist(rows, schema=SCHEMA))


def bare(model: Any, samples: Samples, device: torch.device) -> Step:
    """The peer: a step in plain PyTorch."""
    module = LossModule(model.train())
    optimizer = build(OPTIMIZER, module.named_parameters())
    trained = [p for p in module.parameters() if p.requires_grad]

    def step(micro_batches: list[MicroBatch]) -> float:
        tokens = sum(int(samples.trained_tokens[row]) for micro in micro_batches for row in micro.rows)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for micro in micro_batches:
            batch = collate([samples[row] for row in micro.rows], BATCH, 0).to(device)
            torch.manual_seed(micro.seed)
            loss = module(batch)
            total += loss.detach().double()
            (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(trained, OPTIMIZER.clip)
        optimizer.step()
        optimizer.zero_grad()
        return float(total) / tokens

    return step


def ours(model: Any, samples: Samples, stage: Literal[1, 2, 3]) -> Step:
    """The product's step at a ZeRO stage."""
    engine = Engine(model, samples, batch=BATCH, optimizer=OPTIMIZER, engine=EngineConfig(zero_stage=stage), pad_id=0)
    return lambda micro_batches: engine.step(micro_batches, RATE)["loss"]


def join_alone(device: torch.device) -> None:
    """A process group of one, as a worker of a run on one device has it."""
    given = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    os.environ.update(given)
    store = torch.distributed.TCPStore("127.0.0.1", 0, 1, is_master=True)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    join_group()


def contest(shape: Qwen2Config, device: torch.device, rounds: int) -> dict[str, Runner]:
    """Everybody in turn, each round in the opposite order of the one before, after one round that is not counted."""
    samples = made_samples(BATCH.size * 2, shape.vocab_size)
    plan = Plan(samples.select("train"), samples.lengths, BATCH, seed=0, epochs=rounds + 1)
    runners: dict[str, Runner] = {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Qwen2ForCausalLM(shape).save_pretrained(folder)
        contestants: dict[str, Literal[1, 2, 3] | None] = {"bare PyTorch": None, "ZeRO-1": 1, "ZeRO-2": 2, "ZeRO-3": 3}
        for name, stage in contestants.items():
            compute = "bfloat16" if native_bfloat16(device) else "float32"
            base = load_base(folder, ModelConfig.model_validate({"compute_dtype": compute}), device, "padded")
            model = adapters.attach(base, ADAPTER, seed=0)
            step = bare(model, samples, device) if stage is None else ours(model, samples, stage)
            runners[name] = Runner(step)
    for number in range(rounds + 1):
        names = list(runners) if number <= SIDE_ROUNDS else list(runners)[:2]
        for name in names if number % 2 else reversed(names):
            runners[name].run(plan.at(number), device.type == "cuda")
        print(
            f"round {number} of {rounds}: " + ", ".join(f"{n} {runners[n].wall_s[-1]:.2f} s" for n in names), flush=True
        )
    return runners


def results(runners: dict[str, Runner], shape: str, device: torch.device) -> list[dict[str, Any]]:
    """One object a claim; a ratio is the median over rounds of peer / ours, each round against itself."""
    peer, found = runners.pop("bare PyTorch"), []
    cuda = device.type == "cuda"
    for name, runner in runners.items():
        times = {"cpu": (peer.cpu_s[1:], runner.cpu_s[1:]), "wall": (peer.wall_s[1:], runner.wall_s[1:])}
        ratios = {key: statistics.median(p / o for p, o in zip(*pair, strict=False)) for key, pair in times.items()}
        unit, arithmetic = "wall" if cuda else "cpu", "bfloat16" if native_bfloat16(device) else "float32"
        bar = BAR if name == "ZeRO-1" else None
        off = max(abs(a - b) / b for a, b in zip(runner.losses, peer.losses, strict=False))
        found.append(
            {
                "claim": f"{name} step against bare PyTorch by {unit} time",
                "setting": f"{shape} base in NF4, LoRA r 64, 4 micro-batches of 4 x 256 tokens",
                "arithmetic": arithmetic,
                "ours": round(statistics.median(times[unit][1]), 4),
                "peer": round(statistics.median(times[unit][0]), 4),
                "ratio": round(ratios[unit], 4),
                "bar": bar,
                "holds": bar is None or ratios[unit] >= bar,
                "wall_ratio": round(ratios["wall"], 4),
                "loss_difference": float(f"{off:.2g}"),
                "tokens_per_s": round(TOKENS * BATCH.size / statistics.median(times["wall"][1])),
                "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} thread(s)",
                "versions": {p: version(p) for p in ("torch", "deepspeed", "bitsandbytes", "peft", "transformers")},
            }
        )
    return found


def main() -> None:
    """Run the contest and print its results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads, the same for everybody")
    options = parser.parse_args()
    cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    torch.set_num_threads(options.threads)
    join_alone(device)
    runners = contest(SHAPES[options.shape], device, 2 if options.quick else 7)
    print(json.dumps(results(runners, options.shape, device)), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
