"""The loop in one process: what it logs, when it saves, when it stops, and that it goes on where it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medtrain.artifacts import locate
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.tracking import Tracker
from medtrain.train import adapters, checkpoint, validation
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.engine import Engine
from medtrain.train.loop import Run, train
from medtrain.train.loss import LossModule
from medtrain.train.model import load_base
from medtrain.train.order import Plan
from medtrain.train.saver import Saver
from medtrain.train.stage import StageConfig
from medtrain.train.state import set_weights

pytestmark = pytest.mark.usefixtures("group_of_one")


def opened(made: Store, run: Path, found: Checkpoint | None = None, **settings: Any) -> Run:
    """A run over the made artifacts in fp32 on one worker, fresh or from a checkpoint."""
    content = {"name": "x", "stage": 1, "tokens": "tiny", "epochs": 2, "model": {"precision": "fp32"}}
    config = StageConfig.model_validate({**content, "batch": {"size": 16}, "adapter": {"rank": 4}, **settings})
    samples = Samples.open(locate(made, "tokens", "tiny"))
    rows = samples.select("train")
    base = load_base(str(made.local("bases/tiny")), config.model, torch.device("cpu"), config.batch.layout)
    model = adapters.attach(base, config.adapter, config.seed)
    if found is not None:
        set_weights(LossModule(model), found.state)
    engine = Engine(model, samples, batch=config.batch, optimizer=config.optimizer, engine=config.engine, pad_id=3)
    if found is not None:
        engine.set_moments(found.state, found.progress.step)
    plan = Plan(rows, samples.lengths[rows], config.batch, seed=config.seed, epochs=config.epochs)
    store = Store(str(run))
    return Run(
        config=config,
        store=store,
        engine=engine,
        plan=plan,
        held_out=validation.micro_batches(samples, samples.select("validation"), config.batch),
        steps=plan.steps,
        progress=found.progress if found is not None else Progress(step=0),
        saver=Saver(store, checkpoint.claim_attempt(store), config.checkpoint.keep),
        memory=None,
        tracker=Tracker(run / "log", found.progress.step if found is not None else 0),
        bar=None,
    )


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log" / "metrics.jsonl").read_text().splitlines()]


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
