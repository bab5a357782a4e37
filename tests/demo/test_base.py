"""medtrain.demo.base and what it reads: nothing held out; the same data, the same base; a tokenizer that is usable."""

import io

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from medtrain import artifacts
from medtrain.artifacts import Identity, Policy
from medtrain.demo import base, rawtext
from medtrain.demo.base import Budget
from medtrain.errors import MissingArtifact
from medtrain.records import Record, Turn, to_arrow
from medtrain.storage import Store
from medtrain.tokens import tokenizer as checks

TINY = base.DemoBaseConfig(
    vocabulary=300, hidden=64, intermediate=64, layers=1, budget=Budget(steps=3, rows=2, block_tokens=16), threads=1
)


def record(id: str, split: str, context: str, query: str = "", answer: str = "") -> Record:
    turns = (Turn("user", query=query, context=context), Turn("assistant", text=answer, trained=True))
    return Record(id, id, "made", "qa", "QA", "en", split, turns)


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"
CHINESE = "甲乙丙丁戊己庚辛壬癸子丑寅"
ROWS = [
    record("a", "train", f"Zero, {LONG}!"),
    record("b", "train", LONG.replace("seven", "7"), "What is it?", "A row."),
    record("c", "train", f"开头{CHINESE[:12]}卯"),
    record("d", "train", f"开头，{CHINESE}。"),
    record("e", "test", LONG.title(), "", "secret"),
    record("f", "validation", f"{CHINESE[:6]}，{CHINESE[6:]}"),
]


@pytest.fixture
def root(tmp_path):
    return Store(str(tmp_path))


def make_data(root: Store, rows: list[Record], again: bool = False) -> None:
    build = artifacts.begin(root, "data", "made", Identity({"rows": len(rows)}, {}, ""), Policy(again=again))
    table = io.BytesIO()
    pq.write_table(to_arrow(rows), table)
    build.store.write("shards/00000.parquet", table.getvalue())
    build.finish({"rows": len(rows)})


def test_a_train_row_that_shares_thirteen_words_or_characters_with_a_held_out_row_is_left_out():
    corpus = rawtext.select(ROWS)
    assert corpus.ids == ("b", "c")
    assert corpus.left_out == {"made": 2}
    assert corpus.texts[0].endswith("What is it?\nA row.")


def test_the_base_opens_without_remote_code_and_suits_chatml_and_four_bits(root):
    make_data(root, ROWS)
    assert base.ensure(root, "made", TINY) == "artifact:bases/made"
    folder = str(root.local("bases/made"))
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    checks.check(tokenizer, folder)
    assert tokenizer.pad_token not in ("<|endoftext|>", "<|im_end|>")
    text = "佐拉普利 cures it, twice.\n\nEnd  é"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    model = AutoModelForCausalLM.from_pretrained(folder)
    stops = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    assert model.generation_config.eos_token_id == stops
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert all(m.in_features % 64 == 0 for m in model.modules() if isinstance(m, torch.nn.Linear))
    assert artifacts.locate(root, "bases", "made").facts["left_out"] == {"made": 2}


def test_the_same_data_give_the_same_base_and_other_data_another(root):
    make_data(root, ROWS)
    base.ensure(root, "made", TINY)
    first = artifacts.locate(root, "bases", "made").manifest
    weights = root.read("bases/made/model.safetensors")
    base.ensure(root, "made", TINY)
    assert artifacts.locate(root, "bases", "made").manifest == first
    root.delete("bases/made/manifest.json")
    base.ensure(root, "made", TINY)
    assert root.read("bases/made/model.safetensors") == weights
    make_data(root, ROWS[1:], again=True)
    base.ensure(root, "made", TINY)
    assert artifacts.locate(root, "bases", "made").fingerprint != first["fingerprint"]


def test_without_data_the_job_that_makes_it_is_named(root):
    with pytest.raises(MissingArtifact, match=r"prepare_data\.py"):
        base.ensure(root, "made", TINY)
