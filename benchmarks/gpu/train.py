#!/usr/bin/env python
"""Claims: QLoRA on Qwen2-shaped models trains at least as many tokens a second as plain Transformers with PEFT, and
what the estimator says of a 24 GB card is true (a cap on this device's memory makes one; a CPU has no such claim).

Without Ray and without any data: random weights, made rows of 1,024 tokens, NF4, LoRA of rank 64 on every linear layer,
layers recomputed, four rows at once. Beside tokens/s: the share of the device's peak (MFU), the peak of memory and the
seconds of a step against the estimator's, and the hours that BioQwen's 87 million tokens in 3 + 5 epochs would take on
four RTX 3090, by the ratio of peaks.
LLaMA-Factory runs as well where it is installed; peers that did not run are named with the reason.
"""

import argparse
import gc
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[1])]
NEEDED = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "deepspeed",
    "accelerate",
    "pydantic",
    "pyarrow",
    "safetensors",
)
TORCH = (2, 11)
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
held = "" if "torch" in missing else version("torch")
too_old = bool(held) and tuple(map(int, held.split(".")[:2])) < TORCH
if missing or too_old or sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit(
        f"Python {sys.version.split()[0]} (3.11 or 3.12 is needed); missing packages: {', '.join(missing) or 'none'}; "
        f"too old: {f'torch {held} ({TORCH[0]}.{TORCH[1]} is needed)' if too_old else 'none'}"
    )

import numpy as np
import torch
from gpu import card
from peers import factory
from peft import LoraConfig, get_peft_model
from train_step import join_alone, made_samples
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config, Qwen2ForCausalLM

from medtrain import runtime
from medtrain.tokens.shards import Samples
from medtrain.train import adapters, estimate
from medtrain.train.engine import Engine
from medtrain.train.footprint import ModelShape, shape_of
from medtrain.train.loss import liger
from medtrain.train.model import load_base
from medtrain.train.order import MicroBatch, Plan
from medtrain.train.stage import StageConfig

GIB, TOKENS, MICRO, RATE = 2**30, 1024, 4, 1e-4
SHAPES: dict[str, tuple[dict[str, Any], float | None]] = {
    "tiny": ({"hidden": 64, "layers": 2, "inner": 128, "heads": 4, "kv": 2, "tied": True, "vocabulary": 512}, None),
    "0.5B": ({"hidden": 896, "layers": 24, "inner": 4864, "heads": 14, "kv": 2, "tied": True}, 5 + 18),
    "1.5B": ({"hidden": 1536, "layers": 28, "inner": 8960, "heads": 12, "kv": 2, "tied": True}, 6 + 39),
    "1.8B": ({"hidden": 2048, "layers": 24, "inner": 5504, "heads": 16, "kv": 16, "tied": False}, 7 + 44),
}
"""Sizes, and BioQwen's hours for both stages on four RTX 3090 (its table of times)."""


