"""The sample that is shown at the start: trained parts in green, one of each source."""

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from medtrain import artifacts
from medtrain.storage import Store
from medtrain.tokens.shards import SCHEMA, Sample, Samples
from medtrain.train.show import GREEN, RESET, marked, one_of_each_source


class Letters:
    """A tokenizer of which every token is one letter."""

    def decode(self, ids: np.ndarray) -> str:
        """a, b, c … for 0, 1, 2 …"""
        return "".join(chr(97 + int(i)) for i in ids)


@pytest.mark.parametrize(
    ("spans", "wanted"),
    [
        ((), "abcdef"),
        (((2, 4),), "ab[cd]ef"),
        (((1, 2), (4, 6)), "a[b]cd[ef]"),
        (((0, 6),), "[abcdef]"),
    ],
)
def test_the_trained_part_is_green(spans: tuple[tuple[int, int], ...], wanted: str) -> None:
    sample = Sample("i", "s", "qa", "QA", "en", "train", np.arange(6, dtype=np.int32), spans)
    assert marked(sample, Letters()).replace(GREEN, "[").replace(RESET, "]") == wanted


def test_the_first_row_of_each_source_is_shown_once() -> None:
    def row(number: int, source: str) -> dict[str, object]:
        texts = {"id": str(number), "source": source, "task": "qa", "category": "QA", "language": "en"}
        return {**texts, "split": "train", "length": 1, "trained_tokens": 0, "input_ids": [number], "trained": []}

    samples = Samples(pa.Table.from_pylist([row(n, s) for n, s in enumerate("xyxyz")], schema=SCHEMA))
    text = one_of_each_source(samples, np.array([1, 2, 3, 4]), Letters())
    lines = text.splitlines()
    assert [line.split()[1] for line in lines[::2]] == ["y", "x", "z"]
    assert lines[1::2] == ["b", "c", "e"]


def test_a_real_tokenizer_decodes_the_whole_sample(made: Store) -> None:
    artifact = artifacts.locate(made, "tokens", "tiny")
    samples = Samples.open(artifact)
    tokenizer = AutoTokenizer.from_pretrained(artifact.store.local("tokenizer"))
    ids = np.array(tokenizer("<|im_start|>user\nfever?<|im_end|>\n<|im_start|>assistant\nrest<|im_end|>\n").input_ids)
    answer = len(tokenizer("<|im_start|>user\nfever?<|im_end|>\n<|im_start|>assistant\n").input_ids)
    sample = Sample("i", "s", "qa", "QA", "en", "train", ids.astype(np.int32), ((answer, len(ids)),))
    assert marked(sample, tokenizer).endswith(f"assistant\n{GREEN}rest<|im_end|>\n{RESET}")
    assert one_of_each_source(samples, samples.select("train"), tokenizer).count("--- ") == 2
