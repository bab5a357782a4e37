"""MedQA, multiple choice of medical board exams (Jin et al. 2021): USMLE in English, Mainland and Taiwan in Chinese.

`{"question": …, "options": {"A": …}, "answer": …, "answer_idx": "A"}` a line, with five options, or with four in
folders of their own. Both forms ask the same questions, so `path` names one of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medtrain.data import jsonfiles
from medtrain.data.language import detect
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.errors import DataError
from medtrain.records import Record, Split, Turn

SPLITS: dict[str, Split] = {"train": "train", "dev": "validation", "test": "test"}
REGIONS = ("US", "Mainland", "Taiwan")
_ROW = '{"question": "%s", "answer": "%s", "options": {"A": "%s", "B": "%s"}, "meta_info": "m", "answer_idx": "%s"}\n'
EXAMPLE = Example(
    {
        "US/train.jsonl": _ROW % ("What helps?", "Rest", "Rest", "Noise", "A"),
        "US/test.jsonl": _ROW % ("What harms?", "Noise", "Rest", "Noise", "B"),
        "US/US_qbank.jsonl": _ROW % ("What helps?", "Rest", "Rest", "Noise", "A"),
        "Mainland/dev.jsonl": _ROW % ("什么有益？", "休息", "噪声", "休息", "B"),
    },
    records=3,
)


class Config(SourceConfig):
    """A file, a folder of one form (US, US/4_options …), or the folder that US, Mainland and Taiwan lie in.

    Files are those called train, dev or test, or `…_train` and so on; others are banks of the same questions.
    """


def units(config: Config, root: Path) -> list[Unit]:
    """Ranges of the files' lines.

    Raises:
        DataError: no file's name says a split; see also `source.locate` and `source.check_file`.
    """
    path = locate(config, root)
    folders = [path, *(path / region for region in REGIONS)]
    files = [path] if path.is_file() else [file for folder in folders for file in sorted(folder.glob("*.jsonl"))]
    found: list[Unit] = []
    for file in files:
        split = SPLITS.get(file.stem.rpartition("_")[2])
        if split is not None:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            pieces = jsonfiles.units(file, config.label, split)
            found += [Unit(u.path, name, u.split, u.start, u.stop, u.first) for u in pieces]
    if not found:
        raise DataError(
            f"source {config.label}: path={config.path}: no file called (…_)train, dev or test.jsonl; "
            "name the file, or the folder of one form of the questions"
        )
    return found


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each question."""
    for row in jsonfiles.rows(unit):
        yield row if isinstance(row, Problem) else _record(row, unit, config)


def _record(row: jsonfiles.Row, unit: Unit, config: Config) -> Record | Problem:
    question, given, key = (row.value.get(name) for name in ("question", "options", "answer_idx"))
    if not isinstance(question, str) or not question.strip():
        return Problem(row.position, "no_question", "needs a question")
    options = _options(given)
    if options is None:
        return Problem(row.position, "bad_options", "needs options: two or more texts by capital letter")
    answer = row.value.get("answer")
    if not isinstance(key, str) or key not in options:
        return Problem(row.position, "bad_answer", "answer_idx names no option")
    if isinstance(answer, str) and answer.split() != options[key].split():
        return Problem(row.position, "bad_answer", "answer is not the text of the option that answer_idx names")
    id = f"{config.label}:{row.position}"
    kind = row.value.get("meta_info")
    return Record(
        id=id,
        document_id=id,
        source=config.label,
        task="options",
        category="MCQA",
        language=detect(question),
        split=unit.split,
        turns=(Turn("user", query=question), Turn("assistant", trained=True)),
        gold={"options": options, "answer": key},
        meta={"meta_info": kind} if isinstance(kind, str) else {},
    )


def _options(given: Any) -> dict[str, str] | None:
    """Options by key, those without text left out; None where they are none."""
    if not isinstance(given, dict):
        return None
    options = {key: text for key, text in given.items() if isinstance(text, str) and text.strip()}
    letters = all(len(key) == 1 and "A" <= key <= "Z" for key in options)
    return options if letters and len(options) > 1 else None
