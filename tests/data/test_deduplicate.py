"""What counts as the same row, and which copy stays."""

import numpy as np

from medtrain.data.deduplicate import RANKS, representatives, with_hashes
from medtrain.records import Record, Turn, to_arrow


def row(query: str, text: str = "a", gold: dict[str, object] | None = None, **other: str) -> Record:
    named = {"id": "x:1", "document_id": "x:1", "source": "x", "task": "qa", "category": "QA"} | other
    turns = (Turn("user", query=query), Turn("assistant", text=text, trained=True))
    return Record(**named, language="en", split="train", turns=turns, gold=gold)


def test_content_is_turns_and_gold() -> None:
    rows = [
        row("q"),
        row("q", id="y:2", source="y", task="general"),
        row("q "),
        row("q", text="b"),
        row("q", gold={"entities": [], "types": ["A"]}),
        row("q", gold={"types": ["A"], "entities": []}),
        row("q", gold={"types": ["B"], "entities": []}),
    ]
    table = with_hashes(to_arrow(rows))
    hashes = list(zip(table["hash_high"].to_pylist(), table["hash_low"].to_pylist(), strict=True))
    assert [hashes.index(h) for h in hashes] == [0, 0, 2, 3, 4, 4, 6]
    assert with_hashes(to_arrow([])).num_rows == 0


def test_the_held_out_copy_stays_else_the_first() -> None:
    splits = ["train", "train", "validation", "train", "test", "validation", "train"]
    content = [7, 8, 8, 7, 9, 9, 9]
    ranks = np.array([RANKS[split] for split in splits], dtype=np.int8)
    high = np.array(content, dtype=np.uint64)
    assert representatives(high, high, ranks).tolist() == [0, 2, 2, 0, 4, 4, 4]
    # The two halves of a hash count together.
    low = np.arange(7, dtype=np.uint64)
    assert representatives(high, low, ranks).tolist() == list(range(7))


def test_a_brute_force_search_agrees() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(0, 6, (2, 400), dtype=np.uint64)
    ranks = rng.integers(0, 3, 400).astype(np.int8)
    alike = [[n for n in range(400) if (high[n], low[n]) == (high[m], low[m])] for m in range(400)]
    expected = [min(same, key=lambda n: (ranks[n], n)) for same in alike]
    assert representatives(high, low, ranks).tolist() == expected
