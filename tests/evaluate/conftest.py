"""A random model of the real architecture, small enough to generate in milliseconds."""

import json
from typing import Any

import peft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from medtrain import artifacts, config
from medtrain.artifacts import Build, Identity, Policy
from medtrain.records import Record, Turn, to_arrow
from medtrain.storage import Store
from medtrain.tokens import tokenizer as tokenizer_files
from medtrain.tokens.config import TokensConfig

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level tokenizer without merges: every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*CHATML, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(CHATML))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=CHATML[0], eos_token=CHATML[2])


@pytest.fixture(scope="session")
def model(tokenizer: Any) -> Any:
    """Two layers of 64 in fp32, random, whose answers differ with the prompt."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        initializer_range=0.4,
    )
    return Qwen2ForCausalLM(config).eval()


def records() -> list[Record]:
    """Eight entity rows in validation, four answers in test, and a training row that no evaluation may take."""
    found = [
        Record(
            f"toy:{i}",
            f"toy:{i // 2}",
            "toy" if i < 4 else "other",
            "ner",
            "NER",
            "en",
            "validation",
            (Turn("user", context=f"Fever {i} and cough."), Turn("assistant", trained=True)),
            {"entities": [{"type": "Disease", "text": f"Fever {i}", "start": 0, "end": 7}], "types": ["Disease"]},
        )
        for i in range(8)
    ]
    for i, split in enumerate(("test", "test", "test", "test", "train")):
        turns = (Turn("user", query=f"问题{i}？"), Turn("assistant", text=f"多喝水，第{i}天。", trained=True))
        found.append(Record(f"qa:{i}", f"qa:{i}", "qa", "qa", "QA", "zh", split, turns))  # type: ignore[arg-type]
    return found


def build(root: Store, kind: str, name: str, settings: dict[str, Any]) -> Build:
    begun = artifacts.begin(root, kind, name, Identity(settings, {}, "code"), Policy())
    assert isinstance(begun, Build)
    return begun


@pytest.fixture
def world(store: Store, model: Any, tokenizer: Any) -> Store:
    """A storage root with what stands before an evaluation: data, tokens, a base, and a run with an adapter."""
    data = build(store, "data", "toy", {"name": "toy"})
    sink = pa.BufferOutputStream()
    pq.write_table(to_arrow(records()), sink)
    data.store.write("shards/00000.parquet", sink.getvalue().to_pybytes())
    dropped = {"toy/duplicate/dropped": 3, "toy/over_long/changed": 1}
    data.finish(
        {"rows": 13, "by_source": {"toy": {"validation": 8}, "qa": {"test": 4, "train": 1}}, "dropped": dropped}
    )

    settings = TokensConfig(name="toy", data="toy", context_tokens=512)
    tokens = build(store, "tokens", "toy", config.identity(settings))
    tokenizer_files.save(tokenizer, tokens.store)
    counted = {"toy": {"validation": {"rows": 8, "tokens": 99, "trained_tokens": 9}}}
    tokens.finish(
        {
            "rows": 8,
            "tokens": 99,
            "trained_tokens": 9,
            "by_source": counted,
            "dropped": {},
            "base": "artifact:bases/toy",
        }
    )

    base = build(store, "bases", "toy", {})
    model.save_pretrained(base.store.local())
    tokenizer.save_pretrained(base.store.local())
    base.finish({})

    run = build(store, "stage1", "toy", {"learning_rate": 2e-4})
    folder = run.store.local("adapter")
    torch.manual_seed(1)
    lora = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(Qwen2ForCausalLM.from_pretrained(base.store.local()), lora).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    lines = [{"step": i, "loss": 5 / i} for i in range(1, 20)] + [{"step": 10, "validation/toy": 1.5}]
    run.store.write("log/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    run.finish({"base": "artifact:bases/toy", "tokens": "toy", "model": {"precision": "fp32"}})
    return store
