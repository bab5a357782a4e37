"""Answers to a file of messages: rows in, answers out, resumable; bad rows go to the ledger and never end the job.

A row is `{"messages": [{"role", "content"}, …]}` or `{"prompt": …}`; the file is JSON lines, a JSON array or Parquet.
An output row is the input row with `answer`, `answer_tokens` and `hit_limit`, at its `position`.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from medtrain import artifacts, config, ledger
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.config import Config, knob
from medtrain.data import jsonfiles
from medtrain.data.chat import turns_of
from medtrain.data.language import LanguageChoice, choose
from medtrain.data.source import Problem
from medtrain.errors import DataError, GenerationError
from medtrain.evaluate import launch, systems
from medtrain.evaluate.cases import Answer, from_lines
from medtrain.evaluate.launch import Chunk
from medtrain.evaluate.systems import GenerationConfig, System
from medtrain.ledger import Entry
from medtrain.records import Record, Turn
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tracking import Progress

KIND, ANSWERS, LEDGER, PARTS = "predictions", "answers.jsonl", "ledger/00000.jsonl", "parts"
SOURCE = "input"
ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
CODE = ("evaluate/predict.py", "evaluate/generate.py", "evaluate/answering.py", "evaluate/systems.py", "tokens")


class PredictConfig(Config):
    """Which system answers which file."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """The artifact's name: predictions/<name>."""
    system: System
    """The run that answers."""
    input: str | None = knob(None)
    """A file of messages, or a folder of such files. Not identity: its content is. Null needs --prompt."""
    language: LanguageChoice = "auto"
    """Which system prompt rows without one of their own get: en, zh, or auto by the last question."""
    chunk_rows: int = Field(64, ge=1)
    """Rows that one worker answers in one go: what a killed job loses at most, for each worker."""
    generation: GenerationConfig = GenerationConfig()
    """How answers are generated."""


def input_path(settings: PredictConfig) -> Path:
    """The input as a path.

    Raises:
        DataError: none is given, or it does not exist.
    """
    if settings.input is None:
        raise DataError('predict.input: not given; name a file of messages, or ask one question with --prompt "…"')
    path = Path(settings.input).expanduser().resolve()
    if not path.exists():
        raise DataError(f"predict.input={settings.input}: no such file or folder; check the path")
    return path


def read(settings: PredictConfig) -> Iterator[Record | Problem]:
    """The rows of the input as records whose last turn is to be answered, and what is wrong with the others."""
    for unit in jsonfiles.units(input_path(settings), SOURCE, "test"):
        for row in jsonfiles.rows(unit):
            yield row if isinstance(row, Problem) else record_of(row.value, row.position, settings.language)


def record_of(row: dict[str, Any], position: str, language: LanguageChoice) -> Record | Problem:
    """A row as a record that keeps the row in its `meta`, or what is wrong with it."""
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), str):
        messages = [{"role": "user", "content": row["prompt"]}]
    turns = turns_of(messages, ROLES, "role", "content")
    if isinstance(turns, str):
        return Problem(position, "bad_row", f"{turns}, or a prompt")
    if turns[-1].role == "user":
        turns.append(Turn("assistant"))
    asked = [turn for turn in turns if turn.role == "user"]
    if not asked or not asked[-1].query.strip():
        return Problem(position, "no_question", "there is no user turn with text before the answer")
    id = f"{SOURCE}:{position}"
    spoken = choose(language, asked[-1].query, "")
    return Record(id, id, SOURCE, "general", "GENERAL", spoken, "test", tuple(turns), meta={"row": row})


def chunks(settings: PredictConfig, problems: list[Problem]) -> Iterator[Chunk]:
    """The input in chunks, read as they are needed; what is wrong with a row is added to `problems`."""
    waiting: list[Record] = []
    number = 0
    for row in chain(read(settings), [None]):
        if isinstance(row, Problem):
            problems.append(row)
        elif row is not None:
            waiting.append(row)
        if len(waiting) == settings.chunk_rows or (row is None and waiting):
            yield Chunk(settings.system, f"{PARTS}/{number:05d}.jsonl", tuple(waiting))
            waiting, number = [], number + 1


