"""The evaluation of some systems on the same held-out rows: answers first, saved; then scores; then the report."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import Field, field_validator

from medtrain import artifacts, config, plugins
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.config import Config, fingerprint, knob
from medtrain.errors import ConfigError
from medtrain.evaluate import launch, report, rows, scoring, systems
from medtrain.evaluate.cases import Answer, from_lines
from medtrain.evaluate.intervals import Bootstrap
from medtrain.evaluate.launch import Chunk
from medtrain.evaluate.systems import GenerationConfig, System
from medtrain.records import Record, Split
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tracking import Progress

KIND = "evaluations"
SCORES, REPORT = "scores.json", "report.html"
ANSWERING = (
    "evaluate/generate.py",
    "evaluate/systems.py",
    "evaluate/rows.py",
    "evaluate/cases.py",
    "tokens",
    "train/model.py",
)
SCORING = (
    "evaluate/scoring.py",
    "evaluate/intervals.py",
    "evaluate/sets.py",
    "evaluate/cases.py",
    "evaluate/report.py",
)
TASKS = (
    "ner",
    "relations",
    "labels",
    "choice",
    "options",
    "attribute",
    "cloze",
    "summary",
    "qa",
    "translation",
    "general",
)


class EvaluationConfig(Config):
    """Which systems answer which rows, and how the answers are scored.

    Knobs here decide the scores and never the answers: changed, they score the saved answers again.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    """The artifact's name: evaluations/<name>."""
    systems: tuple[System, ...] = Field(min_length=1)
    """In the order of the tables; differences are later minus earlier."""
    data: str
    """The data artifact whose held-out rows are answered."""
    splits: tuple[Split, ...] = ("validation", "test")
    """The splits to take rows from, each scored by itself."""
    tasks: tuple[str, ...] = TASKS
    """The tasks to take rows of: file names in evaluate/tasks."""
    max_rows: int | None = Field(None, ge=1)
    """At most so many rows of each task and split, drawn by seed, the same for every system; null takes all."""
    seed: int = 42
    """Seed of the draw of rows and of the bootstrap."""
    chunk_rows: int = Field(64, ge=1)
    """Rows in one file of answers: what a killed job loses at most, for each worker."""
    generation: GenerationConfig = GenerationConfig()
    """How answers are generated."""
    metrics: dict[str, tuple[str, ...]] = knob(default_factory=dict)
    """Metrics by task (file names in evaluate/metrics); a task that is not named takes its own."""
    resamples: int = knob(1000, ge=10)
    """Bootstrap resamples of documents for the 95 % intervals."""
    examples: int = knob(0, ge=0)
    """Rows of each task that the report quotes with every system's answer; leave 0 where rows are patients'."""

    @field_validator("systems")
    @classmethod
    def _distinct(cls, found: tuple[System, ...]) -> tuple[System, ...]:
        folders = [system.folder for system in found]
        if len(set(folders)) != len(folders):
            raise ValueError(f"systems share a folder name ({', '.join(folders)}); give each its own name")
        return found


@dataclass(frozen=True)
class Plan:
    """Everything that an evaluation will do, found out before anything is done."""

    config: EvaluationConfig
    records: tuple[Record, ...]
    identity: Identity

    def chunks(self) -> Iterator[Chunk]:
        """Rows of like length together; system after system, so that a worker loads each once."""
        order = sorted(self.records, key=lambda r: (-sum(len(t.query) + len(t.context) for t in r.turns), r.id))
        size = self.config.chunk_rows
        for system in self.config.systems:
            for number, start in enumerate(range(0, len(order), size)):
                path = f"predictions/{system.folder}/{number:05d}.jsonl"
                yield Chunk(system, path, tuple(order[start : start + size]))

    def describe(self) -> str:
        """The plan for `--dry-run`."""
        counts = Counter((record.task, record.split) for record in self.records)
        chunks = sum(1 for _ in self.chunks())
        most = len(self.records) * self.config.generation.max_new_tokens
        lines = [f"  {task}, {split}: {rows} rows" for (task, split), rows in sorted(counts.items())]
        names = ", ".join(f"{s.name} ({s.run}{'' if s.adapter else ', base alone'})" for s in self.config.systems)
        return "\n".join(
            [
                f"systems: {names}",
                *lines,
                f"{len(self.config.systems)} systems x {len(self.records)} rows = {chunks} chunks of at most "
                f"{self.config.chunk_rows} rows; at most {most:,} generated tokens for each system",
            ]
        )


