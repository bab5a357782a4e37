"""LLaMA-Factory as a contestant of `gpu/train.py`: its own command line in a process of its own, on the same base.

It wants other versions of Transformers and PEFT than this project has, so it usually has an environment of its own;
where it has none, or fails, the reason takes the place of the figures.
"""

import json
import os
import re
import string
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

LIMIT_S = 120
"""Seconds that one shape may take, imports and loading included: all three and our own turn stay under 10 minutes."""
PACKAGES = ("llamafactory", "transformers", "peft", "trl", "bitsandbytes", "torch")
DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Race:
    """What everybody trains."""

    base: str
    """The folder of the base's weights; it gets a tokenizer."""
    tokens: int
    """Tokens of each row, the second half trained."""
    micro: int
    """Rows at once."""
    accumulation: int
    """Times that many rows make a step."""
    steps: int
    """Steps that count, after one that does not."""
    rate: float
    """Learning rate."""
    cpu: bool
    """Without a GPU."""

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.tokens * self.micro * self.accumulation


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that a text's length in tokens is known."""
    tokens = ["<|endoftext|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(tokens[:2])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=tokens[0], pad_token=tokens[1])


def made_rows(race: Race) -> list[dict[str, str]]:
    """Random letters in its own (Alpaca's) format: under its template without words, as many tokens as ours have."""
    letters, half = np.array(list(string.ascii_lowercase)), race.tokens // 2
    count = race.micro * race.accumulation * (race.steps + 1)
    texts = ["".join(row) for row in letters[np.random.default_rng(0).integers(0, len(letters), (count, race.tokens))]]
    return [{"instruction": text[:half], "input": "", "output": text[half:]} for text in texts]


def settings(race: Race, scratch: Path) -> dict[str, Any]:
    """Its configuration: what the others train, by its own names; the rest is its defaults (layers recomputed too)."""
    return {
        "model_name_or_path": race.base,
        "stage": "sft",
        "do_train": True,
        "quantization_bit": 4,
        "quantization_type": "nf4",
        "double_quantization": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": 64,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "flash_attn": "sdpa",
        "dataset": "made",
        "dataset_dir": str(scratch),
        "template": "empty",
        "cutoff_len": race.tokens,
        "per_device_train_batch_size": race.micro,
        "gradient_accumulation_steps": race.accumulation,
        "max_steps": race.steps + 1,
        "learning_rate": race.rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.3,
        "bf16": True,
        "use_cpu": race.cpu,
        "output_dir": str(scratch / "out"),
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "tensorboard",
        "include_effective_tokens_per_second": True,
        "disable_tqdm": True,
    }


def measured(race: Race, out: Path) -> dict[str, Any]:
    """Tokens a second from the times of its own steps, the first left out.

    Raises:
        ValueError: it left no record of its steps, trained other rows than it was given, or made other steps.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = next(out.rglob("events.out.tfevents.*"), None)
    if events is None:
        raise ValueError("it ended without a record of its steps")
    marks = [event.wall_time for event in EventAccumulator(str(events.parent)).Reload().Scalars("train/loss")]
    whole = json.loads((out / "train_results.json").read_text())
    seen = whole["effective_tokens_per_sec"] * whole["train_runtime"] / whole["epoch"]
    wanted = race.step_tokens * (race.steps + 1)
    if len(marks) != race.steps + 1 or abs(seen - wanted) > 0.01 * wanted:
        raise ValueError(f"{len(marks)} steps of {seen:.0f} tokens in all, and not {race.steps + 1} of {wanted}")
    seconds = (marks[-1] - marks[0]) / race.steps
    return {"tokens_per_s": round(race.step_tokens / seconds, 1), "loss": round(whole["train_loss"], 4)}


def why(error: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    return (named or lines or ["failed without a word"])[-1]


def run(race: Race, scratch: Path, environment: Path | None = None) -> dict[str, Any] | str:
    """Train in an environment (this process's own by default): what was measured, or why it was not.

    Args:
        race: what to train.
        scratch: a folder of its own.
        environment: the root of a Python environment that has LLaMA-Factory, bitsandbytes and TensorBoard.
    """
    home = Path(sys.executable).parent if environment is None else environment.absolute() / "bin"
    command = home / "llamafactory-cli"
    if not command.exists():
        return "not installed"
    scratch.mkdir(parents=True)
    byte_tokenizer().save_pretrained(race.base)
    (scratch / "rows.json").write_text(json.dumps(made_rows(race)))
    (scratch / "dataset_info.json").write_text(json.dumps({"made": {"file_name": "rows.json"}}))
    (scratch / "train.yaml").write_text(json.dumps(settings(race, scratch), indent=1))  # JSON is YAML
    device = "" if race.cpu else os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    given = {name: value for name, value in os.environ.items() if name not in DISTRIBUTED}
    given |= {"CUDA_VISIBLE_DEVICES": device, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(scratch / "cache")}
    given |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    options: dict[str, Any] = {"env": given, "capture_output": True, "text": True, "timeout": LIMIT_S}
    try:
        done = subprocess.run([command, "train", str(scratch / "train.yaml")], check=False, **options)
        if done.returncode:
            return why(done.stderr)
        there = f"{{n: m.version(n) for n in {PACKAGES} if any(m.distributions(name=n))}}"
        listing = f"import importlib.metadata as m, json; print(json.dumps({there}))"
        versions = subprocess.run([home / "python", "-c", listing], check=True, **options)
        return {**measured(race, scratch / "out"), "versions": json.loads(versions.stdout)}
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_S} s"
    except (ImportError, OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        return f"{type(error).__name__}: {error}"
