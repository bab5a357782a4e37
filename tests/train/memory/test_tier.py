"""Rank 0's side: one state on its way at a time, a lost holder said once, a damaged state refused."""

import threading

import pytest
import torch

from medtrain.train import checkpoint
from medtrain.train.checkpoint import Checkpoint, Progress
from medtrain.train.memory.holder import Files, Offer
from medtrain.train.memory.tier import MemoryTier, opened


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight/a": torch.full((3,), value)}


def test_a_state_comes_back_as_it_went() -> None:
    kept: dict[Offer, Files] = {}
    tier = MemoryTier(3, kept.__setitem__)
    tier.save(Progress(step=8, best_step=4, best_loss=1.5), state(8))
    tier.finish()
    offer = Offer(8, 3, 4)
    found = opened(offer, kept[offer])
    assert isinstance(found, Checkpoint) and found.progress.best_loss == 1.5
    assert torch.equal(found.state["weight/a"], state(8)["weight/a"])


def test_a_state_is_passed_over_while_the_last_is_on_its_way() -> None:
    gate, sent = threading.Event(), []

    def send(offer: Offer, files: Files) -> None:
        assert gate.wait(10)
        sent.append(offer.step)

    tier = MemoryTier(1, send)
    first = state(4)
    tier.save(Progress(step=4), first)
    tier.save(Progress(step=8), state(8))
    assert tier.reading[0] is first and len(tier.reading) == 1
    gate.set()
    tier.finish()
    assert sent == [4] and tier.reading == []


def test_a_lost_holder_is_said_once_and_training_goes_on() -> None:
    said: list[str] = []

    def send(offer: Offer, files: Files) -> None:
        raise ConnectionError

    tier = MemoryTier(1, send, lambda text, flush: said.append(text))
    for step in (4, 8):
        tier.save(Progress(step=step), state(step))
        while tier._running is not None and not tier._running.done():
            pass
    tier.finish()
    assert len(said) == 1 and "step 4" in said[0] and "ConnectionError" in said[0]


@pytest.mark.parametrize("damage", ["forgotten", "flipped"])
def test_what_is_not_whole_is_refused(damage: str) -> None:
    files = checkpoint.joined(Progress(step=1), state(1))
    sums = checkpoint.checksums(files)
    files["state.safetensors"][-1] ^= 1
    found = opened(Offer(1, 1, 0), None if damage == "forgotten" else (files, sums))
    assert found == (
        "it was forgotten or its holder is gone" if damage == "forgotten" else "it is damaged (state.safetensors)"
    )
