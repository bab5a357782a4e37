"""Chunks over real Ray actors: what is finished is kept, what dies is done again, what is wrong is said."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError

from medtrain.errors import ConfigError, GenerationError
from medtrain.evaluate import launch
from medtrain.evaluate.cases import Answer, Reply, answer_of, from_lines, to_lines
from medtrain.evaluate.launch import Chunk
from medtrain.evaluate.systems import System
from medtrain.records import Record, Turn
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tracking import Progress

SYSTEMS = (System(name="base", run="stage1/x", adapter=False), System(name="stage 1", run="stage1/x"))


def record(number: int) -> Record:
    turns = (Turn("user", query=f"question {number}"), Turn("assistant", text="answer"))
    return Record(f"s:{number}", f"d:{number}", "s", "qa", "QA", "en", "test", turns)


def chunks() -> list[Chunk]:
    return [
        Chunk(system, f"predictions/{system.folder}/{i:05d}.jsonl", tuple(record(3 * i + j) for j in range(3)))
        for system in SYSTEMS
        for i in range(2)
    ]


def echo(folder: Path, deadly: str, deaths: int, system: System, device: str) -> Callable[..., list[Answer]]:
    """A system that repeats the question; on the question `deadly` its process dies as often as `deaths` says."""
    (folder / f"loaded-{system.folder}-{os.getpid()}").touch()

    def answer(records: Sequence[Record]) -> list[Answer]:
        for one in records:
            died = len(list(folder.glob("died-*")))
            if one.turns[0].query == deadly and died < deaths:
                (folder / f"died-{died}").touch()
                os._exit(1)
        texts = [f"{system.name} {device}: {one.turns[0].query}" for one in records]
        return [answer_of(r, "answer", Reply(text, 3, False)) for r, text in zip(records, texts, strict=True)]

    return answer


def refuse(system: System, device: str) -> Callable[..., list[Answer]]:
    raise ConfigError(f"run={system.run!r}: cannot be opened")


def killed_once(folder: Path, system: System, device: str) -> Callable[..., list[Answer]]:
    """A system whose first worker Ray's memory monitor ends."""
    if not (folder / "died-0").exists():
        (folder / "died-0").touch()
        raise OutOfMemoryError("the node ran low on memory")
    return echo(folder, "", 0, system, device)


def run(store: Store, loader: launch.Loader, **settings: int) -> None:
    config = RuntimeConfig.model_validate({"cpus_per_worker": 0.5, "use_gpu": False, **settings})
    launch.generate(store, chunks(), loader, config, Progress("answers", 12))


def check(store: Store) -> None:
    for chunk in chunks():
        answers = from_lines(store.read(chunk.path))
        assert [a.id for a in answers] == [r.id for r in chunk.records]
        assert all(a.text.startswith(f"{chunk.system.name} cpu: question") for a in answers)


def test_a_dead_worker_costs_nothing_but_its_chunk(ray_cluster: None, store: Store, tmp_path: Path) -> None:
    run(store, functools.partial(echo, tmp_path, "question 4", 1), max_failures=1, workers=2)
    check(store)
    assert len(list(tmp_path.glob("died-*"))) == 1


def test_a_worker_that_the_memory_monitor_killed_is_replaced(ray_cluster: None, store: Store, tmp_path: Path) -> None:
    run(store, functools.partial(killed_once, tmp_path), max_failures=1, workers=1)
    check(store)


def test_finished_chunks_are_kept_and_a_cut_file_is_made_again(ray_cluster: None, store: Store, tmp_path: Path) -> None:
    first, second, *others = chunks()
    for chunk in others:
        store.write(chunk.path, to_lines([answer_of(r, "answer", Reply("kept", 1, False)) for r in chunk.records]))
    store.write(first.path, to_lines([answer_of(r, "answer", Reply("cut", 1, False)) for r in first.records])[:-20])
    run(store, functools.partial(echo, tmp_path, "", 0), workers=1)
    assert all(b"base cpu: question" in store.read(chunk.path) for chunk in (first, second))
    assert store.read(first.path).endswith(b"\n") and b"cut" not in store.read(first.path)
    assert all(b"kept" in store.read(chunk.path) for chunk in others)
    assert len(list(tmp_path.glob("loaded-*"))) == 1  # one worker, one system: loaded once for both chunks


def test_it_gives_up_after_the_failures_allowed(ray_cluster: None, store: Store, tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"runtime.max_failures=0: 1 workers died"):
        run(store, functools.partial(echo, tmp_path, "question 1", 99), max_failures=0, workers=1)


def test_a_users_error_comes_out_as_it_is(ray_cluster: None, store: Store) -> None:
    with pytest.raises(ConfigError, match="^run='stage1/x': cannot be opened$"):
        run(store, refuse, workers=1)
