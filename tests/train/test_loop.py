"""The loop in one process: what it logs, when it saves, when it stops, and that it goes on where it was."""

import contextlib
import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtrain.artifacts import locate
from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, Samples
from medtrain.tracking import Tracker
from medtrain.train import adapters, attempts, checkpoint, validation
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.engine import Engine
from medtrain.train.loop import Run, steps, train
from medtrain.train.loss import LossModule
from medtrain.train.memory.tier import MemoryTier
from medtrain.train.model import load_base
from medtrain.train.notice import Leaving, Notice
from medtrain.train.optimizer import learning_rate
from medtrain.train.order import Plan
from medtrain.train.saver import Saver
from medtrain.train.stage import StageConfig
from medtrain.train.state import room_for, set_weights, trainable
from medtrain.train.timing import Clock

pytestmark = pytest.mark.usefixtures("group_of_one")


POISON = 300
"""A token that no made sample has."""


class Poisoned(Samples):
    """Samples of which some begin with the poison."""

    poisoned: frozenset[str] = frozenset()

    def __getitem__(self, row: int) -> Sample:
        sample = super().__getitem__(row)
        if sample.id not in self.poisoned:
            return sample
        return replace(sample, input_ids=np.concatenate([[POISON], sample.input_ids[1:]]).astype(np.int32))


