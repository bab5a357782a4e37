"""What is said at the start: samples, trained parts in green, one of each source; what a state gives back."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from medtrain import artifacts
from medtrain.storage import Store
from medtrain.tokens.shards import SCHEMA, Sample, Samples
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.show import GREEN, RESET, marked, one_of_each_source, restored


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


ADAMW = ("weight", "exp_avg", "exp_avg_sq")
EIGHT_BITS = ("weight", "state1", "state2", "absmax1", "absmax2", "qmap1", "qmap2")


@pytest.mark.parametrize(
    ("kinds", "progress", "wanted"),
    [
        (ADAMW, {}, "weights, first moments, second moments"),
        (("weight", "state1", "state2"), {}, "weights, first moments, second moments"),
        (EIGHT_BITS, {}, "weights, first moments, second moments, scales and code books of 8-bit moments"),
        (("weight", "exp_avg"), {}, "weights, first moments"),
        (
            ("weight", "allocator/importance", "allocator/uncertainty", "allocator/pattern"),
            {},
            "weights, AdaLoRA's importances, AdaLoRA's uncertainties, AdaLoRA's kept triplets",
        ),
        (("weight", "queue"), {}, "weights, queue"),
        (("weight",), {"best_step": 4, "best_loss": 1.25}, "weights, best loss 1.2500 of step 4"),
        (("weight",), {"stale": 2, "rollbacks": 1}, "weights, 2 validation(s) without a better one, 1 rollback(s)"),
        (("weight",), {"skipped": (2, 6)}, "weights, left-out batches of step(s) 3, 7"),
        (("weight",), {"lowered": (5, 5)}, "weights, the rate halved from step(s) 6, 6 on"),
    ],
)
def test_what_a_state_gives_back_is_said_and_nothing_else(
    kinds: tuple[str, ...], progress: dict[str, Any], wanted: str
) -> None:
    state = {f"{kind}/{name}": torch.zeros(1) for name in ("b.lora_A", "a.lora_B") for kind in reversed(kinds)}
    assert restored(Checkpoint("p", Progress(step=8, **progress), state)) == wanted


def test_a_flag_is_a_kind_of_its_own() -> None:
    state = {"allocator/frozen": torch.tensor(True), "weight/a": torch.zeros(1)}
    assert restored(Checkpoint("p", Progress(step=8), state)) == "weights, whether AdaLoRA's triplets are frozen"
