"""A trial as an artifact: what is to be run, its attempts, its numbers; a finished one is read back.

studies/<study>/trials/<number>/
    identity.json        what it is made from; `number` is the beginning of its fingerprint
    trial.json           its setting and overrides
    attempts/0001.json   {number, began, seen, ended, node, how, error}, times in seconds since 1970
    attempts/0001.seen   the last such time at which it ran: its process writes that, anybody may write how it ended
    files/               what the trial itself keeps, checkpoints for one; of one that is not among the best printed.txt
    manifest.json        its numbers: it is finished
"""

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from medtrain import artifacts
from medtrain.artifacts import MANIFEST, Artifact, Build, Identity, Policy
from medtrain.config import Config, parse
from medtrain.search.trials import PRINTED, Report, Stopped, Trials
from medtrain.storage import Store

KIND, FILES, ATTEMPTS, ABOUT = "trials", "files", "attempts", "trial.json"
BESIDE = ("device", "checkpoint_s", "step_s", "groups")
"""What a trial may return beside its numbers, see `search/trials/`."""
SEEN = ".seen"
BEAT_S = 15.0
"""How often a running attempt says that it lives."""
How = Literal["running", "done", "failed", "pruned", "lost", "killed"]
"""`lost` with its process or node; `killed` with the whole study, of which nobody was left to say so."""


class Order(Config):
    """A trial that is to be run, as it is sent to a process."""

    number: str
    """Its folder's name, the beginning of its fingerprint."""
    identity: dict[str, Any]
    """What it is made from."""
    values: dict[str, Any]
    """Its setting, by dotted name."""
    repeat: int = 0
    """How often the setting was tried before."""
    overrides: tuple[str, ...]
    """All of its overrides."""


@dataclass(frozen=True)
class Attempt:
    """One time that a trial ran; times in seconds since 1970, `ended` null while nobody has said so."""

    number: int
    began: float
    seen: float
    ended: float | None = None
    node: str = ""
    how: How = "running"
    error: str = ""

    @property
    def until(self) -> float:
        """When it ended, or was last seen."""
        return self.seen if self.ended is None else self.ended


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; `facts` are the manifest's where it is done."""

    how: How
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def run(trials: Trials, study: Store, order: Order, node: str, report: Report) -> Ending:
    """Run a trial once, go on with it, or read it back where it is finished; what it raises becomes its ending.

    Args:
        trials: who runs it.
        study: the study's folder.
        order: the trial.
        node: where this is, for the record.
        report: takes numbers on the way, and says when to stop.
    """
    build = artifacts.begin(study, KIND, order.number, Identity(**order.identity), Policy())
    if isinstance(build, Artifact):
        return Ending("done", build.facts)
    build.store.write(ABOUT, _json(order.model_dump(mode="json", exclude={"identity"})))
    attempt = _claim(study, order.number, node)

    def asked(step: int, numbers: dict[str, float]) -> None:
        if over.is_set():
            raise Stopped("lost", "the study has gone on without it")
        report(step, numbers)

    ending, result = Ending("done"), dict[str, Any]()
    with _beating(study, order.number, attempt) as over:
        try:
            result = _json_values(trials.run(build.store.sub(FILES), list(order.overrides), asked))
        except Stopped as stop:
            ending = Ending(stop.how, error=stop.why)
        except Exception as error:
            ending = Ending("failed", error=f"{type(error).__name__}: {error}")
    if not (runs(study, order.number, attempt) and end(study, order.number, ending.how, ending.error)):
        return Ending("lost", error="the study has gone on without it")
    return replace(ending, facts=_finish(build, study, order, result)) if ending.how == "done" else ending


def end(study: Store, number: str, how: How, error: str = "") -> bool:
    """Write how the newest attempt ended, unless it has ended already; whether that was so."""
    known = attempts(study, number)
    if not known or known[-1].how != "running":
        return False
    now = time.time()
    _put(study, number, replace(known[-1], how=how, error=error, ended=now, seen=now))
    return True


def forgive(study: Store, number: str) -> None:
    """Have a trial run again that has ended: its newest attempt counts as killed, and its numbers are gone."""
    known = attempts(study, number)
    if known:
        _put(study, number, replace(known[-1], how="killed"))
    study.delete(f"{KIND}/{number}/{MANIFEST}")


