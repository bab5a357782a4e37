"""Several runs at once on one device: lanes over one base, each with checkpoints, log and end of its own."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoTokenizer

from medtrain import artifacts, runtime
from medtrain.errors import MedtrainError
from medtrain.storage import Store
from medtrain.tracking import Progress as Bar
from medtrain.tracking import Tracker
from medtrain.train import adapters, attempts, checkpoint, ending, exhausted, inputs, show
from medtrain.train.adapters import Rule
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.lanes.engine import LaneEngine
from medtrain.train.lanes.lane import Lane, LaneStep
from medtrain.train.loop import Run, Step, Steps, steps
from medtrain.train.model import compute_dtype, load_base
from medtrain.train.notice import Leaving, Notice
from medtrain.train.order import MicroBatch
from medtrain.train.payload import Payload
from medtrain.train.saver import Saver
from medtrain.train.state import State, room_for

ENDING = (Leaving, torch.AcceleratorError)
"""What ends the process with all its runs: the word to leave, and a GPU that it can no longer use."""


@dataclass(frozen=True)
class Seat:
    """A lane with its place in the engine: what the training loop of one run holds."""

    engine: LaneEngine
    name: str
    lane: Lane

    @property
    def rule(self) -> Rule | None:
        """What the adapter does around each optimizer step."""
        return self.lane.rule

    def losses(self, micro_batches: list[MicroBatch]) -> list[tuple[float, int]]:
        """See `Lane.losses`."""
        found: list[tuple[float, int]] = self.lane.losses(micro_batches)
        return found

    def state(self, room: State | None = None) -> State:
        """See `Lane.state`."""
        return self.lane.state(room)

    def release(self) -> None:
        """Leave the engine."""
        self.engine.remove(self.name)


@dataclass
class Going:
    """One run under way, and the step that it asks for."""

    job: Payload
    run: Run[Seat]
    tokenizer: Any
    steps: Steps
    wanted: Step


class Group:
    """The runs of one device.

    Args:
        device: where they train.
        take: the next run to train, None where there is none.
        tell: told each run that has ended, with what went wrong, or nothing.
        at_once: how many train together.
    """

    def __init__(
        self,
        device: torch.device,
        take: Callable[[], Payload | None],
        tell: Callable[[Payload, str], None],
        at_once: int,
    ):
        self._device, self._take, self._tell, self._at_once = device, take, tell, at_once
        self._engine: LaneEngine | None = None
        self._going: dict[str, Going] = {}
        self._apart: dict[str, Payload] = {}
        """Runs that go on one by one, because one of them broke a step that they shared."""

    def train(self) -> None:
        """Train until there is nothing left to take.

        Raises:
            Leaving: the process was told to leave; every run's state is saved.
            AcceleratorError: the process can no longer use its GPU.
        """
        while True:
            while len(self._going) < (1 if self._apart else self._at_once) and (job := self._next()) is not None:
                with self._said(job):
                    self._open(job)
            if not self._going:
                return
            self._step()

    def _next(self) -> Payload | None:
        return next(iter(self._apart.values())) if self._apart else self._take()

    def _open(self, job: Payload) -> None:
        config, store = job.train, Store(job.root).sub(job.run)
        tokens = artifacts.locate(Store(job.root), "tokens", config.tokens)
        tokenizer = AutoTokenizer.from_pretrained(tokens.store.local("tokenizer"))
        given, attempt = inputs.read(tokens, config), attempts.claim(store)
        found = checkpoint.latest(store)
        progress = found.progress if found is not None else Progress(step=0)
        if self._engine is None:
            if compute_dtype(config.model) is torch.bfloat16:
                runtime.multiply_in_tf32()
            base = load_base(job.base_path, config.model, self._device, "packed")
            self._engine = LaneEngine(base, recomputed=config.engine.gradient_checkpointing)
        engine = self._engine

        def seat(state: Checkpoint | None) -> Seat:
            model = engine.attach(config.adapter, config.seed)
            rule = adapters.rule(config.adapter, model, given.steps)
            layout, pad = config.batch, tokenizer.pad_token_id
            lane = Lane(model, given.samples, batch=layout, optimizer=config.optimizer, pad_id=pad, rule=rule)
            if state is not None:
                lane.go_on(state.state, state.progress.updates)
            engine.add(job.run, lane)
            return Seat(engine, job.run, lane)

        run = Run(
            config=config,
            store=store,
            name_of=given.samples.ids.__getitem__,
            open_engine=seat,
            engine=seat(found),
            kept=found,
            plan=given.plan,
            held_out=given.held_out,
            steps=given.steps,
            progress=progress,
            notice=Notice(),
            saver=Saver(store, attempt, config.checkpoint.keep),
            memory=None,
            tracker=Tracker(store.local("log"), progress.step, config.log.trackers, job.run),
            bar=Bar(config.name, given.steps, done=progress.step, unit="step", every_s=config.log.every_s),
        )
        run.rooms = [found.state if found is not None else room_for(run.engine.lane.parameters, config.optimizer.kind)]
        came = "" if found is None else f"resumed at step {progress.step} from {found.path} ({show.restored(found)})"
        print(f"{job.run}: {len(given.rows):,} rows, {given.steps:,} steps, {came or 'from the start'}", flush=True)
        self._go_on(job, run, tokenizer, steps(run), None)

    def _step(self) -> None:
        """One optimizer step of every run."""
        assert self._engine is not None
        wanted = {}
        for name, going in list(self._going.items()):
            with self._said(going.job):
                going.run.engine.lane.trained_tokens(going.wanted.micro_batches)
                step = going.wanted
                wanted[name] = LaneStep(step.micro_batches, step.learning_rate, step.done)
        try:
            found = self._engine.step(wanted)
        except Exception as error:
            self._broken(error)
            return
        # Word that came between two runs' turns only some have heard, and the process leaves with all of them.
        leaving = float(any(self._going[name].wanted.leaving for name in found))
        left = ""
        for name, metrics in found.items():
            going = self._going[name]
            told = {**metrics, "leaving": leaving}
            try:
                with self._said(going.job):
                    self._go_on(going.job, going.run, going.tokenizer, going.steps, told)
            except Leaving as word:
                left = str(word)
        if left:
            raise Leaving(left)

    def _broken(self, error: Exception) -> None:
        """What becomes of a step that failed: a run alone ends; several go on one by one from their checkpoints."""
        going = list(self._going.values())
        if len(going) > 1:
            print(f"{', '.join(self._going)}: a step of theirs failed ({error}); they go on one by one", flush=True)
        for one in going:
            with self._said(one.job):
                if len(going) == 1:
                    raise error
                self._set_apart(one)

    def _set_apart(self, going: Going) -> None:
        self._forget(going.job)
        self._apart[going.job.run] = going.job
        assert going.run.saver is not None and going.run.tracker is not None
        going.run.tracker.close()
        going.run.saver.finish()

    def _go_on(self, job: Payload, run: Run[Seat], tokenizer: Any, going: Steps, told: dict[str, float] | None) -> None:
        """Tell a run the numbers of its step and take its next one, or end it."""
        try:
            wanted = next(going) if told is None else going.send(told)
        except StopIteration:
            lane = run.engine.lane
            ending.write(run, lane.model, lane.weights(), tokenizer)
            self._end(job, "")
            return
        self._going[job.run] = Going(job, run, tokenizer, going, wanted)

    def _end(self, job: Payload, error: str) -> None:
        self._forget(job)
        self._apart.pop(job.run, None)
        self._tell(job, error)

    def _forget(self, job: Payload) -> None:
        self._going.pop(job.run, None)
        if self._engine is not None and job.run in self._engine.lanes:
            self._engine.remove(job.run)

    @contextlib.contextmanager
    def _said(self, job: Payload) -> Iterator[None]:
        """Whatever ends this run ends no other."""
        try:
            yield
        except ENDING:
            raise
        except MedtrainError as error:
            self._end(job, str(error))
        except Exception as error:
            traceback.print_exception(error)  # not for the user to mend
            out = exhausted.is_exhausted(error)
            why = exhausted.advice(job.train, self._device, error) if out else f"{type(error).__name__}: {error}"
            self._end(job, why)
