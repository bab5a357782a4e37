"""ChemProt as SciBERT distributes it: one JSON line per annotated pair, the pair marked in the sentence.

The pairs of one sentence are brought together, so that a record asks for all relations of a sentence. The marks are
argument slots and not types; `[[ ]]` is mostly the chemical and becomes the head, `<< >>` the tail.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from medtrain.data import jsonfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.records import Record, Split, Turn

LABELS = (
    "UPREGULATOR",
    "ACTIVATOR",
    "INDIRECT-UPREGULATOR",
    "DOWNREGULATOR",
    "INHIBITOR",
    "INDIRECT-DOWNREGULATOR",
    "AGONIST",
    "AGONIST-ACTIVATOR",
    "AGONIST-INHIBITOR",
    "ANTAGONIST",
    "SUBSTRATE",
    "PRODUCT-OF",
    "SUBSTRATE_PRODUCT-OF",
)
_HEAD, _TAIL = re.compile(r"\[\[ (.+?) \]\]"), re.compile(r"<< (.+?) >>")
_MARKS = re.compile(r"<< | >>|\[\[ | \]\]")
EXAMPLE = Example(
    {
        "train.txt": '{"text": "[[ A1 ]] blocks << P1 >> and P2.", "label": "INHIBITOR", "metadata": []}\n'
        '{"text": "[[ A1 ]] blocks P1 and << P2 >>.", "label": "INHIBITOR", "metadata": []}\n',
        "dev.txt": '{"text": "<< A2 >> opens [[ P3 ]].", "label": "ACTIVATOR", "metadata": []}\n',
        "test.txt": '{"text": "[[ A3 ]] feeds << P4 >>.", "label": "SUBSTRATE", "metadata": []}\n',
    },
    records=3,
)


class Config(SourceConfig):
    """Sentences with chemical-protein relations; only sentences that have one, since the files hold positives only."""

    files: dict[Split, str] = Field({"train": "train.txt", "validation": "dev.txt", "test": "test.txt"})
    """Split -> file name below path."""


def units(config: Config, root: Path) -> list[Unit]:
    """One unit for each file: a sentence's pairs must be read together."""
    folder = locate(config, root)
    return [Unit(str(check_file(folder / name, config.label)), name, split) for split, name in config.files.items()]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each sentence, in the order of first appearance; a repeated line is dropped."""
    sentences: dict[str, list[dict[str, str]]] = {}
    first: dict[str, str] = {}
    for row in jsonfiles.rows(unit):
        if isinstance(row, Problem):
            yield row
            continue
        text, label = row.value.get("text"), row.value.get("label")
        if not isinstance(text, str) or label not in LABELS:
            yield Problem(row.position, "bad_row", "needs a text and one of the 13 labels")
            continue
        heads, tails = _HEAD.findall(text), _TAIL.findall(text)
        if len(heads) != 1 or len(tails) != 1:
            yield Problem(
                row.position, "bad_marks", f"{len(heads)} [[ ]] and {len(tails)} << >>, one of each is needed"
            )
            continue
        sentence = _MARKS.sub("", text)
        first.setdefault(sentence, row.position)
        relation = {"type": label, "head": heads[0], "tail": tails[0]}
        known = sentences.setdefault(sentence, [])
        if relation in known:
            yield Problem(row.position, "repeated_pair", f"the sentence at {first[sentence]} has this relation already")
        else:
            known.append(relation)
    for sentence, relations in sentences.items():
        yield Record(
            id=f"{config.label}:{first[sentence]}",
            document_id=f"{config.label}:{first[sentence]}",
            source=config.label,
            task="relations",
            category="RE",
            language="en",
            split=unit.split,
            turns=(Turn("user", context=sentence), Turn("assistant", trained=True)),
            gold={"relations": relations, "types": list(LABELS)},
        )
