"""The ledger: one line for each row that was dropped or changed, so that nothing is lost in silence.

A line says where (source, position), which rule, and why; it never quotes the row's text, which may be a patient's.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from medtrain.storage import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """One dropped or changed row. `position` is where it stood: `file:line`, an id in the corpus, a record's id."""

    room: str
    source: str
    id: str
    position: str
    rule: str
    detail: str
    action: Literal["dropped", "changed"] = "dropped"


def write(store: Store, path: str, entries: Iterable[Entry]) -> Counter[str]:
    """Write entries as JSON lines and count them by `source/rule/action`."""
    counts: Counter[str] = Counter()
    lines = []
    for entry in entries:
        counts[f"{entry.source}/{entry.rule}/{entry.action}"] += 1
        lines.append(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
    store.write(path, "".join(lines).encode("utf-8"))
    return counts


def read(store: Store, folder: str) -> Iterable[Entry]:
    """Every entry of the ledger files in a folder, in the order of the file names."""
    for path in store.files(folder):
        # Bytes split at \n only; text would also split at U+2028 and the like, which details may hold.
        for line in store.read(path).splitlines():
            yield Entry(**json.loads(line))
