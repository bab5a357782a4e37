"""Decoded masks on real corpora: ten rows of each source train exactly the answer and its end."""

import itertools
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medtrain import plugins
from medtrain.config import parse, read_yaml
from medtrain.records import Record
from medtrain.tokens.words import has_wording, wording

PROJECT = Path(__file__).resolve().parents[2]
REAL = PROJECT / "jobs" / "configs" / "prepare_data" / "real.yaml"
SOURCES = read_yaml(REAL)["data"]["sources"]
ROWS = 10


def records_of(content: dict[str, Any], root: Path) -> Iterator[Record]:
    source = plugins.load("data", "sources", content["source"])
    config = parse(source.Config, content)
    for unit in source.units(config, root):
        yield from (found for found in source.read(unit, config) if isinstance(found, Record))


@pytest.mark.parametrize("content", SOURCES, ids=[content.get("name", content["source"]) for content in SOURCES])
def test_trained_tokens_decode_to_the_answer_and_its_end(kit: Any, shared: Path, content: dict[str, Any]) -> None:
    base = shared / "models" / "tiny-base"
    if not base.is_dir():
        pytest.skip(f"no base at {base}")
    renderer = kit.renderer(base)
    seen = 0
    for record in itertools.islice(records_of(content, shared / "data"), 10 * ROWS):
        sample, entries = renderer.sample(record)
        if sample is None or entries:
            continue
        answers = [turn.text.strip() or renderer.reference(record) for turn in record.turns if turn.role == "assistant"]
        ends = ["<|im_end|>\n"] * (len(answers) - 1) + ["<|im_end|>\n<|endoftext|>"]
        decoded = [renderer.tokenizer.decode(sample.input_ids[start:stop]) for start, stop in sample.trained]
        assert decoded == [unicodedata.normalize("NFC", a) + end for a, end in zip(answers, ends, strict=True)]
        prompt = renderer.prompt(record)
        assert prompt == sample.input_ids[: len(prompt)].tolist()
        whole = renderer.tokenizer(renderer.text(record), add_special_tokens=False)["input_ids"]
        assert sample.input_ids.tolist() == whole
        seen += 1
        if seen == ROWS:
            return
    assert seen, "no row of this source was rendered whole"


@pytest.mark.parametrize("content", SOURCES, ids=[content.get("name", content["source"]) for content in SOURCES])
def test_answers_written_from_gold_are_read_back(shared: Path, content: dict[str, Any]) -> None:
    for record in itertools.islice(records_of(content, shared / "data"), 50):
        if record.gold is not None and has_wording(record.task):
            words = wording(record.task)
            text = words.render(record.gold, record.language)
            again = words.render({**record.gold, **words.parse(text, record.language)}, record.language)
            assert again == text
