"""A peer of `train_vs_peers.py`: QLoRA by TRL's SFTTrainer or Transformers' Trainer; `make bench-env` installs them.

python sft.py trl|trl-packed|trainer JOB.json     prints {"seconds", "tokens", "positions"} of the steps that count
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When each optimizer step began and ended."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.marks.append(time.perf_counter())

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.marks.append(time.perf_counter())


class Counting:
    """A collator that counts real tokens and all positions of each micro-batch."""

    def __init__(self, collate: Any):
        self.collate, self.tokens, self.positions = collate, list[int](), list[int]()

    def __call__(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        batch = self.collate(rows, *args, **kwargs)
        self.tokens.append(sum(len(row["input_ids"]) for row in rows))
        self.positions.append(batch["input_ids"].numel())
        return batch


def main(kind: str, job: dict[str, Any]) -> None:
    """Train and print what it took."""
    torch.set_num_threads(1)
    dtype = getattr(torch, job["compute_dtype"])
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = AutoModelForCausalLM.from_pretrained(
        job["base"], quantization_config=quantised, dtype=dtype, attn_implementation="sdpa"
    )
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **job["lora"])
    common = {
        "output_dir": job["scratch"],
        "per_device_train_batch_size": job["micro_samples"],
        "gradient_accumulation_steps": job["accumulation"],
        "max_steps": job["steps"],
        "learning_rate": job["learning_rate"],
        "max_grad_norm": 0.3,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1_000,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    rows, clock = job["rows"], Clock()
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    if kind == "trainer":
        peft_model = get_peft_model(model, lora)
        data = Dataset.from_list([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows])
        counting = Counting(DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100))
        trainer = Trainer(
            peft_model, TrainingArguments(**common), train_dataset=data, data_collator=counting, callbacks=[clock]
        )
    else:
        config = SFTConfig(**common, packing=kind == "trl-packed", max_length=job["packed_tokens"])
        data = Dataset.from_list(
            [{"input_ids": r["input_ids"], "completion_mask": [int(i >= 0) for i in r["labels"]]} for r in rows]
        )
        trainer = SFTTrainer(
            model, config, train_dataset=data, processing_class=tokenizer, peft_config=lora, callbacks=[clock]
        )
        counting = Counting(trainer.data_collator)
        trainer.data_collator = counting
        if dtype == torch.float32:  # TRL makes a 4-bit model's adapter bfloat16, which such a CPU can only emulate
            for parameter in trainer.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
    trainer.train()
    skipped = job["warm_up"]
    first, last = skipped * job["accumulation"], job["steps"] * job["accumulation"]
    found = {
        "seconds": clock.marks[-1] - clock.marks[skipped],
        "tokens": sum(counting.tokens[first:last]),
        "positions": sum(counting.positions[first:last]),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
