"""What a run leaves at its end: the weights it was told to keep, and its numbers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load

from medtrain.config import parse
from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import adapters, attempts, checkpoint, ending
from medtrain.train.checkpoint import Progress
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.settings import TrainConfig
from medtrain.train.state import weights


class Tokenizer:
    """Leaves a file where it is saved."""

    def save_pretrained(self, folder: Any) -> None:
        (folder / "tokenizer.json").write_text("{}")


def ended(made: Store, keep: str, progress: Progress) -> tuple[Any, Any, Store]:
    """A run at its end, its model, and its folder."""
    base = load_base(str(made.local("bases/tiny")), ModelConfig(precision="fp32"), torch.device("cpu"))
    model = adapters.attach(base, {"kind": "lora", "rank": 2}, seed=0)
    config = parse(TrainConfig, {"name": "x", "tokens": "t", "validation": {"keep": keep}})
    store = made.sub("expert/x")
    engine = SimpleNamespace(rule=None)
    return (
        SimpleNamespace(
            config=config, store=store, engine=engine, progress=progress, steps=9, tracker=None, saver=None
        ),
        model,
        store,
    )


def filled(model: Any, value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in weights(LossModule(model)).items()}


@pytest.mark.parametrize(("keep", "value"), [("last", 9.0), ("best", 6.0)])
def test_the_weights_are_the_last_or_the_best(made: Store, keep: str, value: float) -> None:
    run, model, store = ended(
        made, keep, Progress(step=9, best_step=6, best_loss=1.5, skipped=(3,), skipped_ids=("a",), lowered=(4,))
    )
    state = {f"weight/{name}": tensor for name, tensor in filled(model, 6.0).items()}
    checkpoint.write(store, attempts.claim(store), Progress(step=6), state)
    ending.write(run, model, filled(model, 9.0), Tokenizer())
    saved = load(store.read("adapter/adapter_model.safetensors"))
    assert all(bool((tensor == value).all()) for tensor in saved.values())
    result = json.loads(store.read("result.json"))
    assert result["kept_step"] == value and result["skipped_ids"] == ["a"] and result["planned_steps"] == 9
    assert result["lowered"] == [4] and "last_loss" not in result and store.exists("adapter/tokenizer.json")


def test_a_best_step_that_is_gone_is_said(made: Store) -> None:
    run, model, _ = ended(made, "best", Progress(step=9, best_step=6))
    with pytest.raises(TrainingError, match=r"best step's checkpoint \(6\) is gone"):
        ending.write(run, model, filled(model, 9.0), Tokenizer())


def test_a_best_step_that_was_damaged_and_written_anew_is_found(made: Store) -> None:
    run, model, store = ended(made, "best", Progress(step=9, best_step=6))
    for value in (5.0, 6.0, 7.0):
        state = {f"weight/{name}": tensor for name, tensor in filled(model, value).items()}
        damaged = checkpoint.write(store, attempts.claim(store), Progress(step=6), state)
    store.write(f"{damaged}/progress.json", b"{")
    ending.write(run, model, filled(model, 9.0), Tokenizer())
    saved = load(store.read("adapter/adapter_model.safetensors"))
    assert all(bool((tensor == 6.0).all()) for tensor in saved.values())


def test_a_run_that_another_has_taken_over_leaves_no_adapter(made: Store) -> None:
    run, model, store = ended(made, "last", Progress(step=9))
    run.saver = SimpleNamespace(attempt=attempts.claim(store, "a"))
    attempts.claim(store, "b")
    with pytest.raises(TrainingError, match="attempt 2 has taken over"):
        ending.write(run, model, filled(model, 9.0), Tokenizer())
    assert not store.exists("adapter/adapter_model.safetensors")
