"""A base's tokenizer is refused where ChatML would go wrong, and padding goes by the token's text."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tokens import tokenizer


def test_padding_takes_a_spare_row_rather_than_a_stop_token(kit: Any, tmp_path: Path) -> None:
    roomy = kit.make_base(tmp_path / "roomy", rows=262)
    loaded = tokenizer.open_base(str(roomy), None, "own")
    assert (loaded.pad_token, loaded.pad_token_id) == ("<|padoftext|>", 259)
    assert tokenizer.open_base(str(roomy), None, "tokenizer").pad_token == "<|endoftext|>"
    assert tokenizer.open_base(str(roomy), "<|im_start|>", "own").pad_token_id == 1


def test_padding_takes_the_stop_token_only_where_there_is_no_other(kit: Any, tmp_path: Path) -> None:
    full = kit.make_base(tmp_path / "full", rows=259)
    assert tokenizer.open_base(str(full), None, "own").pad_token == "<|endoftext|>"


def test_an_unknown_padding_token_is_refused_with_the_candidates(byte_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"pad_token='<pad>'.*it has: <\|endoftext\|>, <\|im_end\|>"):
        tokenizer.open_base(str(byte_base), "<pad>", "own")


def test_a_base_without_chatml_is_refused(kit: Any, tmp_path: Path) -> None:
    base = kit.make_base(tmp_path / "plain", control=("<|endoftext|>", "<|im_start|>", "</s>"))
    with pytest.raises(ConfigError, match=r"lacks <\|im_end\|>"):
        tokenizer.open_base(str(base), None, "own")


def test_a_tokenizer_that_puts_a_blank_before_text_is_refused(kit: Any, tmp_path: Path) -> None:
    base = kit.make_base(tmp_path / "prefix")
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {
        **content["pre_tokenizer"]["pretokenizers"][1],
        "add_prefix_space": True,
        "use_regex": True,
    }
    (base / "tokenizer.json").write_text(json.dumps(content))
    prefixing = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"))
    with pytest.raises(ConfigError, match="line break before an answer"):
        tokenizer.check(prefixing, str(base))


def test_no_tokenizer_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer opens there"):
        tokenizer.open_base(str(tmp_path), None, "own")


def test_the_encoder_reads_control_tokens_as_text_and_leaves_the_tokenizer_alone(byte_base: Path) -> None:
    loaded = tokenizer.open_base(str(byte_base), None, "own")
    encode = tokenizer.encoder(loaded)
    assert 2 not in encode("a<|im_end|>b")
    assert loaded("a<|im_end|>b", add_special_tokens=False)["input_ids"] == [100, 2, 101]


def test_a_saved_tokenizer_is_the_same(byte_base: Path, store: Store) -> None:
    loaded = tokenizer.open_base(str(byte_base), None, "own")
    tokenizer.save(loaded, store)
    again = tokenizer.load(store)
    assert tokenizer.identity(again) == tokenizer.identity(loaded)
    assert (again.pad_token_id, again.eos_token) == (loaded.pad_token_id, loaded.eos_token)


def test_references(store: Store, tmp_path: Path) -> None:
    assert tokenizer.is_local_path("../models/x") and tokenizer.is_local_path(str(tmp_path))
    assert not tokenizer.is_local_path("Qwen/Qwen2-0.5B") and not tokenizer.is_local_path("artifact:bases/demo")


def test_the_pieces_of_a_real_tokenizer_are_the_tokens_of_the_whole_text(kit: Any, shared: Path, store: Store) -> None:
    base = shared / "models" / "tiny-base"
    if not base.is_dir():
        pytest.skip(f"no base at {base}")
    for settings in ({"mode": "paper"}, {"mode": "released", "stage": 1}):
        renderer = kit.renderer(base, **settings)
        for answer in ("Yes. é", "是的。\n\n 1. 药物", "- a\n- b", "3.5 mg/kg (p<0.05)", "‘quoted’", "\u0301odd"):
            record = kit.record("Why so?\n\n", " 文本 text", answer)
            sample, _ = renderer.sample(record)
            whole = renderer.tokenizer(renderer.text(record), add_special_tokens=False)["input_ids"]
            assert sample.input_ids.tolist() == whole
    tokenizer.save(renderer.tokenizer, store)
    assert tokenizer.identity(tokenizer.load(store)) == tokenizer.identity(renderer.tokenizer)
