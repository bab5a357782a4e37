"""medtrain.search.trial: attempts, endings, reading back, going on, pruning."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from medtrain.search import trial
from medtrain.search.trial import Order
from medtrain.search.trials import Report, Stopped
from medtrain.storage import Store

ORDER = Order(
    number="abc", identity={"config": {"x": 1}, "inputs": {}, "code": ""}, values={"x": 1}, overrides=("x=1",)
)


class Given:
    """Trials that do what a test says."""

    def __init__(self, work: Callable[[Store, Report], Any]):
        self.work, self.runs = work, 0

    def run(self, folder: Store, overrides: list[str], report: Report) -> Any:
        self.runs += 1
        assert overrides == ["x=1"]
        return self.work(folder, report)


def go(store: Store, work: Callable[[Store, Report], Any], report: Report = lambda step, numbers: None) -> trial.Ending:
    """One attempt."""
    return trial.run(Given(work), store, ORDER, "here", report)


def test_a_finished_trial_is_read_back_and_never_run_again(store: Store) -> None:
    made = go(store, lambda folder, report: {"loss": 2.5, "device": "cpu", "checkpoint_s": 0.5, "bad": float("inf")})
    assert made.how == "done"
    again = Given(lambda folder, report: {"loss": 0.0})
    assert trial.run(again, store, ORDER, "there", lambda step, numbers: None).facts == made.facts and not again.runs
    facts = trial.facts(store, "abc")
    assert facts is not None and facts["metrics"] == {"loss": 2.5, "bad": None} and facts["values"] == {"x": 1}
    assert (facts["device"], facts["checkpoint_s"], facts["attempts"], facts["node"]) == ("cpu", 0.5, 1, "here")
    assert trial.about(store, "abc") == ORDER.model_copy(update={"identity": {}})


@pytest.mark.parametrize(
    ("raised", "how", "why"),
    [
        (RuntimeError("no room"), "failed", "RuntimeError: no room"),
        (Stopped("pruned", "others"), "pruned", "others"),
        (Stopped("failed", "too long"), "failed", "too long"),
    ],
)
def test_what_a_trial_raises_is_how_it_ended(store: Store, raised: Exception, how: str, why: str) -> None:
    def work(folder: Store, report: Report) -> None:
        raise raised

    assert (go(store, work).how, trial.facts(store, "abc")) == (how, None)
    (attempt,) = trial.attempts(store, "abc")
    assert (attempt.how, attempt.error) == (how, why) and attempt.ended is not None


def test_a_result_that_json_has_not_is_a_failure(store: Store) -> None:
    assert go(store, lambda folder, report: {"loss": object()}).how == "failed"


def test_a_killed_trial_goes_on_in_its_folder_and_its_attempts_are_told_apart(store: Store) -> None:
    class Killed(BaseException):
        """A process that ends here."""

    def half(folder: Store, report: Report) -> None:
        folder.write("half", b"1")
        raise Killed

    with pytest.raises(Killed):
        go(store, half)
    assert [attempt.how for attempt in trial.attempts(store, "abc")] == ["running"]
    store.write("trials/abc/attempts/0009.json", b'{"number": 9, "beg')  # a write that was cut
    made = go(store, lambda folder, report: {"found": folder.exists("half")})
    assert made.facts["metrics"] == {"found": True} and made.facts["attempts"] == 2
    first, second = trial.attempts(store, "abc")
    assert (first.how, second.how, second.number) == ("killed", "done", 2)
    assert first.until <= second.began and made.facts["seconds"] == pytest.approx(trial.seconds([first, second]))


def test_an_attempt_that_the_study_has_given_up_stops_and_finishes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "BEAT_S", 0.02)

    def work(folder: Store, report: Report) -> dict[str, float]:
        assert trial.end(store, "abc", "lost")
        for step in range(500):
            report(step, {})
            time.sleep(0.01)
        return {"loss": 1.0}

    assert go(store, work).how == "lost"
    assert trial.facts(store, "abc") is None and trial.attempts(store, "abc")[-1].how == "lost"
    assert not trial.end(store, "abc", "done"), "the first word counts"


def test_a_running_attempt_says_that_it_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "BEAT_S", 0.02)

    def work(folder: Store, report: Report) -> dict[str, float]:
        first = trial.attempts(store, "abc")[-1].seen
        until = time.monotonic() + 5
        while trial.attempts(store, "abc")[-1].seen == first and time.monotonic() < until:
            time.sleep(0.02)
        return {"later": trial.attempts(store, "abc")[-1].seen - first}

    assert go(store, work).facts["metrics"]["later"] > 0
    assert not [thread for thread in threading.enumerate() if thread.name == "trial abc lives"]


def test_a_sign_of_life_changes_nothing_that_anybody_else_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study may say how an attempt ended, and read it, at any moment of a heartbeat."""
    monkeypatch.setattr(trial, "BEAT_S", 0.01)
    written: list[str] = []
    write = Store.write

    def noted(self: Store, path: str, *content: bytes) -> None:
        written.append(path.rpartition("/")[2])
        write(self, path, *content)

    def work(folder: Store, report: Report) -> dict[str, float]:
        monkeypatch.setattr(Store, "write", noted)
        until = time.monotonic() + 5
        while written.count("0001.seen") < 3 and time.monotonic() < until:
            time.sleep(0.01)
        monkeypatch.setattr(Store, "write", write)
        return {"loss": 1.0}

    go(store, work)
    assert set(written) == {"0001.seen"} and len(written) >= 3
    (whole,) = trial.attempts(store, "abc")
    store.write("trials/abc/attempts/0001.seen", b"")
    assert trial.attempts(store, "abc") == [whole], "one that was cut says nothing"
    store.write("trials/abc/attempts/0001.seen", b"9999999999.5")
    assert trial.attempts(store, "abc")[0].seen == 9999999999.5


def test_who_is_killed_while_it_prunes_leaves_a_finished_trial(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(folder: Store, report: Report) -> dict[str, float]:
        folder.write("state", b"big")
        return {"loss": 1.0}

    made = go(store, work)
    write = type(store).write

    def cut(self: Store, path: str, *content: bytes) -> None:
        write(self, path, b"".join(content)[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(store), "write", cut)
    with pytest.raises(KeyboardInterrupt):
        trial.prune(store, "abc")
    assert trial.facts(store, "abc") == made.facts


def test_pruning_keeps_the_numbers(store: Store) -> None:
    def work(folder: Store, report: Report) -> dict[str, float]:
        folder.write("checkpoint/1", b"big")
        folder.write("state", b"big")
        folder.write("printed.txt", b"small")
        return {"loss": 1.0}

    made = go(store, work)
    assert store.files("trials/abc/files") != []
    trial.prune(store, "abc")
    trial.prune(store, "abc")
    assert (
        store.files("trials/abc/files") == ["trials/abc/files/printed.txt"] and trial.facts(store, "abc") == made.facts
    )
    again = Given(lambda folder, report: {})
    assert trial.run(again, store, ORDER, "", lambda step, numbers: None).facts == made.facts
    files = json.loads(store.read("trials/abc/manifest.json"))["files"]
    assert files and all(store.size_bytes(f"trials/abc/{path}") == size for path, size in files.items())
