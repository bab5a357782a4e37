"""The training loop, on one page: one optimizer step after another, with validation and checkpoints between.

It asks for its steps and is told their numbers, so that whoever drives it may make the steps of several runs together.
"""

import hashlib
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.tracking import Progress as Bar
from medtrain.tracking import Tracker
from medtrain.train import trouble, validation
from medtrain.train.adapters import Rule
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.engine import Engine
from medtrain.train.memory.tier import MemoryTier
from medtrain.train.notice import Leaving, Notice
from medtrain.train.optimizer import learning_rate
from medtrain.train.order import MicroBatch, Plan
from medtrain.train.saver import Saver
from medtrain.train.settings import TrainConfig
from medtrain.train.state import State


@dataclass(frozen=True)
class Step:
    """One optimizer step to make."""

    micro_batches: list[MicroBatch]
    learning_rate: float
    done: int
    """Steps of the plan before it."""
    leaving: bool
    upcoming: list[MicroBatch]
    """The batch of the step behind it, empty where there is none."""


class Trained(Protocol):
    """What a run trains: an engine of its own, or a lane of a shared one."""

    @property
    def rule(self) -> Rule | None: ...

    def losses(self, micro_batches: list[MicroBatch]) -> list[tuple[float, int]]: ...

    def state(self, room: State | None = None) -> State: ...

    def release(self) -> None: ...


E = TypeVar("E", bound=Trained)
Steps = Generator[Step, dict[str, float], Progress]
"""Gives steps, takes what `Engine.step` returns of each, and ends with where the run ended."""


@dataclass
class Run(Generic[E]):
    """All that the loop needs; `saver`, `memory`, `tracker` and `bar` are None on every rank but 0."""

    config: TrainConfig
    store: Store
    name_of: Callable[[int], str]
    """A row's sample id."""
    open_engine: Callable[[Checkpoint | None], E]
    """An engine in the state of a checkpoint, or as the run began."""
    engine: E
    kept: Checkpoint | None
    """The last state that was gathered, to go back to after trouble."""
    plan: Plan
    held_out: list[tuple[str, MicroBatch]]
    steps: int
    progress: Progress
    notice: Notice
    saver: Saver | None
    memory: MemoryTier | None
    tracker: Tracker | None
    bar: Bar | None
    flops: tuple[float, float] | None = None
    """Operations a token, and operations a second at the peak of all devices together; None where it is not known."""
    step_s: float = math.inf
    """Seconds that a step took last, as all ranks agree; infinite where none has been taken yet."""
    rooms: list[State] = field(default_factory=list)
    """Memory on the host for the next state: that of earlier ones, or made before the first."""

    def log(self, metrics: dict[str, float], **facts: str) -> None:
        """Write one step's numbers, on rank 0."""
        if self.tracker is not None:
            self.tracker.log(metrics, self.progress.step, **facts)


def train(run: Run[Engine]) -> Progress:
    """Train a run on an engine of its own; collective on all ranks.

    Raises:
        TrainingError: as in `steps`, or a step has no trained token.
        Leaving: a rank was told to leave; the state is saved, as far as storage takes it.
    """

    def make(s: Step) -> dict[str, float]:
        return run.engine.step(s.micro_batches, s.learning_rate, done=s.done, leaving=s.leaving, upcoming=s.upcoming)

    going = steps(run)
    try:
        step = next(going)
        while True:
            step = going.send(make(step))
    except StopIteration as end:
        progress: Progress = end.value
        return progress


