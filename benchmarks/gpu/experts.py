#!/usr/bin/env python
"""Claim: on a GPU, four experts that share one base step 1.8 times as fast as one after another at 128 tokens a step.

The contest of `benchmarks/experts.py` by wall time on Qwen2-shaped 0.5B in NF4, without Ray and without any data. A GPU
may gain from passes of more tokens than the CPU's default: each size is measured at several limits, and the bar is for
the default one. Beside it: the peak of memory of both sides.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[1])]

import torch
from train_step import SHAPES

from experts import Side, World, claim, contest, one_after_another, open_base, shared
from medtrain.train.lanes.engine import PASS_TOKENS

GIB, EXPERTS, BAR = 2**30, 4, 1.8
LIMITS = (PASS_TOKENS, 4096, 16384)
"""Tokens up to which lanes share a pass."""


def peak_gib(side: Side, device: torch.device) -> float:
    """The most memory that one more step of a side takes."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    side.run(0, device)
    return round(float(torch.cuda.max_memory_allocated()) / GIB, 2)


def measured(base: Any, tokens: int, vocabulary: int, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """One object for each limit at one size of a step."""
    world = World(base, tokens, EXPERTS, vocabulary)
    sides = {str(limit): Side(shared(world, limit)) for limit in LIMITS} | {"alone": Side(one_after_another(world))}
    contest(sides, rounds, device)
    found = []
    for limit in LIMITS:
        bar = (BAR if tokens == 128 else 0.95) if limit == PASS_TOKENS else None
        text = f"{EXPERTS} experts of {tokens} tokens a step over one base against one after another, wall seconds"
        facts = {"claim": text, "setting": f"NF4, AdaLoRA r 12, packed, passes of {limit} tokens"}
        found.append(claim(sides[str(limit)], sides["alone"], bar, device, **facts))
    peaks = {name: peak_gib(side, device) for name, side in sides.items()}
    return [
        own | {"peak_gib": {"ours": peaks[str(limit)], "peer": peaks["alone"]}}
        for own, limit in zip(found, LIMITS, strict=True)
    ]


def main() -> None:
    """Run every size and print the results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest size, two rounds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device that PyTorch can use; --device cpu tries the script on a tiny model")
    torch.set_num_threads(1)
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    shape, found = SHAPES["tiny" if options.device == "cpu" else "qwen2-0.5b"], []
    with tempfile.TemporaryDirectory() as folder:
        base = open_base(shape, device, folder)
    for tokens in (128,) if options.quick else (128, 512, 1024, 4096):
        found += measured(base, tokens, shape.vocab_size, 2 if options.quick else 7, device)
        print("\n".join(map(json.dumps, found[-len(LIMITS) :])), flush=True)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
