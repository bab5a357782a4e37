"""PubMedQA, questions that an abstract answers with yes, no or maybe (Jin et al. 2019): one JSON object by PMID.

The official split of the labelled part (PQA-L) is a list of test ids, `test_ground_truth.json`; all else is train.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from medtrain.config import knob
from medtrain.data import jsonfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.records import Record, Turn

DECISIONS = ("yes", "no", "maybe")
FILE = "ori_pqal.json"
_ROW = '{"QUESTION": "%s", "CONTEXTS": ["One.", "Two."], "YEAR": null, "final_decision": "%s", "LONG_ANSWER": "%s"}'
_FIRST, _SECOND = _ROW % ("Is it so?", "yes", "It is."), _ROW % ("Is it not?", "no", "It is not.")
EXAMPLE = Example(
    {FILE: f'{{\n"11": {_FIRST},\n"12": {_SECOND}\n}}', "test_ground_truth.json": '{"12": "no"}'}, records=2
)


class Config(SourceConfig):
    """A file of this form, or the folder in which `ori_pqal.json` lies."""

    test_ids: str | None = knob("test_ground_truth.json")
    """A JSON object whose keys are the PMIDs of the test split, relative to the file's folder; null puts every row into
    train (the unlabelled and artificial parts have no test split)."""
    answer: Literal["decision", "long"] = "decision"
    """decision: yes, no or maybe (task choice). long: the abstract's conclusion in words (task qa)."""


def units(config: Config, root: Path) -> list[Unit]:
    """The file as one unit; the test ids count as input too.

    Raises:
        DataError: the file or the list of ids is absent, empty, or a Git LFS pointer.
    """
    path = locate(config, root)
    path = check_file(path / FILE if path.is_dir() else path, config.label)
    also = () if config.test_ids is None else (str(check_file(path.parent / config.test_ids, config.label)),)
    return [Unit(str(path), path.name, also=also)]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each row that has the answer asked for; none where the test ids cannot be read."""
    held: set[str] = set()
    for path in unit.also:
        found = _ids(Path(path))
        if found is None:
            yield Problem(Path(path).name, "bad_test_ids", "is no JSON object by PMID; test rows would be trained on")
            return
        held |= found
    for row in jsonfiles.members(unit):
        yield row if isinstance(row, Problem) else _record(row, held, config)


def _ids(path: Path) -> set[str] | None:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return set(found) if isinstance(found, dict) and found else None


def _record(row: jsonfiles.Row, held: set[str], config: Config) -> Record | Problem:
    question, contexts = row.value.get("QUESTION"), row.value.get("CONTEXTS")
    if not isinstance(question, str) or not question.strip():
        return Problem(row.position, "no_question", "needs a QUESTION", row.key)
    if not isinstance(contexts, list) or not all(isinstance(text, str) for text in contexts):
        return Problem(row.position, "bad_contexts", "needs CONTEXTS as a list of texts", row.key)
    decision, long = row.value.get("final_decision"), row.value.get("LONG_ANSWER")
    gold: dict[str, Any] | None = None
    if config.answer == "decision":
        if decision not in DECISIONS:
            return Problem(row.position, "no_decision", "final_decision is not yes, no or maybe", row.key)
        gold, answer = {"label": decision, "label_set": list(DECISIONS)}, ""
    elif isinstance(long, str) and long.strip():
        answer = long
    else:
        return Problem(row.position, "empty_answer", "there is no LONG_ANSWER", row.key)
    context = "\n".join(text.strip() for text in contexts if text.strip())
    return Record(
        id=f"{config.label}:{row.key}",
        document_id=f"pmid:{row.key}",
        source=config.label,
        task="choice" if gold else "qa",
        category="QA",
        language="en",
        split="test" if row.key in held else "train",
        turns=(Turn("user", query=question, context=context), Turn("assistant", text=answer, trained=True)),
        gold=gold,
    )
