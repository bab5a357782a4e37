"""Raw corpora to a `data` artifact, on Ray Data: every unit becomes a part in a task of its own, then every shard.

Parts are written first and each is whole or absent, so that a run that was killed goes on with the units that are left.
Tasks only, no actors: an actor pool on few CPUs starves the tasks that feed it.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, SerializeAsAny, field_validator

from medtrain import artifacts, ledger, plugins
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.config import Config, identity, knob
from medtrain.data import selection, stage
from medtrain.data.cleaning import CleanerConfig
from medtrain.data.holdout import HoldoutConfig
from medtrain.data.source import SourceConfig, SourceModule, Unit
from medtrain.errors import ConfigError, DataError
from medtrain.storage import Store
from medtrain.tracking import Progress


class DataConfig(Config):
    """One set of clean records."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """The artifact's name: data/<name>."""
    root: str = knob("demo")
    """The folder of the sources' paths on every node, relative to the current one; `demo` is made on the spot."""
    sources: tuple[SerializeAsAny[SourceConfig], ...] = Field(min_length=1)
    """What to read, in artifact order: `{source: NAME, path: …, max_rows: …}` and the source's own settings."""
    cleaners: tuple[SerializeAsAny[CleanerConfig], ...] = ()
    """The rules to apply, in order: `{cleaner: NAME}` and the rule's own settings."""
    holdout: HoldoutConfig = HoldoutConfig()
    """Rows that leave train for validation."""
    seed: int = 42
    """Draws the rows where a source has max_rows."""
    shard_rows: int = Field(4096, ge=1)
    """Records in a shard."""

    @field_validator("sources", mode="before")
    @classmethod
    def _sources(cls, items: Any) -> Any:
        return _each(items, "sources", stage.source_config)

    @field_validator("cleaners", mode="before")
    @classmethod
    def _cleaners(cls, items: Any) -> Any:
        return _each(items, "cleaners", stage.cleaner_config)

    @field_validator("sources")
    @classmethod
    def _labels(cls, sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        again = [label for label, count in Counter(s.label for s in sources).items() if count > 1]
        if again:
            raise ValueError(f"two sources are called {again[0]!r}; give one of them another `name`")
        return sources


def _each(items: Any, field: str, read: Callable[[dict[str, Any]], Config]) -> Any:
    if not isinstance(items, (list, tuple)):
        return items
    found = []
    for number, item in enumerate(items):
        try:
            found.append(read(item) if isinstance(item, dict) else item)
        except ConfigError as error:
            raise ConfigError(f"data.{field}.{number}: {error}") from None
    return tuple(found)


def plan(config: DataConfig) -> list[tuple[SourceConfig, list[Unit]]]:
    """The units of every source, in artifact order.

    Raises:
        DataError: the root or a file is absent, or a file is empty or an LFS pointer.
    """
    root = Path(config.root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"data.root={config.root}: no folder {root}; give the path of the raw corpora")
    found: list[tuple[SourceConfig, list[Unit]]] = []
    for source in config.sources:
        module: SourceModule = plugins.load("data", "sources", source.source)
        found.append((source, module.units(source, root)))
    return found


def inputs(planned: Sequence[tuple[SourceConfig, list[Unit]]]) -> dict[str, str]:
    """`source/file` -> SHA-256 of each raw file; a folder's is that of its files' names and hashes."""
    found: dict[str, str] = {}
    for source, units in planned:
        for unit in units:
            for path, name in [(unit.path, unit.name), *((p, f"also/{Path(p).name}") for p in unit.also)]:
                key = f"{source.label}/{name}"
                if key not in found:
                    found[key] = _sha256(Path(path))
    return found


def _sha256(path: Path) -> str:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        lines = [f"{p.relative_to(path).as_posix()} {_sha256(p)}\n" for p in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin(root: Store, config: DataConfig, policy: Policy) -> tuple[Artifact | Build, list[stage.Work]]:
    """The artifact where it is there and the same, else a build to fill, and what there is to stage for it.

    Raises:
        DataError: an input is absent or damaged.
        IdentityMismatch: an artifact of this name was made from something else.
    """
    planned = plan(config)
    files = [plugins.source_of("data", "sources", s.source) for s in config.sources]
    files += [plugins.source_of("data", "cleaners", c.cleaner) for c in config.cleaners]
    code = artifacts.code_hash([*artifacts.room_code("data", "records.py"), *files])
    works = [
        stage.as_work(f"{i:03d}-{j:05d}", unit, source, config.cleaners, config.seed)
        for i, (source, units) in enumerate(planned)
        for j, unit in enumerate(units)
    ]
    made_of = Identity(identity(config), inputs(planned), code)
    return artifacts.begin(root, "data", config.name, made_of, policy), works


def build(root: Store, config: DataConfig, policy: Policy) -> Artifact:
    """Make the artifact data/<name>, or open it where it is there and the same.

    Raises:
        DataError: an input is absent or damaged, a source gives no row, or a plug-in raises.
        IdentityMismatch: an artifact of this name was made from something else.
    """
    begun, works = begin(root, config, policy)
    if isinstance(begun, Artifact):
        return begun
    for note in begun.notes:
        print(note, flush=True)
    _stage(begun, works)
    return _finish(begun, config, works)


def _stage(build: Build, works: list[stage.Work]) -> None:
    """Write the parts that are not there yet."""
    missing = [work for work in works if not stage.is_whole(build.store, work.part)]
    progress = Progress("read and clean", len(works), done=len(works) - len(missing), unit="unit")
    store = build.store

    def run(item: str) -> str:
        work = stage.Work(**json.loads(item))
        stage.stage(store, work)
        return f"{work.source['name'] or work.source['source']}"

    for note in tasks(run, [json.dumps(asdict(work)) for work in missing]):
        progress.advance(1, note)


def _finish(build: Build, config: DataConfig, works: list[stage.Work]) -> Artifact:
    """Choose the rows, write shards and ledger, remove the parts."""
    store = build.store
    parts = [work.part for work in works]
    dropped: Counter[str] = Counter()
    clean: dict[str, int] = {}
    for number, source in enumerate(config.sources):
        mine = [part for part in parts if part.startswith(f"{number:03d}-")]
        markers = [stage.marker(store, part) for part in mine]
        clean[source.label] = sum(marker["clean"] for marker in markers)
        counts = sum((Counter(marker["dropped"]) for marker in markers), Counter[str]())
        if not clean[source.label]:
            raise DataError(
                f"source {source.label}: gives no row; dropped: {dict(counts) or 'none'}; "
                f"is it the right source for path={source.path}?"
            )
        dropped += counts
        store.write(f"ledger/{number:05d}.jsonl", b"".join(store.read(f"parts/{part}.jsonl") for part in mine))
    tables = [stage.read_parquet(store, f"parts/{part}.parquet", selection.COLUMNS) for part in parts]
    chosen = selection.select(tables, {s.label: s.max_rows for s in config.sources}, config.seed, config.holdout)
    dropped += ledger.write(store, f"ledger/{len(config.sources):05d}.jsonl", chosen.entries)
    plans = selection.shard_plans(chosen, parts, config.shard_rows)
    progress = Progress("write shards", len(plans), unit="shard")

    def run(item: str) -> str:
        selection.write_shard(store, json.loads(item))
        return ""

    store.delete("shards")
    for _ in tasks(run, [json.dumps(plan) for plan in plans]):
        progress.advance()
    store.delete("parts")
    facts = {
        "rows": len(chosen.id),
        "by_source": chosen.by_source(),
        "splits": {s.label: "corpus" if s.local_split is None else "local" for s in config.sources},
        "dropped": dict(sorted(dropped.items())),
        "not_taken": {label: clean[label] - n for label, n in chosen.taken.items() if clean[label] > n},
    }
    return build.finish(facts)


def tasks(run: Callable[[str], str], items: list[str]) -> Iterator[str]:
    """Run a function over items in Ray Data tasks, one item each, and give its answers as they come.

    Raises:
        DataError: the function raised one.
    """
    import ray

    if not items:
        return
    # Our own progress lines say it all; Ray's would drown them.
    logging.getLogger("ray.data._internal.execution").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def step(batch: pa.Table) -> pa.Table:
        answers, errors = [], []
        for item in batch["item"].to_pylist():
            try:
                answers.append(run(item))
                errors.append("")
            except DataError as error:
                answers.append("")
                errors.append(str(error))
        return pa.table({"answer": answers, "error": errors})

    dataset = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    for row in dataset.map_batches(step, batch_size=1, batch_format="pyarrow").iter_rows():
        if row["error"]:
            raise DataError(row["error"])
        yield row["answer"]