def poisonous(model: Any) -> None:
    """Make the poison's embedding no number."""

    def spoil(module: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((inputs[0] == POISON).unsqueeze(-1), float("nan"))

    model.get_input_embeddings().register_forward_hook(spoil)


def opened(
    made: Store, run: Path, found: Checkpoint | None = None, *, poisoned: Sequence[str] = (), **settings: Any
) -> Run:
    """A run over the made artifacts in fp32 on one worker, fresh or from a checkpoint."""
    content = {"name": "x", "stage": 1, "tokens": "tiny", "epochs": 2, "model": {"precision": "fp32"}}
    config = StageConfig.model_validate({**content, "batch": {"size": 16}, "adapter": {"rank": 4}, **settings})
    samples = Poisoned.open(locate(made, "tokens", "tiny"))
    samples.poisoned = frozenset(poisoned)
    rows = samples.select("train")

    def open_engine(state: Checkpoint | None) -> Engine:
        base = load_base(str(made.local("bases/tiny")), config.model, torch.device("cpu"), config.batch.layout)
        poisonous(base)
        model = adapters.attach(base, config.adapter, config.seed)
        if state is not None:
            set_weights(LossModule(model), state.state)
        engine = Engine(model, samples, batch=config.batch, optimizer=config.optimizer, engine=config.engine, pad_id=3)
        if state is not None:
            engine.go_on(state.state, state.progress.updates)
        return engine

    plan = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    store = Store(str(run))
    return Run(
        config=config,
        store=store,
        name_of=samples.ids.__getitem__,
        open_engine=open_engine,
        engine=open_engine(found),
        kept=found,
        plan=plan,
        held_out=validation.micro_batches(samples, samples.select("validation"), config.batch),
        steps=plan.steps,
        progress=found.progress if found is not None else Progress(step=0),
        notice=Notice(),
        saver=Saver(store, attempts.claim(store), config.checkpoint.keep),
        memory=None,
        tracker=Tracker(run / "log", found.progress.step if found is not None else 0),
        bar=None,
    )


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log" / "metrics.jsonl").read_text().splitlines()]


def test_a_step_says_its_batch_its_time_and_its_share_of_the_peak(made: Store, tmp_path: Path) -> None:
    run = opened(made, tmp_path / "run", max_steps=2)
    run.flops = (3.0, 600.0)
    train(run)
    first, second = [line for line in logged(tmp_path / "run") if "loss" in line][:2]
    parts = [first[f"seconds/{part}"] for part in ("data", "forward", "backward", "optimizer")]
    assert all(part > 0 for part in parts) and first["tokens"] / sum(parts) >= first["tokens_per_s"]
    assert first["mfu"] == pytest.approx(first["tokens_per_s"] * 3 / 600)
    assert first["samples"] != second["samples"] and first["memory_gib"] > 0


@pytest.mark.parametrize(("saver", "memory", "memories"), [(9, 9, 1), (0, 9, 2), (9, 0, 2), (0, 0, 2), (0, 1, 3)])
def test_a_state_takes_the_memory_of_one_that_no_tier_reads(
    made: Store, tmp_path: Path, saver: int, memory: int, memories: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiers read the states of these numbers for ever, 9 is none."""
    run = opened(made, tmp_path / "run", checkpoint={"memory_every_steps": 1, "every_steps": 9})
    run.memory = MemoryTier(1, lambda offer, files: None)
    run.rooms = [room_for(trainable(run.engine.deepspeed.module), "adamw")]
    states: list[dict[str, torch.Tensor]] = []
    copies: list[dict[str, torch.Tensor]] = []
    gather = run.engine.state

    def state(room: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        states.append(gather(room))
        copies.append({key: tensor.clone() for key, tensor in states[-1].items()})
        return states[-1]

    for tier, number in ((Saver, saver), (MemoryTier, memory)):
        monkeypatch.setattr(tier, "reading", property(lambda _, at=number: states[at : at + 1]))
    monkeypatch.setattr(run.engine, "state", state)
    train(run)
    assert len(states) == 8
    assert {len({one[key].data_ptr() for one in states}) for key in states[0]} == {memories}
    for number in {saver, memory, len(states) - 1} - {9}:
        assert states[number].keys() == copies[number].keys()
        assert all(torch.equal(tensor, copies[number][key]) for key, tensor in states[number].items())


def test_every_step_and_every_source_is_logged_and_the_last_state_is_saved(made: Store, tmp_path: Path) -> None:
    run = opened(made, tmp_path / "run", validation={"every_steps": 4}, optimizer={"learning_rate": 1e-2})
    progress = train(run)
    lines = logged(tmp_path / "run")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    validated = [line for line in lines if "validation/all" in line]
    assert [line["step"] for line in validated] == [4, 8]
    assert {"validation/notes", "validation/questions"} <= validated[0].keys()
    found = checkpoint.latest(run.store)
    assert found is not None and found.progress == progress and progress.step == 8
    saved = [line for line in lines if "seconds/checkpoint" in line]
    assert saved[-1]["step"] == 8 and all(line["seconds/checkpoint"] > 0 for line in saved)
    assert progress.best_loss == min(line["validation/all"] for line in validated)
    rows = Samples.open(locate(made, "tokens", "tiny"))
    assert progress.trained_tokens == 2 * rows.trained_tokens[rows.select("train")].sum()


def test_a_run_stops_after_its_patience_and_its_best_state_is_still_there(made: Store, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "validation": {"every_steps": 1, "patience": 2},
        "optimizer": {"learning_rate": 3.0, "warmup_fraction": 0, "schedule": "constant", "clip": 0},
    }
    progress = train(opened(made, tmp_path / "run", **settings))
    assert progress.stale == 2 and progress.step == progress.best_step + 2 < 8
    saved = Store(str(tmp_path / "run")).folders(checkpoint.FOLDER)
    assert any(name.startswith(f"step-{progress.best_step:08d}-") for name in saved)


def test_a_run_gone_on_with_is_the_run(made: Store, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": {"every_steps": 3, "keep": 9}, "validation": {"every_steps": 5}}
    whole = opened(made, tmp_path / "whole", **settings)
    train(whole)
    folder = next(n for n in whole.store.folders(checkpoint.FOLDER) if n.startswith("step-00000003"))
    found = checkpoint.read(whole.store, f"{checkpoint.FOLDER}/{folder}")
    assert isinstance(found, Checkpoint)
    again = opened(made, tmp_path / "again", found, **settings)
    train(again)
    wanted = whole.engine.weights()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.engine.weights().items())
    ours, theirs = (
        {line["step"]: line["loss"] for line in logged(tmp_path / n) if "loss" in line} for n in ("again", "whole")
    )
    assert ours == {step: loss for step, loss in theirs.items() if step > 3}


def durable(run: Run) -> list[int]:
    """The steps whose checkpoints are in storage."""
    return [int(name[5:13]) for name in run.store.folders(checkpoint.FOLDER)]


def test_a_run_that_is_killed_often_writes_its_checkpoints_at_the_same_steps(made: Store, tmp_path: Path) -> None:
    """Killed in every third step and gone on with from memory; a checkpoint is due in every fourth."""
    settings: dict[str, Any] = {"checkpoint": {"every_steps": 4, "keep": 9}, "validation": {"every_steps": 99}}
    run, found = opened(made, tmp_path / "run", **settings), None
    for _ in range(2):
        going = steps(run)
        wanted = next(going)
        for _ in range(3):
            metrics = run.engine.step(wanted.micro_batches, wanted.learning_rate, done=wanted.done)
            wanted = going.send(metrics)
        assert run.saver is not None
        run.saver.finish()
        found = Checkpoint("memory", run.progress, run.engine.state())
        run = opened(made, tmp_path / "run", found, **settings)
    assert found is not None and found.progress.step == 6 and durable(run) == [4]
    train(run)
    assert durable(run) == [4, 8]


def in_step(run: Run, step: int) -> list[str]:
    """The samples of a step."""
    return [run.name_of(row) for micro in run.plan.at(step) for row in micro.rows]


def test_trouble_stops_the_run_and_names_the_samples(made: Store, tmp_path: Path) -> None:
    calm = opened(made, tmp_path / "calm")
    ids = in_step(calm, 2)
    run = opened(made, tmp_path / "run", poisoned=ids[:1], checkpoint={"memory_every_steps": 1})
    with pytest.raises(TrainingError, match=r"step 3: the loss is nan; its samples are .*" + ids[0]):
        train(run)
    kept = run.kept
    assert kept is not None and kept.progress.step == 2


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_skipped_batch_is_as_if_it_were_not_there_at_every_zero_stage(
    made: Store, tmp_path: Path, stage: int
) -> None:
    """Against a loop that leaves the step out, and its optimizer step with it."""
    settings: dict[str, Any] = {"engine": {"zero_stage": stage}, "checkpoint": {"memory_every_steps": 2}, "epochs": 1}
    bare = opened(made, tmp_path / "bare", **settings)
    bad = in_step(bare, 2)[0]
    for step in (0, 1, 3):
        bare.engine.step(bare.plan.at(step), learning_rate(bare.config.optimizer, step, bare.steps))
    wanted = bare.engine.weights()
    run = opened(made, tmp_path / "run", poisoned=[bad], trouble={"policy": "skip_batch"}, **settings)
    progress = train(run)
    assert progress.step == 4 and progress.updates == 3 and progress.rollbacks == 1 and progress.skipped == (2,)
    assert bad in progress.skipped_ids and len(progress.skipped_ids) == 16
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in run.engine.weights().items())
    found = checkpoint.latest(run.store)
    assert found is not None and found.progress == progress


def test_trouble_before_any_state_was_kept_begins_anew(made: Store, tmp_path: Path) -> None:
    run = opened(
        made,
        tmp_path / "run",
        poisoned=in_step(opened(made, tmp_path / "calm"), 0)[:1],
        trouble={"policy": "skip_batch"},
    )
    progress = train(run)
    assert progress.skipped[0] == 0 and len(progress.skipped) == 2, "its sample is in both epochs"
    assert progress.step == 8 and np.isfinite(progress.first_loss)


def test_a_state_without_an_update_is_never_the_best(made: Store, tmp_path: Path) -> None:
    """There is no checkpoint of it that the run could end with."""
    bad = [in_step(opened(made, tmp_path / "calm"), step)[0] for step in (0, 1)]
    settings: dict[str, Any] = {"validation": {"every_steps": 1}, "epochs": 1, "max_steps": 3}
    run = opened(made, tmp_path / "run", poisoned=bad, trouble={"policy": "skip_batch"}, **settings)
    progress = train(run)
    assert progress.skipped == (0, 1) and progress.best_step in durable(run)
    assert [line["step"] for line in logged(tmp_path / "run") if "validation/all" in line] == [3, 4]


@pytest.mark.parametrize("told", [True, False])
def test_storage_that_refuses_the_last_state_ends_a_run_unless_it_only_leaves(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Who leaves is started again, and goes on from memory."""

    def full(store: Store, path: str, *content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run, sent = opened(made, tmp_path / "run", validation={"every_steps": 99}), list[int]()
    run.memory = MemoryTier(1, lambda offer, files: sent.append(offer.step))
    run.notice = Notice(lambda: "soon" if told and run.progress.step == 4 else None)
    monkeypatch.setattr(Store, "write_through", full)
    wanted = r"about to go: .*step 5: .* refuses \(No space" if told else r"step 8: .* refuses .*; free space"
    with pytest.raises(Leaving if told else TrainingError, match=wanted):
        train(run)
    assert sent[-1] == (5 if told else 8)


def test_a_run_that_keeps_going_back_ends(made: Store, tmp_path: Path) -> None:
    calm = opened(made, tmp_path / "calm")
    bad = [in_step(calm, step)[0] for step in range(4)]
    settings: dict[str, Any] = {"checkpoint": {"memory_every_steps": 1}, "trouble": {"policy": "skip_batch"}}
    with pytest.raises(TrainingError, match=r"step 4: the loss is nan, after 3 rollback\(s\)"):
        train(opened(made, tmp_path / "run", poisoned=bad, **settings))
    with pytest.raises(TrainingError, match=r"step 3: the loss is nan, after 3 rollback\(s\)"):
        train(opened(made, tmp_path / "low", poisoned=bad[2:3], trouble={"policy": "lower_lr"}))


def calmed(run: Run, limit: float) -> dict[int, float]:
    """Train a run whose loss is infinite in its sixth step at a learning rate above `limit`; the rates by step."""
    rates, going = dict[int, float](), steps(run)
    with contextlib.suppress(StopIteration):
        wanted = next(going)
        while True:
            rates[wanted.done] = wanted.learning_rate
            metrics = run.engine.step(wanted.micro_batches, wanted.learning_rate, done=wanted.done)
            if wanted.done == 5 and wanted.learning_rate > limit:
                metrics["loss"] = float("inf")
            wanted = going.send(metrics)
    return rates


def test_a_lowered_rate_is_the_same_whatever_state_a_run_went_back_to(made: Store, tmp_path: Path) -> None:
    """Neither how often states are kept counts, nor where the run was killed, before its trouble or after it."""
    settings: dict[str, Any] = {"trouble": {"policy": "lower_lr"}, "validation": {"every_steps": 99}}
    often = {"every_steps": 3, "memory_every_steps": 1, "keep": 9}
    whole = opened(made, tmp_path / "whole", checkpoint=often, **settings)
    usual = {step: learning_rate(whole.config.optimizer, step, whole.steps) for step in range(8)}
    wanted = calmed(whole, usual[5] / 3)
    assert wanted == {step: rate if step < 5 else rate / 4 for step, rate in usual.items()}
    assert whole.progress.rollbacks == 2 and whole.progress.lowered == (5, 5)
    runs = []
    for every in (0, 4):
        seldom = {"memory_every_steps": every}
        runs.append(opened(made, tmp_path / f"every{every}", checkpoint=seldom, **settings))
    for folder in whole.store.folders(checkpoint.FOLDER)[:2]:
        found = checkpoint.read(whole.store, f"{checkpoint.FOLDER}/{folder}")
        assert isinstance(found, Checkpoint)
        runs.append(opened(made, tmp_path / folder, found, checkpoint=often, **settings))
    assert [run.progress.step for run in runs] == [0, 0, 3, 6]
    for run in runs:
        begun = run.progress.step
        assert calmed(run, usual[5] / 3) == {step: rate for step, rate in wanted.items() if step >= begun}
        found_weights = run.engine.weights()
        assert all(torch.equal(tensor, found_weights[name]) for name, tensor in whole.engine.weights().items())


def test_a_leap_is_met_once_and_its_batch_then_taken_at_half_the_rate(made: Store, tmp_path: Path) -> None:
    """The loss of a step is that of the weights before it: at any rate of the step it would leap again."""
    trouble = {"policy": "lower_lr", "spike": 5.0}
    run, rates = opened(made, tmp_path / "run", epochs=4, trouble=trouble, optimizer={"schedule": "constant"}), []
    going = steps(run)
    with contextlib.suppress(StopIteration):
        wanted = next(going)
        while True:
            metrics = run.engine.step(wanted.micro_batches, wanted.learning_rate, done=wanted.done)
            if wanted.done == 12:
                rates.append(wanted.learning_rate)
                metrics["loss"] *= 6
            wanted = going.send(metrics)
    assert rates == [2e-4, 1e-4] and run.progress.step == 16
    assert run.progress.rollbacks == 1 and run.progress.lowered == (12,)


@pytest.mark.parametrize(("took_s", "wanted"), [(5.0, {*range(8)}), (0.1, {0, 4})])
def test_the_cluster_is_asked_at_each_long_step(
    made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took_s: float, wanted: set[int]
) -> None:
    """At 5 s a step every fourth one would leave a third of a spot machine's half a minute."""
    monkeypatch.setattr(Clock, "lap", lambda clock: took_s)
    run, asked = opened(made, tmp_path / "run"), set[int]()
    run.notice = Notice(lambda: asked.add(run.progress.step))
    train(run)
    assert asked == wanted
    assert not any("step_s" in line for line in logged(tmp_path / "run"))


def test_word_to_leave_saves_the_step_and_ends_the_worker(made: Store, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": {"every_steps": 100}, "validation": {"every_steps": 5}}
    run = opened(made, tmp_path / "run", **settings)
    run.notice = Notice(lambda: "soon" if run.progress.step == 4 else None)
    with pytest.raises(Leaving, match="a node is about to go: step 5 is saved"):
        train(run)
    found = checkpoint.latest(run.store)
    assert found is not None and found.progress.step == 5
    again = opened(made, tmp_path / "run", found, **settings)
    train(again)
    whole = opened(made, tmp_path / "whole", **settings)
    assert train(whole) == again.progress, "a validation of the last step before leaving is not forgotten"
    wanted = whole.engine.weights()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.engine.weights().items())
