"""Step metrics to JSON lines, TensorBoard and, where asked for, MLflow and W&B; progress as whole lines."""

import contextlib
import importlib
import json
import math
import re
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from medtrain.errors import ConfigError

Service = Literal["mlflow", "wandb"]
ANSWER_S = 300.0
"""How long a run waits for a service, at its opening and at its end: a server may stand still for ever, and the other
workers wait at most `runtime.collective_timeout_s` for the one that logs."""


class Sink(Protocol):
    """A tracking service's run."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Send one step's numbers."""

    def close(self) -> None:
        """Send what is left and end the run; it is given up where nothing was taken for `ANSWER_S`."""


def _library(name: Service, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"log.trackers: {name} is not installed on this node; pip install {package}") from error


def _plain(error: Exception) -> str:
    """What went wrong, in a line that a log may show: a server's address may hold a user and a password."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return re.sub(r"(://)[^/\s'\"]+@", r"\1…@", said)[:500]


class MLflow:
    """A run of MLflow's experiment `medtrain`, where `$MLFLOW_TRACKING_URI` says; gone on with by its id.

    The run is named in each call: a process that trains several runs has several, and MLflow's active run is one. A
    thread of its own sends the numbers in their order, so that no step waits for the server; what it refused is raised
    by a later call, and once it has refused, `close` gives up what still waits. (MLflow's own queue sends from ten
    threads in any order, and at exit it tries each of its lines at a server that is away.)
    """

    def __init__(self, folder: Path, name: str):
        self._mlflow = _library("mlflow", "mlflow-skinny")
        self._client = self._mlflow.MlflowClient()
        self._thread, self._sent = ThreadPoolExecutor(1, "mlflow"), deque[Future[None]]()
        opening = self._thread.submit(self._open, folder / "mlflow-run", name)
        try:
            self._run_id = opening.result(ANSWER_S)
        except Exception as error:
            self._thread.shutdown(wait=False)
            if not opening.done():
                raise TimeoutError(f"nothing was answered for {ANSWER_S:.0f} s") from error
            raise

    def _open(self, known: Path, name: str) -> str:
        """The id of a new run, or of the one that `known` holds."""
        experiment = self._mlflow.set_experiment("medtrain")
        if known.exists():
            run_id = known.read_text()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        tags = self._mlflow.tracking.context.registry.resolve_tags()  # who trains, as in MLflow's own runs
        run_id = str(self._client.create_run(experiment.experiment_id, run_name=name, tags=tags).info.run_id)
        known.write_text(run_id)
        return run_id

    def log(self, metrics: dict[str, float], step: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        numbers = [self._mlflow.entities.Metric(name, value, now_ms, step) for name, value in metrics.items()]
        self._sent.append(self._thread.submit(self._client.log_batch, self._run_id, numbers))
        while self._sent and self._sent[0].done():
            self._sent.popleft().result()

    def close(self) -> None:
        self._sent.append(self._thread.submit(self._client.set_terminated, self._run_id))
        try:
            while self._sent:
                self._sent.popleft().result(ANSWER_S)
        except TimeoutError as error:
            raise TimeoutError(f"nothing was taken for {ANSWER_S:.0f} s") from error
        finally:  # a call that stands still ends by its library's own limit
            self._thread.shutdown(wait=False, cancel_futures=True)


class Wandb:
    """A run of the project `medtrain` at Weights & Biases, gone on with by id; `$WANDB_MODE=offline` sends nothing."""

    def __init__(self, folder: Path, name: str):
        wandb = _library("wandb", "wandb")
        known = folder / "wandb-run"
        run_id = known.read_text() if known.exists() else uuid.uuid4().hex[:12]
        known.write_text(run_id)
        where: dict[str, Any] = {"project": "medtrain", "dir": str(folder), "reinit": "create_new"}
        ending = wandb.Settings(finish_timeout=ANSWER_S, finish_timeout_raises=True)
        try:
            self._run = wandb.init(name=name, id=run_id, resume="allow", settings=ending, **where)
        except wandb.errors.UsageError as error:  # no key: it has asked no server yet
            remedy = "set WANDB_API_KEY on this node, or WANDB_MODE=offline"
            raise ConfigError(f"log.trackers: wandb cannot be used ({_plain(error)}); {remedy}") from error

    def log(self, metrics: dict[str, float], step: int) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


SERVICES: dict[Service, type[MLflow] | type[Wandb]] = {"mlflow": MLflow, "wandb": Wandb}


class Tracker:
    """Writes `metrics.jsonl` and TensorBoard events in one folder, and to the services that are asked for.

    A run that is gone on with from step `step` forgets what an earlier attempt logged beyond it (services keep that: it
    is the same but for times, and W&B passes over a step that it has). Storage that refuses a
    line does not end the run: it is said once, and lines that it refused are written when it takes them again. Nor does
    a service that fails: it is said once too, and one that cannot be opened is left out until the run is gone on with.

    Args:
        folder: where the files lie.
        step: the last step that counts.
        services: MLflow, Weights & Biases, both or none.
        name: the run's name there.

    Raises:
        ConfigError: a service's library is not installed, or its key is missing.
    """

    def __init__(self, folder: Path, step: int = 0, services: Sequence[Service] = (), name: str = ""):
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        whole = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in whole if line.endswith("}") and json.loads(line)["step"] <= step]
        if kept != whole:  # a whole file takes the place of the other: a kill or a full disk in between loses nothing
            anew = path.with_suffix(".new")
            anew.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            anew.replace(path)
        self._folder, self._refused = folder, set[str]()
        self._lines = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._services: dict[Service, Sink] = {}
        for service in services:
            with self._bearing_service(service, "is left out"):
                self._services[service] = SERVICES[service](folder, name)

    def log(self, metrics: dict[str, float], step: int, **facts: str) -> None:
        """Write one line of numbers for a step and its time; NaN and infinities, which JSON has not, become null.

        Args:
            metrics: numbers by name, drawn by TensorBoard too.
            step: the optimizer step that they belong to.
            facts: words that go into the line alone.
        """
        numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self._bearing():
            self._lines.write(json.dumps({"step": step, "time": round(time.time(), 3), **facts, **numbers}) + "\n")
            self._lines.flush()
        with self._bearing():
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
        for service, sink in self._services.items():
            with self._bearing_service(service, "may lack steps"):
                sink.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step)

    def close(self) -> None:
        """Flush and close all of them."""
        with self._bearing():
            self._lines.close()
        with self._bearing():
            self._board.close()
        for service, sink in self._services.items():
            with self._bearing_service(service, "may lack steps"):
                sink.close()

    @contextlib.contextmanager
    def _bearing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._say(f"log {self._folder}:", f"refuses ({error.strerror or error})")

    @contextlib.contextmanager
    def _bearing_service(self, service: Service, outcome: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:  # for the user to mend
            raise
        except Exception as error:  # each library has its own, for what an unreachable server is too
            self._say(f"log.trackers: {service}", f"{outcome} ({_plain(error)})")

    def _say(self, who: str, what: str) -> None:
        if who not in self._refused:
            print(f"{who} {what}; the run goes on", flush=True)
        self._refused.add(who)


class Progress:
    """A progress bar printed as whole lines at most every `every_s` seconds: bar, count, rate, ETA, and a note."""

    def __init__(self, title: str, total: int, *, done: int = 0, unit: str = "row", every_s: float = 5.0):
        self._title, self._total, self._unit, self._every_s = title, total, unit, every_s
        self._first = self.done = done
        self._began = self._printed = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count work done and print when it is time, or when all is done."""
        self.done += count
        now = time.monotonic()
        if now - self._printed >= self._every_s or self.done >= self._total:
            self._printed = now
            print(self._line(now - self._began, note), flush=True)

    def _line(self, elapsed_s: float, note: str) -> str:
        rate = (self.done - self._first) / elapsed_s if elapsed_s > 0 else None
        return tqdm.format_meter(
            self.done,
            self._total,
            elapsed_s,
            ncols=110,
            prefix=self._title,
            ascii=True,
            unit=self._unit,
            rate=rate,
            postfix=note,
        )
