"""medtrain.ledger: lines are counted as written and read back in order."""

from medtrain import ledger
from medtrain.ledger import Entry
from medtrain.storage import Store


def test_entries_are_counted_and_read_back(store: Store) -> None:
    first = [
        Entry("data", "bc5cdr", "bc5cdr:1", "train.txt:3", "empty", "no text"),
        Entry("data", "bc5cdr", "bc5cdr:2", "train.txt:9", "empty", "no text"),
        Entry("data", "chat", "chat:7", "a.jsonl:7", "cut", "两段\u2028去掉", "changed"),
    ]
    second = [Entry("tokens", "chat", "chat:9", "chat:9", "length", "2000 > 1024 tokens")]
    counts = ledger.write(store, "ledger/00000.jsonl", first)
    ledger.write(store, "ledger/00001.jsonl", second)
    assert counts == {"bc5cdr/empty/dropped": 2, "chat/cut/changed": 1}
    assert list(ledger.read(store, "ledger")) == first + second


def test_an_empty_ledger_is_a_file_without_lines(store: Store) -> None:
    assert ledger.write(store, "ledger/00000.jsonl", []) == {}
    assert store.exists("ledger/00000.jsonl")
    assert list(ledger.read(store, "ledger")) == []