def attempts(study: Store, number: str) -> list[Attempt]:
    """A trial's attempts, the first first."""
    store = study.sub(f"{KIND}/{number}/{ATTEMPTS}")
    files = store.files()
    read = (_parsed(store.read(path)) for path in files if path.endswith(".json"))
    seen = {path: _time(store.read(path)) for path in files if path.endswith(SEEN)}
    known = [Attempt(**content) for content in read if content]
    known = [replace(one, seen=max(one.seen, seen.get(f"{one.number:04d}{SEEN}", 0.0))) for one in known]
    return sorted(known, key=lambda attempt: attempt.number)


def about(study: Store, number: str) -> Order | None:
    """A trial as it was handed out; None if it never began."""
    path = f"{KIND}/{number}/{ABOUT}"
    found = _parsed(study.read(path)) if study.exists(path) else None
    return None if found is None else parse(Order, {**found, "identity": {}})


def seconds(ran: list[Attempt]) -> float:
    """How long attempts took together."""
    return sum(attempt.until - attempt.began for attempt in ran)


def facts(study: Store, number: str) -> dict[str, Any] | None:
    """What a finished trial's manifest says; None while it is unfinished."""
    manifest = _manifest(study, number)
    return None if manifest is None else dict(manifest["facts"])


def prune(study: Store, number: str) -> None:
    """Delete what a trial kept; its numbers stay, and what it printed, which may say why it failed."""
    store, manifest, printed = study.sub(f"{KIND}/{number}"), _manifest(study, number), f"{FILES}/{PRINTED}"
    if manifest is not None:
        files = manifest["files"].items()
        manifest["files"] = {p: size for p, size in files if p == printed or not p.startswith(f"{FILES}/")}
        store.replace(MANIFEST, _json(manifest))  # first: a manifest never speaks of files that are gone
    for folder in store.folders(FILES):
        store.delete(f"{FILES}/{folder}")
    for path in store.files(FILES):
        if path != printed:
            store.delete(path)


def _claim(study: Store, number: str, node: str) -> int:
    """Begin a new attempt; one that nobody ended was killed when it was last seen."""
    known = attempts(study, number)
    for attempt in known:
        if attempt.how == "running":
            _put(study, number, replace(attempt, how="killed", ended=attempt.seen))
    now = time.time()
    made = Attempt(number=known[-1].number + 1 if known else 1, began=now, seen=now, node=node)
    _put(study, number, made)
    return made.number


def runs(study: Store, number: str, attempt: int | None = None) -> bool:
    """Whether a trial's newest attempt, or this one of them, has not been ended by anybody."""
    known = attempts(study, number)
    return bool(known) and known[-1].how == "running" and attempt in (None, known[-1].number)


@contextlib.contextmanager
def _beating(study: Store, number: str, attempt: int) -> Iterator[threading.Event]:
    """Say every now and then that the attempt lives; the event is set once it does not count any more."""
    over, ended = threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            if not runs(study, number, attempt):
                over.set()
                return
            study.write(_file(number, attempt, SEEN), f"{time.time():.3f}".encode())

    thread = threading.Thread(target=beat, name=f"trial {number} lives", daemon=True)
    thread.start()
    try:
        yield over
    finally:
        ended.set()
        thread.join()


def _finish(build: Build, study: Store, order: Order, result: dict[str, Any]) -> dict[str, Any]:
    beside: dict[str, Any] = {name: result[name] for name in BESIDE if name in result}
    metrics = {name: value for name, value in result.items() if name not in beside}
    ran = attempts(study, order.number)
    tried = {"values": order.values, "repeat": order.repeat, "attempts": len(ran), "node": ran[-1].node}
    return build.finish({**tried, "metrics": metrics, "seconds": seconds(ran), **beside}).facts


def _json_values(value: Any) -> Any:
    """What JSON has of it: NaN and infinities become null.

    Raises:
        TypeError: it holds something else than numbers, words, lists and mappings.
    """
    if isinstance(value, dict):
        return {str(name): _json_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_values(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"a trial's result holds a {type(value).__name__}; return numbers, words, lists and mappings")


def _manifest(study: Store, number: str) -> dict[str, Any] | None:
    path = f"{KIND}/{number}/{MANIFEST}"
    return _parsed(study.read(path)) if study.exists(path) else None


def _put(study: Store, number: str, attempt: Attempt) -> None:
    study.replace(_file(number, attempt.number, ".json"), _json(asdict(attempt)))


def _file(number: str, attempt: int, suffix: str) -> str:
    return f"{KIND}/{number}/{ATTEMPTS}/{attempt:04d}{suffix}"


def _time(content: bytes) -> float:
    """What a heartbeat says; nothing where it was cut while it was written."""
    try:
        return float(content)
    except ValueError:
        return 0.0


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