def plan(root: Store, settings: EvaluationConfig) -> Plan:
    """Find the inputs and choose the rows.

    Raises:
        MissingArtifact: the data, a run or its tokens are not there; the message names the job.
        ConfigError: a task or metric does not exist, or no row is left to answer.
    """
    data = artifacts.locate(root, "data", settings.data)
    inputs = {f"data/{data.name}": data.fingerprint}
    for system in settings.systems:
        run = systems.run_of(root, system)
        systems.tokens_of(root, run)
        inputs[system.run] = run.fingerprint
    for task in {*settings.tasks, *settings.metrics}:
        for metric in scoring.metrics_of(task, settings.metrics):
            plugins.load("evaluate", "metrics", metric)
    records = rows.held_out(data, settings.tasks, settings.splits, settings.max_rows, settings.seed)
    if not records:
        raise ConfigError(
            f"evaluation.tasks={list(settings.tasks)}, splits={list(settings.splits)}: data/{settings.data} has no "
            "such row; hold rows out (data.holdout), or choose other tasks or splits"
        )
    code = artifacts.code_hash(artifacts.room_code(*ANSWERING))
    return Plan(settings, tuple(records), Identity(config.identity(settings), inputs, code))


def evaluate(root: Store, planned: Plan, policy: Policy, cluster: RuntimeConfig) -> Artifact:
    """Make the answers that are missing, score all of them and write the report; needs a connected Ray.

    Raises:
        MedtrainError: see `artifacts.begin` and `launch.generate`.
    """
    settings = planned.config
    begun = artifacts.begin(root, KIND, settings.name, planned.identity, policy)
    wanted = scoring_fingerprint(settings)
    if isinstance(begun, Artifact):
        if begun.facts.get("scoring") == wanted:
            return begun
        print(f"{KIND}/{settings.name}: answers are there; metrics changed, so they are scored again", flush=True)
        begun.store.delete(artifacts.MANIFEST)
        begun = Build(KIND, settings.name, begun.store, Identity(**begun.manifest["identity"]), resumed=True)
    for note in begun.notes:
        print(note, flush=True)
    progress = Progress("answers", len(settings.systems) * len(planned.records))
    loader = partial(systems.open_system, root, settings.generation)
    launch.generate(begun.store, planned.chunks(), loader, cluster, progress)
    return finish(root, begun, planned)


def finish(root: Store, build: Build, planned: Plan) -> Artifact:
    """Score the saved answers and close the artifact; reads nothing but files."""
    settings = planned.config
    answers = {system.name: read_answers(build.store, system) for system in settings.systems}
    groups = scoring.score(answers, settings.metrics, Bootstrap(settings.resamples, settings.seed))
    scores = {"evaluation": settings.name, "systems": [s.model_dump() for s in settings.systems], "groups": groups}
    build.store.write(SCORES, json.dumps(scores, indent=1, ensure_ascii=False).encode("utf-8"))
    material = report.Material(
        name=settings.name,
        settings=settings.model_dump(mode="json"),
        fingerprint=planned.identity.fingerprint,
        groups=groups,
        answers=answers,
        artifacts=chain(root, settings),
        examples=settings.examples,
    )
    build.store.write(REPORT, report.render(material).encode("utf-8"))
    return build.finish({"rows": len(planned.records), "scoring": scoring_fingerprint(settings)})


def chain(root: Store, settings: EvaluationConfig) -> list[Artifact]:
    """The artifacts that the systems come from, each once: data, then tokens, then runs."""
    runs = {system.run: systems.run_of(root, system) for system in settings.systems}
    tokens = {found.name: found for found in (systems.tokens_of(root, run) for run in runs.values())}
    return [artifacts.locate(root, "data", settings.data), *tokens.values(), *runs.values()]


def read_answers(store: Store, system: System) -> list[Answer]:
    """A system's saved answers, by record id."""
    files = store.files(f"predictions/{system.folder}")
    return sorted((answer for path in files for answer in from_lines(store.read(path))), key=lambda answer: answer.id)


def scoring_fingerprint(settings: EvaluationConfig) -> str:
    """What the scores depend on beside the answers: settings, and the code of the room, its tasks and metrics."""
    chosen = {task: list(scoring.metrics_of(task, settings.metrics)) for task in settings.tasks}
    files = [plugins.source_of("evaluate", "tasks", task) for task in chosen]
    files += [plugins.source_of("evaluate", "metrics", name) for names in chosen.values() for name in names]
    code = artifacts.code_hash([*files, *artifacts.room_code(*SCORING, "tokens/wording")])
    return fingerprint([chosen, settings.resamples, settings.examples, code])


def result_lines(artifact: Artifact) -> Sequence[str]:
    """What a job prints at the end: the table and where the report lies."""
    from medtrain.evaluate import table

    groups = json.loads(artifact.store.read(SCORES))["groups"]
    return [*table.lines(groups), "", f"report: {artifact.store.root}/{REPORT}"]