def steps(run: Run[E]) -> Steps:
    """A run to the end of its plan, or until validation no longer improves; collective on all ranks.

    Returns:
        Where the run ended; its last state is in a checkpoint.

    Raises:
        TrainingError: trouble that the policy does not mend, or the last state cannot be saved.
        Leaving: a rank was told to leave; the state is saved, as far as storage takes it.
    """
    config = run.config
    every = config.validation.every_steps or max(1, run.steps // 10)
    light, heavy = config.checkpoint.memory_every_steps, config.checkpoint.every_steps
    while run.progress.step < run.steps and not _given_up(run):
        word = yield from _step(run)
        if word is None:
            continue
        done = run.progress.step
        last = done == run.steps
        # Before the first update there is no state that could be the best.
        judged = bool(run.held_out and run.progress.updates) and (done % every == 0 or last)
        improved = judged and _validate(run)
        # By the step alone: counted from where an attempt began, kills that come often would put them off for ever.
        durable = improved or last or bool(word) or done % heavy == 0 or _given_up(run)
        if durable or (light and done % light == 0):
            _save(run, durable)
        if word and not last:
            raise Leaving(f"{word}: {_close(run) or f'step {done} is saved'}")
    if refused := _close(run):
        raise TrainingError(f"{refused}; free space or mend it and submit the job again")
    return run.progress


def _step(run: Run[E]) -> Generator[Step, dict[str, float], str | None]:
    """One step of the plan: the word to leave that a rank had, empty if none; None where the run went back."""
    now, began = run.progress, time.perf_counter()
    epoch = run.plan.position(now.step)[0]
    if now.step in now.skipped:
        run.progress = replace(now, step=now.step + 1)
        return ""
    micro_batches, word = run.plan.at(now.step), run.notice.given(now.step, run.step_s)
    rate = now.rate_scale * learning_rate(run.config.optimizer, now.step, run.steps)
    upcoming = run.plan.at(now.step + 1) if now.step + 1 < run.steps else []
    metrics = yield Step(micro_batches, rate, now.step, bool(word), upcoming)
    leaving, run.step_s = metrics.pop("leaving"), metrics.pop("step_s")
    ids = [run.name_of(row) for micro in micro_batches for row in micro.rows]
    usual = () if now.step in now.lowered else now.recent  # its rate does not change its loss: that may leap once
    why = trouble.found(run.config.trouble, metrics, usual)
    if why:
        _go_back(run, why, ids)
        return None
    run.progress = _after_step(now, metrics)
    tokens_per_s = metrics["tokens"] / (time.perf_counter() - began)
    if run.flops is not None:
        metrics["mfu"] = tokens_per_s * run.flops[0] / run.flops[1]
    samples = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]  # two runs' batches can be compared by it
    run.log({**metrics, "learning_rate": rate, "epoch": epoch, "tokens_per_s": tokens_per_s}, samples=samples)
    if run.bar is not None:
        run.bar.advance(note=f"loss {metrics['loss']:.4f}, {tokens_per_s:,.0f} tokens/s")
    return (word or "another worker must leave") if leaving else ""


def _after_step(progress: Progress, metrics: dict[str, float]) -> Progress:
    step, loss = progress.step + 1, metrics["loss"]
    return replace(
        progress,
        step=step,
        first_loss=loss if math.isnan(progress.first_loss) else progress.first_loss,
        last_loss=loss,
        below_one_step=progress.below_one_step or (step if loss < 1 else 0),
        trained_tokens=progress.trained_tokens + int(metrics["trained_tokens"]),
        recent=(*progress.recent, loss)[-trouble.WINDOW :],
    )


def _go_back(run: Run[E], why: str, ids: list[str]) -> None:
    """Rebuild the engine from the last state that this process gathered, and go on as the policy says."""
    now, kept = run.progress, run.kept
    run.progress = trouble.answer(run.config.trouble, now, kept.progress if kept else Progress(step=0), why, ids)
    run.engine.release()
    run.engine = run.open_engine(kept)
    if run.bar is not None:
        run.bar.done = run.progress.step
        what = "its batch is left out" if run.progress.skipped != now.skipped else "from it on at half the rate"
        print(f"step {now.step + 1}: {why}; back to step {run.progress.step}, {what}: {', '.join(ids)}", flush=True)


def _validate(run: Run[E]) -> bool:
    """Log held-out losses; whether the mean over all sources is the best so far."""
    sources = [source for source, _ in run.held_out]
    losses = validation.per_source(sources, run.engine.losses([micro for _, micro in run.held_out]))
    run.log({f"validation/{source or 'all'}": loss for source, loss in losses.items()})
    improved = losses[""] < run.progress.best_loss
    if improved:
        run.progress = replace(run.progress, best_loss=losses[""], best_step=run.progress.step, stale=0)
    else:
        run.progress = replace(run.progress, stale=run.progress.stale + 1)
    if run.bar is not None:
        print(
            f"step {run.progress.step}: validation loss {losses['']:.4f}{' (best so far)' if improved else ''}",
            flush=True,
        )
    return improved


def _given_up(run: Run[E]) -> bool:
    patience = run.config.validation.patience
    return patience > 0 and run.progress.stale >= patience


def _close(run: Run[E]) -> str:
    """Wait until what was handed to the tiers has arrived; why storage refused the last state, or nothing."""
    if run.memory is not None:
        run.memory.finish()
    return run.saver.finish() if run.saver is not None else ""


def _save(run: Run[E], durable: bool) -> None:
    """Gather the state once, collectively, and hand it to the tiers; both write behind the training.

    It takes the memory of an earlier one that no tier reads, so that there are three at most, and one more where
    storage refused the best. What a durable one takes from training is logged: how often one is due follows from it.
    """
    if run.progress.updates == 0:  # every batch so far was left out
        return
    began = time.perf_counter()
    read = [state for tier in (run.saver, run.memory) if tier is not None for state in tier.reading]
    room = next((room for room in run.rooms if not any(room is state for state in read)), None)
    state = run.engine.state(room)
    run.kept = Checkpoint("this process", run.progress, state)
    run.rooms = [state, *(other for other in run.rooms if other is not room)]
    if run.saver is not None and durable:
        run.saver.save(run.progress, state)
    if run.memory is not None:
        run.memory.save(run.progress, state)
    if durable:
        run.log({"seconds/checkpoint": time.perf_counter() - began})
