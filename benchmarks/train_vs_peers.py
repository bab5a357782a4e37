#!/usr/bin/env python
"""Claim: more useful tokens a second than the trainers that people use, on the demo's five-corpus mix.

Peers: TRL's SFTTrainer, unpacked and packed, and Transformers' Trainer with bitsandbytes and PEFT, as their users get
them; `make bench-env` installs them beside the project's environment. All train the same rows of the same NF4 base with
the same LoRA, four rows a micro-batch and four of these a step, in a process of their own and in turn. Against an
unpacked peer the bar is 0.95 times what its padding costs (positions by useful tokens of its own batches).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "benchmarks")]

import torch
from train_step import join_alone, native_bfloat16

from medtrain import artifacts
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train import adapters
from medtrain.train.deepspeed_config import EngineConfig
from medtrain.train.engine import Engine
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.optimizer import OptimizerConfig
from medtrain.train.order import BatchConfig, Plan

MICRO, ACCUMULATION, STEPS, WARM_UP, PACKED_TOKENS, RATE = 4, 4, 26, 2, 512, 1e-4
LORA = {"r": 64, "lora_alpha": 16, "lora_dropout": 0.05}
PEERS = ("trl", "trl-packed", "trainer")
NAMES = {
    "trl": "TRL's SFTTrainer, unpacked",
    "trl-packed": "TRL's SFTTrainer, packed",
    "trainer": "Transformers' Trainer with PEFT",
}
TOKENS, OF_PADDING, PACKED_BAR = "demo-stage2", 0.95, 1.15


def ours(job: dict[str, Any]) -> dict[str, float]:
    """The product's engine on packed micro-batches."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    torch.set_num_threads(1)
    join_alone(device)
    samples = Samples.open(artifacts.locate(Store(job["home"]), "tokens", TOKENS))
    batch = BatchConfig(size=MICRO * ACCUMULATION, layout="packed", micro_tokens=PACKED_TOKENS)
    rows = samples.select("train")
    plan = Plan(rows, samples.lengths[rows], batch, seed=0, epochs=1)
    model = load_base(
        job["base"], ModelConfig.model_validate({"compute_dtype": job["compute_dtype"]}), device, batch.layout
    )
    lora = {"kind": "lora", "rank": LORA["r"], "alpha": LORA["lora_alpha"], "dropout": LORA["lora_dropout"]}
    optimizer = OptimizerConfig(learning_rate=RATE)
    engine = Engine(
        adapters.attach(model, lora, seed=0), samples, batch=batch, optimizer=optimizer, engine=EngineConfig(), pad_id=0
    )
    tokens, began = 0.0, 0.0
    for step in range(STEPS):
        if step == WARM_UP:
            began = time.perf_counter()
        metrics = engine.step(plan.at(step), RATE)
        tokens += metrics["tokens"] if step >= WARM_UP else 0
    seconds = time.perf_counter() - began
    torch.distributed.destroy_process_group()
    return {"seconds": seconds, "tokens": tokens, "positions": tokens}


def mix(home: str) -> tuple[str, list[dict[str, list[int]]]]:
    """The demo's base and its rows; made by its jobs where they are not there yet."""
    store = Store(home)
    if not store.exists(f"tokens/{TOKENS}/manifest.json"):
        for job in ("prepare_data", "build_tokens"):
            command = [sys.executable, str(PROJECT / "jobs" / f"{job}.py"), f"storage.root={home}"]
            subprocess.run(command, check=True, stdout=sys.stderr)
    artifact = artifacts.locate(store, "tokens", TOKENS)
    samples, rows = Samples.open(artifact), []
    for number in samples.select("train"):
        ids = [int(token) for token in samples[number].input_ids]
        labels = [-100] * len(ids)
        for first, end in samples[number].trained:
            labels[first:end] = ids[first:end]
        rows.append({"input_ids": ids, "labels": labels})
    return artifacts.model_path(store, str(artifact.facts["base"])), rows


def run(kind: str, python: str, job: Path) -> dict[str, float]:
    """One contestant's process; what it printed last."""
    script = [__file__, "--contestant"] if kind == "ours" else [str(PROJECT / "benchmarks/peers/sft.py"), kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([python, *script, str(job)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def results(runs: dict[str, list[dict[str, float]]], peer_python: str) -> list[dict[str, Any]]:
    """One object a peer; a ratio is the median over rounds."""
    listing = (
        "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in ('trl', 'transformers')}))"
    )
    versions = json.loads(subprocess.run([peer_python, "-c", listing], capture_output=True, text=True).stdout)
    found = []
    for peer in PEERS:
        rates = {k: [r["tokens"] / r["seconds"] for r in runs[k]] for k in ("ours", peer)}
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates[peer], strict=True))
        padding = statistics.median(r["positions"] / r["tokens"] for r in runs[peer])
        bar = {"trl": OF_PADDING * padding, "trl-packed": PACKED_BAR, "trainer": None}[peer]
        found.append(
            {
                "claim": f"useful tokens/s against {NAMES[peer]}",
                "ours": round(statistics.median(rates["ours"]), 1),
                "peer": round(statistics.median(rates[peer]), 1),
                "ratio": round(ratio, 4),
                "bar": None if bar is None else round(bar, 4),
                "holds": bar is None or ratio >= bar,
                "positions_by_useful_tokens": round(padding, 4),
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 1 thread",
                "versions": {"torch": version("torch"), "deepspeed": version("deepspeed"), **versions},
            }
        )
    return found


def main() -> None:
    """Let everybody train in turn and print the results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--peers", default=str(PROJECT / ".bench-env"), help="the environment of the peers")
    parser.add_argument("--home", help="a storage root that has, or gets, the demo's tokens")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(ours(json.loads(Path(options.contestant).read_text()))), flush=True)
        return
    peer_python = f"{options.peers}/bin/python"
    if not Path(peer_python).exists():
        sys.exit(f"no environment of peers at {options.peers}; make bench-env makes it")
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home or f"{scratch}/home"
        base, rows = mix(home)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        job = {
            "base": base,
            "rows": rows,
            "home": home,
            "scratch": f"{scratch}/peer",
            "compute_dtype": "bfloat16" if native_bfloat16(device) else "float32",
            "lora": LORA,
            "micro_samples": MICRO,
            "accumulation": ACCUMULATION,
            "steps": STEPS,
            "warm_up": WARM_UP,
            "packed_tokens": PACKED_TOKENS,
            "learning_rate": RATE,
        }
        path = Path(scratch) / "job.json"
        path.write_text(json.dumps(job))
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("ours", *PEERS)}
        for number in range(1 if options.quick else 3):
            for kind in runs if number % 2 == 0 else reversed(list(runs)):
                runs[kind].append(run(kind, sys.executable if kind == "ours" else peer_python, path))
                last = runs[kind][-1]
                print(f"round {number + 1}, {kind}: {last['tokens'] / last['seconds']:,.0f} tokens/s", flush=True)
        print(json.dumps(results(runs, peer_python)), flush=True)


if __name__ == "__main__":
    main()