def check(root: Store, settings: PredictConfig, prompt: str | None) -> None:
    """See that everything is there before a cluster is asked for.

    Raises:
        MissingArtifact: the run or its tokens are not there; the message names the job.
        DataError: there is neither an input nor a prompt.
    """
    systems.tokens_of(root, systems.run_of(root, settings.system))
    if prompt is None:
        input_path(settings)


def describe(settings: PredictConfig) -> str:
    """The plan for `--dry-run`: rows and chunks of the input, and what is wrong with rows."""
    problems: list[Problem] = []
    sizes = [len(chunk.records) for chunk in chunks(settings, problems)]
    most = sum(sizes) * settings.generation.max_new_tokens
    return (
        f"{settings.system.name} ({settings.system.run}) answers {sum(sizes)} rows in {len(sizes)} chunks, at most "
        f"{most:,} generated tokens; {len(problems)} rows cannot be read"
    )


def identity(root: Store, settings: PredictConfig) -> Identity:
    """What the answers are made from: the run, the content of the input's files, the settings and the code."""
    inputs = {settings.system.run: systems.run_of(root, settings.system).fingerprint}
    for path in sorted({unit.path for unit in jsonfiles.units(input_path(settings), SOURCE, "test")}):
        with Path(path).open("rb") as file:
            inputs[Path(path).name] = hashlib.file_digest(file, "sha256").hexdigest()
    return Identity(config.identity(settings), inputs, artifacts.code_hash(artifacts.room_code(*CODE)))


def predict(root: Store, settings: PredictConfig, policy: Policy, cluster: RuntimeConfig) -> Artifact:
    """Answer every row of the input; needs a connected Ray.

    Raises:
        MedtrainError: see `check`, `artifacts.begin` and `launch.generate`.
    """
    check(root, settings, None)
    begun = artifacts.begin(root, KIND, settings.name, identity(root, settings), policy)
    if isinstance(begun, Artifact):
        return begun
    for note in begun.notes:
        print(note, flush=True)
    total = sum(len(chunk.records) for chunk in chunks(settings, []))
    loader = partial(systems.open_system, root, settings.generation)
    launch.generate(begun.store, chunks(settings, []), loader, cluster, Progress("answers", total))
    return begun.finish(collect(begun.store, settings))


def collect(store: Store, settings: PredictConfig) -> dict[str, Any]:
    """Join the parts into `answers.jsonl` in the order of the input, and write the ledger; the manifest's facts."""
    problems: list[Problem] = []
    lines: list[str] = []
    for chunk in chunks(settings, problems):
        answers = from_lines(store.read(chunk.path))
        for record, answer in zip(chunk.records, answers, strict=True):
            position = record.id.removeprefix(f"{SOURCE}:")
            if answer.refused:
                problems.append(Problem(position, "refused", answer.refused))
            else:
                lines.append(json.dumps(_output(record, answer, position), ensure_ascii=False, default=str) + "\n")
    store.write(ANSWERS, "".join(lines).encode("utf-8"))
    entries = [Entry("evaluate", SOURCE, p.id or p.position, p.position, p.rule, p.detail, p.action) for p in problems]
    dropped = ledger.write(store, LEDGER, entries)
    return {"rows": len(lines), "dropped": dict(sorted(dropped.items()))}


def _output(record: Record, answer: Answer, position: str) -> dict[str, Any]:
    made = {"answer": answer.text, "answer_tokens": answer.tokens, "hit_limit": answer.hit_limit}
    return {**record.meta["row"], "position": position, **made}


def ask(root: Store, settings: PredictConfig, prompt: str, cluster: RuntimeConfig) -> str:
    """The answer to one prompt, made by one worker; nothing is kept.

    Raises:
        DataError: the prompt is empty.
        GenerationError: the prompt is too long for the model.
    """
    record = record_of({"prompt": prompt}, "prompt", settings.language)
    if isinstance(record, Problem):
        raise DataError(f"--prompt: {record.detail}; write a question")
    loader = partial(systems.open_system, root, settings.generation)
    answer = launch.ask(settings.system, [record], loader, cluster)[0]
    if answer.refused:
        raise GenerationError(f"--prompt: {answer.refused}")
    return answer.text
