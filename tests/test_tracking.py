"""medtrain.tracking: lines that can be read back, and progress that neither floods nor stays silent."""

import contextlib
import http.server
import json
import math
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import mlflow
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from medtrain import tracking
from medtrain.errors import ConfigError
from medtrain.tracking import Progress, Tracker


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    """Steps beyond the checkpoint that is gone on from were lost with the crash, and so are their lines."""
    for first in (0, 1):
        tracker = Tracker(tmp_path / "log", first)
        for step in (first + 1, first + 2):
            tracker.log({"loss": 1 / step + first}, step)
        tracker.close()
        with (tmp_path / "log" / "metrics.jsonl").open("a") as half:
            half.write('{"step": 9, "lo')
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 1.5), (3, 1 / 3 + 1)]
    assert sorted(line["time"] for line in lines) == [line["time"] for line in lines]


def test_tensorboard_draws_the_same_numbers(tmp_path: Path) -> None:
    """And of a step that two attempts logged, the later one's."""
    for first, loss in ((0, 2.0), (1, 1.5)):
        tracker = Tracker(tmp_path, first)
        for step in (first + 1, first + 2):
            tracker.log({"loss": loss / step, "seconds/data": loss + step}, step, sample="a word")
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "seconds/data"}
    drawn = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in ("loss", "seconds/data")}
    assert drawn == {"loss": [(1, 2.0), (2, 0.75), (3, 0.5)], "seconds/data": [(1, 3.0), (2, 3.5), (3, 4.5)]}


def test_a_loss_that_is_no_number_is_still_json(tmp_path: Path) -> None:
    """Strict readers refuse NaN and Infinity as bare words."""
    tracker = Tracker(tmp_path)
    tracker.log({"loss": math.nan, "norm": math.inf}, 1)
    tracker.close()
    refuse = pytest.fail
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=lambda word: refuse(f"bare {word}"))
    assert (line["step"], line["loss"], line["norm"]) == (1, None, None)


def test_progress_prints_the_last_line_and_little_between(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("rows", 100, done=40, every_s=3600)
    for _ in range(60):
        progress.advance(note="loss 1.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rows: 100%") and "100/100" in lines[0] and "loss 1.5" in lines[0]


def test_progress_prints_when_it_is_time(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("rows", 10, unit="tok", every_s=0.0)
    progress.advance(3)
    assert "3/10" in capsys.readouterr().out


def wandb_rows(path: Path) -> Iterator[dict[str, float]]:
    """The rows that an offline run has kept, each with its step: records of a LevelDB log after a head of 7 bytes.

    A record lies in blocks of 32 KiB, whole (1) or as first (2), middle (3) and last part (4), each with a head of its
    own; where none has room any more, a block ends in zeros. What a run that has ended still holds is written by the
    end of W&B's session.
    """
    wandb.teardown()
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        _, size, part = struct.unpack("<IHB", content[at : at + 7])
        left = 2**15 - at % 2**15
        if left < 7 or part == 0:
            at += left
            continue
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):
            read, record = Record.FromString(record), b""
            if read.HasField("history"):
                yield {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in read.history.item}


def test_services_get_the_same_numbers_and_one_run_across_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for first in (0, 2):
        tracker = Tracker(tmp_path / "log", first, ("mlflow", "wandb"), "stage1/x")
        for step in (first + 1, first + 2):
            tracker.log({"loss": 1 / step, "norm": math.nan if step == 1 else 2.0 * step}, step)
        tracker.close()
    (found,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    history = mlflow.MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(n, pytest.approx(1 / n)) for n in (1, 2, 3, 4)]
    runs = sorted((tmp_path / "log" / "wandb").glob("offline-run-*/*.wandb"))
    assert {path.stem.rsplit("-", 1)[-1] for path in runs} == {(tmp_path / "log" / "wandb-run").read_text()}
    rows = {row["_step"]: (row["loss"], row.get("norm")) for path in runs for row in wandb_rows(path)}
    assert rows == {n: (pytest.approx(1 / n), 2.0 * n if n > 1 else None) for n in (1, 2, 3, 4)}


def test_a_service_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"log.trackers: wandb is not installed on this node; pip install wandb"):
        Tracker(tmp_path, services=("wandb",))


