#!/usr/bin/env python
"""Claim: checkpoints cost next to nothing: 200 steps with one every 50 take at most 1.02 times as long as without.

For the adapter of a tiny model, gathered from the engine, and for a made state of 60 million weights with their moments
(720 MB), all written anew in each step as AdamW does and copied as gathering copies; both are written by the product's
own code, behind the training, where temporary files lie.
No step in which a checkpoint is copied or written may take more than 1.5 times the median of those without.

What differs is measured: ten steps, of which the first saves, until all is written, against the same ten without, in
turn; the other forty of fifty are the same in both. (Whole runs differ by how a machine's speed drifts, which is more.)
The first checkpoint is among them: its memory is made before the steps, as a run's.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).resolve().parent)]
os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # as `runtime.connect` gives it to workers; PyTorch reads it once

import torch
from train_step import RATE, SHAPES, join_alone, made_samples, native_bfloat16
from transformers import Qwen2ForCausalLM

from medtrain.storage import Store
from medtrain.train import adapters, attempts
from medtrain.train.checkpoint import Progress
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig, Plan
from medtrain.train.saver import Saver
from medtrain.train.state import on_host, room_for, trainable

STEPS, EVERY, WINDOW, ROUNDS = 200, 50, 10, 24
BAR, LONGEST, MADE_WEIGHTS = 1.02, 1.5, 60_000_000


@dataclass(frozen=True)
class Contest:
    """What is saved, and the samples of a step: whoever trains 60 million weights has no steps of half a second."""

    name: str
    samples: int
    made_weights: int

    @property
    def batch(self) -> BatchConfig:
        """Micro-batches of two samples of 256 tokens."""
        return BatchConfig(size=self.samples, layout="padded", micro_samples=2)


CONTESTS = (Contest("a tiny adapter", 2, 0), Contest("60M weights", 8, MADE_WEIGHTS))


def engine_of(contest: Contest, folder: str, device: torch.device) -> tuple[Engine, Plan]:
    """The product's engine on a made model."""
    shape = SHAPES["tiny"]
    torch.manual_seed(0)
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    compute = "bfloat16" if native_bfloat16(device) else "float32"
    base = load_base(folder, ModelConfig.model_validate({"compute_dtype": compute}), device, "padded")
    model = adapters.attach(base, {"kind": "lora", "rank": 64, "alpha": 16}, seed=0)
    samples = made_samples(contest.samples, shape.vocab_size)
    plan = Plan(samples.select("train"), samples.lengths, contest.batch, seed=0, epochs=WINDOW * (ROUNDS + 1))
    optimizer = OptimizerConfig(learning_rate=RATE)
    return Engine(model, samples, batch=contest.batch, optimizer=optimizer, engine=EngineConfig(), pad_id=0), plan


@dataclass(frozen=True)
class Lap:
    """A step, and whether a checkpoint was copied or written in it."""

    seconds: float
    cpu: float
    """CPU seconds of the training thread: what the step did not wait for."""
    saving: float
    """Seconds of it in which the state was copied and handed over."""
    writes: bool


def window(
    train: Callable[[int], None], number: int, saver: Saver, save: Callable[[int], None] | None
) -> tuple[list[Lap], float]:
    """The steps of a window, of which the first one saves; and seconds of all of it, until it is written."""
    laps, start = [], time.perf_counter()
    for step in range(number * WINDOW, (number + 1) * WINDOW):
        writes, began, cpu = bool(saver.reading), time.perf_counter(), time.thread_time()
        train(step)
        stepped = time.perf_counter()
        if save is not None and step == number * WINDOW:
            writes = True
            save(step + 1)
        ended = time.perf_counter()
        laps.append(Lap(ended - began, time.thread_time() - cpu, ended - stepped, writes))
    while saver.reading:
        time.sleep(0.01)
    return laps, time.perf_counter() - start


def held(contest: Contest, rounds: int) -> dict[str, Any]:
    """So many windows with and without a checkpoint in turn, on one engine."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    made = {name: torch.randn(contest.made_weights) for name in ("weight/x", "exp_avg/x", "exp_avg_sq/x")}
    with tempfile.TemporaryDirectory() as folder:
        engine, plan = engine_of(contest, f"{folder}/base", device)
        store = Store(f"{folder}/run")
        saver = Saver(store, attempts.claim(store), keep=2)

        kept = room_for(trainable(engine.deepspeed.module), "adamw")
        if contest.made_weights:
            kept = {name: torch.zeros_like(tensor) for name, tensor in made.items()}

        def train(step: int) -> None:
            engine.step(plan.at(step), RATE)
            for tensor in made.values():  # memory that nothing touches may be taken back by a virtual machine's host
                tensor.mul_(1)

        def save(step: int) -> None:
            # As the loop, where its tiers are done with the state before: a window waits for it.
            gathered = {name: on_host(tensor, name, kept) for name, tensor in made.items()}
            kept.update(gathered if contest.made_weights else engine.state(kept))
            saver.save(Progress(step=step), dict(kept))

        window(train, 0, saver, None)
        steps: dict[bool, list[Lap]] = {True: [], False: []}
        costs = []
        for number in range(1, 1 + rounds):
            took = {}
            for saves in (True, False) if number % 2 else (False, True):
                laps, took[saves] = window(train, number, saver, save if saves else None)
                steps[saves] += laps
            costs.append(took[True] - took[False])
            print(f"{contest.name}, round {number} of {rounds}: {took[True]:.2f} s, {costs[-1]:+.2f} s", flush=True)
        saver.finish()
        trained = contest.made_weights or sum(t.numel() for t in engine.weights().values())
        engine.release()
    plain, cost = STEPS * statistics.mean(lap.seconds for lap in steps[False]), statistics.mean(costs)
    total = plain + STEPS / EVERY * cost
    median = statistics.median(lap.seconds for lap in steps[False])
    longest = {
        writes: max((lap for lap in steps[True] + steps[False] if lap.writes == writes), key=lambda lap: lap.seconds)
        for writes in (True, False)
    }
    return {
        "claim": f"{STEPS} steps with a checkpoint every {EVERY} against without, {contest.name}",
        "setting": f"{trained:,} trained weights, {12 * trained / 1e6:,.0f} MB a checkpoint",
        "ours": round(total, 2),
        "peer": round(plain, 2),
        "ratio": round(plain / total, 4),
        "bar": round(1 / BAR, 4),
        "holds": total <= BAR * plain and longest[True].seconds <= LONGEST * median,
        "seconds_a_checkpoint": round(cost, 3),
        "standard_error": round(statistics.stdev(costs) / math.sqrt(rounds), 3) if rounds > 1 else None,
        "longest_step_over_median": round(longest[True].seconds / median, 3),
        "of_which_cpu": round(longest[True].cpu / median, 3),
        "of_which_saving": round(longest[True].saving / median, 3),
        "longest_without": round(longest[False].seconds / median, 3),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "deepspeed", "bitsandbytes", "peft")},
    }


def main() -> None:
    """Run both contests and print their results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    join_alone(device)
    rounds = 1 if options.quick else ROUNDS
    print(json.dumps([held(contest, rounds) for contest in CONTESTS]), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