def make_base(name: str, folder: str, device: torch.device) -> None:
    """A model of random weights, saved in bfloat16."""
    size = SHAPES[name][0]
    config = Qwen2Config(
        vocab_size=size.get("vocabulary", 151936),
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        intermediate_size=size["inner"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv"],
        tie_word_embeddings=size["tied"],
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with device:
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)


def staged(micro: int, checkpointing: str) -> StageConfig:
    """BioQwen's stage 2 with micro-batches of so many rows."""
    batch = {"size": 4 * micro, "layout": "padded", "micro_samples": micro}
    given = {"name": "x", "stage": 2, "tokens": "x", "recipe": "bioqwen", "batch": batch}
    return StageConfig.model_validate({**given, "engine": {"gradient_checkpointing": checkpointing}})


Steps = tuple[Callable[[list[MicroBatch]], None], Callable[[], None]]
"""A contestant's step, and what gives its memory back."""


def ours(folder: str, config: StageConfig, samples: Samples, device: torch.device) -> Steps:
    """The product's step."""
    model = adapters.attach(load_base(folder, config.model, device, config.batch.layout), config.adapter, seed=0)
    engine = Engine(model, samples, batch=config.batch, optimizer=config.optimizer, engine=config.engine, pad_id=0)

    def step(micro_batches: list[MicroBatch]) -> None:
        engine.step(micro_batches, RATE)

    return step, engine.release


def plain(folder: str, config: StageConfig, samples: Samples, device: torch.device) -> Steps:
    """The peer: Transformers' own loss under PEFT and autocast, AdamW, layers recomputed, as careful users write it."""
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantised, dtype=torch.bfloat16, device_map={"": device}, attn_implementation="sdpa"
    )
    model.requires_grad_(False)
    lora = LoraConfig(r=64, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    peft_model: Any = get_peft_model(model, lora).train()
    if config.engine.gradient_checkpointing == "whole":
        peft_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peft_model.enable_input_require_grads()
    trained = [p for p in peft_model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=RATE)

    def step(micro_batches: list[MicroBatch]) -> None:
        for micro in micro_batches:
            ids = torch.tensor(np.stack([samples[row].input_ids for row in micro.rows])).long().to(device)
            labels = ids.clone()
            labels[:, : ids.shape[1] // 2] = -100
            with torch.autocast(device.type, torch.bfloat16):
                loss = peft_model(input_ids=ids, labels=labels).loss
            (loss / len(micro_batches)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        adamw.step()
        adamw.zero_grad()

    return step, lambda: None


def timed(contestant: Steps, plan: Plan, steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds a step after one that is not counted, and the peak of memory in GiB; nothing is held afterwards."""
    cuda, (step, release) = device.type == "cuda", contestant
    try:
        step(plan.at(0))
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for number in range(1, steps + 1):
            step(plan.at(number))
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps, torch.cuda.max_memory_allocated() / GIB if cuda else 0.0
    finally:
        release()


def forget(device: torch.device) -> None:
    """Give all memory back before the next contestant."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def others(
    folder: str, steps: int, tokens: int, device: torch.device, environment: Path | None
) -> dict[str, dict[str, Any] | str]:
    """The peers that people may lack: what was measured, or why nothing was."""
    batch = staged(MICRO, "whole").batch
    race = factory.Race(folder, tokens, MICRO, batch.size // MICRO, steps, RATE, device.type == "cpu")
    unsloth = importlib.util.find_spec("unsloth")
    return {
        "llamafactory": factory.run(race, Path(folder) / "llamafactory", environment),
        "unsloth": "installed, not run: it patches Transformers for the whole process" if unsloth else "not installed",
    }


def contest(name: str, steps: int, tokens: int, device: torch.device, environment: Path | None) -> list[dict[str, Any]]:
    """The claims about one shape: ours and the peers, and on a GPU the estimator's word on a smaller card."""
    config = staged(MICRO, "whole")
    with tempfile.TemporaryDirectory() as folder:
        make_base(name, folder, device)
        shape = shape_of(folder, config)
        samples = made_samples(config.batch.size, shape.vocabulary, tokens)
        plan = Plan(np.arange(config.batch.size), samples.lengths, config.batch, seed=0, epochs=steps + 1)
        found = {}
        for who, build in (("peer", plain), ("ours", ours)):
            forget(device)
            found[who] = timed(build(folder, config, samples, device), plan, steps, device)
        forget(device)
        settings = on_the_card(folder, device) if device.type == "cuda" else []
        beside = others(folder, steps, tokens, device, environment)
    peak, expected = expectation(shape, config, samples, device)
    rate = {who: config.batch.size * tokens / seconds for who, (seconds, _) in found.items()}
    factory_found = beside["llamafactory"]
    if not isinstance(factory_found, str):
        factory_found["ratio"] = round(rate["ours"] / factory_found["tokens_per_s"], 4)
    trained = float(samples.trained_tokens.sum() / samples.lengths.sum())
    flops = estimate.token_flops(shape, config, float(tokens), trained=trained, recomputing=False)
    hours = card.bioqwen_hours(rate["ours"], peak) if peak else None
    facts = about(device)
    speed = {
        "claim": f"tokens/s of QLoRA on a {name} model against Transformers with PEFT",
        "setting": f"NF4, LoRA r 64, {config.batch.size} rows of {tokens} tokens a step, {MICRO} at once, recomputed",
        "ours": round(rate["ours"], 1),
        "peer": round(rate["peer"], 1),
        "ratio": round(rate["ours"] / rate["peer"], 4),
        "bar": 1.0,
        "holds": rate["ours"] >= rate["peer"],
        "mfu": round(flops * rate["ours"] / peak, 4) if peak else None,
        "head": "Liger" if device.type == "cuda" and liger() else "chunks",
        **beside,
        "peak_gib": {who: round(peak, 2) for who, (_, peak) in found.items()},
        "estimated_gib": expected["gib"],
        "step_s": {"ours": round(found["ours"][0], 4), "estimated": expected["step_s"]},
        "hours_on_four_rtx3090": {"by peaks": round(hours, 1) if hours else None, "BioQwen": SHAPES[name][1]},
        **facts,
    }
    return [speed, card.claim(f"a {name} model", settings, facts)] if settings else [speed]


def about(device: torch.device) -> dict[str, Any]:
    """What every claim says of where it was looked at."""
    packages = ("torch", "deepspeed", "bitsandbytes", "peft", "transformers")
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": named, "versions": {package: version(package) for package in packages}}


def expectation(
    shape: ModelShape, config: StageConfig, samples: Samples, device: torch.device
) -> tuple[float | None, dict[str, float | None]]:
    """The device's peak in FLOP/s, where its class is known, and the estimator's memory and seconds of a step.

    A GPU of no known class has the memory of any other, and no seconds; a CPU has those of one core.
    """
    cuda = device.type == "cuda"
    kind = estimate.device_class(torch.cuda.get_device_name(device)) if cuda else "cpu-core"
    said = estimate.estimate(shape, config, samples.lengths, 1, kind or "rtx3090")
    seconds = round(said.step_s, 4) if kind else None
    return estimate.DEVICES[kind] if cuda and kind else None, {"gib": round(said.bytes / GIB, 2), "step_s": seconds}


def on_the_card(folder: str, device: torch.device) -> list[dict[str, Any]]:
    """What the estimator says of a 24 GB card against what happens: a setting that fits, and one that does not."""
    found = []
    with card.capped(device) as gib:
        for micro, checkpointing in ((MICRO, "whole"), (16, "none")):
            config = staged(micro, checkpointing)
            rows = made_samples(config.batch.size, 1000, TOKENS)
            said = estimate.estimate(shape_of(folder, config), config, rows.lengths, 1, "rtx3090", gib).fits
            fits = card.fits(partial(one_step, folder, config, rows, device))
            setting = {"card_gib": round(gib, 1), "micro_samples": micro, "recomputed": checkpointing}
            found.append({**setting, "said": said, "found": fits})
            forget(device)
    return found


def one_step(folder: str, config: StageConfig, rows: Samples, device: torch.device) -> None:
    """Ours, for a step that is not counted and one that is."""
    plan = Plan(np.arange(config.batch.size), rows.lengths, config.batch, seed=0, epochs=2)
    timed(ours(folder, config, rows, device), plan, 1, device)


def main() -> None:
    """Run all shapes and print the results as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smallest shape of the device, two steps")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--llamafactory", type=Path, help="the environment of LLaMA-Factory (default: this one)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device that PyTorch can use; --device cpu tries the script on a tiny model")
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    join_alone(device)
    runtime.multiply_in_tf32()
    names = ["tiny"] if options.device == "cpu" else ["0.5B"] if options.quick else ["0.5B", "1.5B", "1.8B"]
    steps, tokens = (2 if options.quick else 5), (64 if options.device == "cpu" else TOKENS)
    found = []
    for name in names:
        claims = contest(name, steps, tokens, device, options.llamafactory)
        found += claims
        print("\n".join(map(json.dumps, claims)), flush=True)
    print(json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
