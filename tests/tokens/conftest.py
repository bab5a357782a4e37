"""A tokenizer whose ids a person can compute: one token for each byte, and ChatML's three."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from medtrain.records import Record, Turn
from medtrain.tokens import tokenizer as tokenizers_of
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.recipe import rules
from medtrain.tokens.render import Renderer
from medtrain.tokens.shards import Sample

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Qwen2's own pattern, so that text is split here as it is there.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each of the 256 bytes (the table of GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [table[byte] for byte in range(256)]


def make_base(folder: Path, rows: int = 262, control: tuple[str, ...] = CONTROL) -> Path:
    """A base's folder: byte b is token b + 3; `rows` is the height of the embedding that its config claims."""
    vocabulary = {token: number for number, token in enumerate([*control, *byte_characters()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(control))
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=control[-1], pad_token=control[0]).save_pretrained(
        folder
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": rows}))
    return folder


@pytest.fixture(scope="session")
def byte_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base with the byte tokenizer."""
    return make_base(tmp_path_factory.mktemp("base") / "bytes")


@functools.cache
def open_base(base: Path, pad_token: str | None, pad_rule: str) -> Any:
    """A base's tokenizer, opened once for all tests."""
    return tokenizers_of.open_base(str(base), pad_token, pad_rule)


class Kit:
    """What the token tests share: records, renderers, and the ids of a text worked out by hand."""

    make_base = staticmethod(make_base)

    @staticmethod
    def ids_of(text: str) -> list[int]:
        """What the byte tokenizer makes of a rendered text: control tokens by name, all else byte + 3."""
        ids: list[int] = []
        for part in re.split(r"(<\|endoftext\|>|<\|im_start\|>|<\|im_end\|>)", text):
            ids += [CONTROL.index(part)] if part in CONTROL else [byte + 3 for byte in part.encode()]
        return ids

    @staticmethod
    def text_of(ids: list[int]) -> str:
        """The text of the byte tokenizer's ids."""
        names = {number: token.encode() for number, token in enumerate(CONTROL)}
        return b"".join(names[number] if number in names else bytes([number - 3]) for number in ids).decode()

    @staticmethod
    def trained_texts(sample: Sample) -> list[str]:
        """The text of each trained span."""
        return [Kit.text_of(sample.input_ids[start:stop].tolist()) for start, stop in sample.trained]

    @staticmethod
    def record(query: str = "", context: str = "", answer: str = "", language: str = "en", **fields: Any) -> Record:
        """A record of one exchange; `fields` replace the defaults of the others."""
        turns = (Turn("user", query=query, context=context), Turn("assistant", text=answer, trained=True))
        defaults: dict[str, Any] = {"id": "s:1", "task": "qa", "category": "QA", "split": "train", "turns": turns}
        return Record(document_id="s:1", source="s", language=language, **{**defaults, **fields})  # type: ignore[arg-type]

    @staticmethod
    def ner_record(number: int, text: str, names: list[str], language: str = "en") -> Record:
        """A record of entity recognition that leaves question and answer to the wording."""
        found = [{"type": "Drug", "text": n, "start": text.index(n), "end": text.index(n) + len(n)} for n in names]
        return Kit.record(
            context=text,
            language=language,
            id=f"s:{number}",
            task="ner",
            category="NER",
            gold={"entities": found, "types": ["Drug", "Disease"]},
        )

    @staticmethod
    def renderer(base: Path, **settings: Any) -> Renderer:
        """A renderer on the byte tokenizer; `settings` are those of TokensConfig."""
        config = TokensConfig(**{"name": "t", "data": "d", **settings})
        return Renderer(open_base(base, config.pad_token, rules(config).pad), config)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The helpers of the token tests."""
    return Kit