@pytest.fixture
def no_session() -> Iterator[None]:
    """W&B reads its environment once a process, as the first run is opened."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("no_session")
def test_a_key_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": tmp_path, "NETRC": tmp_path / "netrc", "WANDB_BASE_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"log.trackers: wandb .*No API key.*; set WANDB_API_KEY on this node"):
        Tracker(tmp_path / "log", services=("wandb",))


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that nobody answers at; MLflow asks it once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://someone:hunter2@127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_away_is_left_out_until_the_run_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], away: str
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for first, where in ((0, away), (1, (tmp_path / "mlruns").as_uri()), (2, away)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
        tracker = Tracker(tmp_path / "log", first, ("mlflow", "wandb"), "stage1/x")
        tracker.log({"loss": 1.0}, first + 1)
        tracker.close()
    said = [line for line in capfd.readouterr().out.splitlines() if "the run goes on" in line]
    assert len(said) == 2 and all("log.trackers: mlflow is left out (MlflowException: " in line for line in said)
    assert all("127.0.0.1" in line and "hunter2" not in line for line in said)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    run_id = (tmp_path / "log" / "mlflow-run").read_text()
    assert [point.step for point in mlflow.MlflowClient().get_metric_history(run_id, "loss")] == [2]
    runs = sorted((tmp_path / "log" / "wandb").glob("offline-run-*/*.wandb"))
    assert sorted(row["_step"] for path in runs for row in wandb_rows(path)) == [1, 2, 3]
    assert len((tmp_path / "log" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_server_that_goes_away_costs_no_run_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A session at W&B that is over takes no number any more, and a store that is gone ends no run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with contextlib.closing(Tracker(tmp_path / "log", 0, ("mlflow", "wandb"), "stage1/x")) as tracker:
        shutil.rmtree(tmp_path / "mlruns")
        wandb.teardown()
        for step in (1, 2, 3):
            tracker.log({"loss": 1.0}, step)
    said = [line for line in capfd.readouterr().out.splitlines() if "the run goes on" in line]
    assert sorted(line.split(" (")[0] for line in said) == [
        "log.trackers: mlflow may lack steps",
        "log.trackers: wandb may lack steps",
    ]
    lines = (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


class StandsStill(http.server.BaseHTTPRequestHandler):
    """As much of W&B's server as opens a run; from `told` on it answers nobody before `over`."""

    told, over = threading.Event(), threading.Event()
    bucket = MappingProxyType({"id": "x", "name": "x", "project": {"name": "medtrain", "entity": {"name": "me"}}})

    def do_POST(self) -> None:
        """Answer a query."""
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.told.is_set():
            self.over.wait()
        viewer = {"viewer": {"id": "x", "entity": "me", "username": "me", "flags": "{}"}} if b"viewer" in asked else {}
        made = {"upsertBucket": {"bucket": dict(self.bucket), "inserted": True}} if b"upsertBucket" in asked else {}
        answer = json.dumps({"data": viewer | made}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(answer)

    def log_message(self, format: str, *given: object) -> None:
        """Print nothing."""


@pytest.fixture
def stands_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandsStill]]:
    """W&B's server, by its address in the environment."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandsStill) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        wandb.teardown()
        StandsStill.told.clear()
        StandsStill.over.clear()
        yield StandsStill
        StandsStill.over.set()
        wandb.teardown()
        server.shutdown()


def test_no_run_waits_to_begin_for_a_server_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other workers wait for the one that logs, and not for ever."""
    monkeypatch.setattr(tracking, "ANSWER_S", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        tracker = Tracker(tmp_path / "log", 0, ("mlflow",), "stage1/x")
        waited = time.monotonic() - began
    tracker.log({"loss": 1.0}, 1)
    tracker.close()
    assert waited < 60, "MLflow's own limit"
    assert "mlflow is left out (TimeoutError: nothing was answered for 1 s)" in capfd.readouterr().out
    assert len((tmp_path / "log" / "metrics.jsonl").read_text().splitlines()) == 1


def test_no_end_waits_for_a_server_that_stands_still(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    stands_still: type[StandsStill],
) -> None:
    """MLflow's store is a named pipe that nobody reads."""
    monkeypatch.setattr(tracking, "ANSWER_S", 1.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracker = Tracker(tmp_path / "log", 0, ("mlflow", "wandb"), "stage1/x")
    (metrics,) = (tmp_path / "mlruns").glob(f"*/{(tmp_path / 'log' / 'mlflow-run').read_text()}/metrics")
    os.mkfifo(metrics / "loss")
    stands_still.told.set()
    tracker.log({"loss": 1.0}, 1)
    ending = threading.Thread(target=tracker.close, daemon=True)
    ending.start()
    ending.join(30)
    ended = not ending.is_alive()
    with os.fdopen(os.open(metrics / "loss", os.O_RDONLY | os.O_NONBLOCK)):
        for thread in (t for t in threading.enumerate() if t.name.startswith("mlflow")):
            thread.join(30)
    assert ended
    said = [line for line in capfd.readouterr().out.splitlines() if "the run goes on" in line]
    assert [line.split(": ")[1].split(" (")[0] for line in said] == [f"{n} may lack steps" for n in ("mlflow", "wandb")]
    assert all("TimeoutError" in line for line in said)


def test_no_step_waits_for_a_slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe takes nothing before somebody reads it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tracker = Tracker(tmp_path / "log", 0, ("mlflow",), "stage1/x")
    (metrics,) = (tmp_path / "mlruns").glob(f"*/{(tmp_path / 'log' / 'mlflow-run').read_text()}/metrics")
    os.mkfifo(metrics / "loss")

    def train() -> None:
        for step in (1, 2, 3):
            tracker.log({"loss": 1 / step}, step)

    steps = threading.Thread(target=train, daemon=True)
    steps.start()
    steps.join(30)
    assert not steps.is_alive()
    with os.fdopen(os.open(metrics / "loss", os.O_RDONLY | os.O_NONBLOCK)) as reader:
        tracker.close()
        lines = reader.read().splitlines()
    assert [line.split()[1:] for line in lines] == [[str(1 / n), str(n)] for n in (1, 2, 3)]


def test_runs_of_one_process_are_runs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts that share a base train together; one ends before the other."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    names = ("one", "other")
    one, other = (Tracker(tmp_path / name, 0, ("mlflow", "wandb"), f"expert/{name}") for name in names)
    one.log({"loss": 1.0}, 1)
    other.log({"loss": 2.0}, 1)
    one.close()
    other.log({"loss": 3.0}, 2)
    other.close()
    runs = {name: mlflow.get_run((tmp_path / name / "mlflow-run").read_text()) for name in names}
    assert {name: (run.info.run_name, run.data.metrics["loss"], run.info.status) for name, run in runs.items()} == {
        "one": ("expert/one", 1.0, "FINISHED"),
        "other": ("expert/other", 3.0, "FINISHED"),
    }
    assert all(run.data.tags["mlflow.user"] for run in runs.values())
    files = {name: (tmp_path / name / "wandb").glob("offline-run-*/*.wandb") for name in names}
    drawn = {name: [row["loss"] for path in paths for row in wandb_rows(path)] for name, paths in files.items()}
    assert drawn == {"one": [1.0], "other": [2.0, 3.0]}


def test_storage_that_refuses_costs_no_run_and_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker(tmp_path)
    tracker.log({"loss": 1.0}, 1)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        for step in (2, 3):
            tracker.log({"loss": 1.0}, step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    tracker.log({"loss": 1.0}, 4)
    tracker.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert capsys.readouterr().out.count("the run goes on") == 1


def test_a_log_that_loses_nothing_is_not_written_anew(tmp_path: Path) -> None:
    for step in (0, 1):
        Tracker(tmp_path, step).log({"loss": 1.0}, step + 1)
    first = (tmp_path / "metrics.jsonl").stat().st_ino
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    Tracker(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").stat().st_ino == first
    Tracker(tmp_path, 1)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
