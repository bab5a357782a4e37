"""What is trouble, and where a run goes on after it."""

from dataclasses import replace

import pytest

from medtrain.errors import TrainingError
from medtrain.train.checkpoint import Progress
from medtrain.train.trouble import TroubleConfig, answer, found

STEADY = [1.0, 1.2, 0.8] * 5


def metrics(loss: float, norm: float = 1.0) -> dict[str, float]:
    return {"loss": loss, "gradient_norm": norm}


@pytest.mark.parametrize(
    ("loss", "norm", "spike", "recent", "why"),
    [
        (1.0, 1.0, None, STEADY, ""),
        (float("nan"), 1.0, None, [], "the loss is nan"),
        (1.0, float("inf"), None, [], "the gradient norm is inf"),
        (9.0, 1.0, None, STEADY, ""),
        (9.0, 1.0, 3.0, STEADY, "the loss 9 is over 3 times the usual 1"),
        (2.9, 1.0, 3.0, STEADY, ""),
        (9.0, 1.0, 3.0, STEADY[:7], ""),  # too few losses to know what is usual
    ],
)
def test_what_is_trouble(loss: float, norm: float, spike: float | None, recent: list[float], why: str) -> None:
    assert found(TroubleConfig(spike=spike), metrics(loss, norm), recent) == why


def test_the_policies() -> None:
    now, back = Progress(step=7, skipped=(3,), skipped_ids=("x",), rollbacks=1), Progress(step=4, best_step=2)
    with pytest.raises(TrainingError, match=r"step 8: why, after 1 rollback\(s\); its samples are a, b"):
        answer(TroubleConfig(), now, back, "why", ["a", "b"])
    skipping = answer(TroubleConfig(policy="skip_batch"), now, back, "why", ["a", "b"])
    assert skipping == replace(back, rollbacks=2, skipped=(3, 7), skipped_ids=("x", "a", "b"))
    assert replace(skipping, step=8).updates == 6
    lowered = answer(TroubleConfig(policy="lower_lr"), now, back, "why", ["a"])
    assert lowered == replace(back, rollbacks=2, skipped=(3,), skipped_ids=("x",), lowered=(7,))
    twice = answer(TroubleConfig(policy="lower_lr"), replace(now, lowered=(7,)), back, "why", ["a"])
    assert [replace(twice, step=step).rate_scale for step in (4, 6, 7, 8)] == [1, 1, 0.25, 0.25]
    with pytest.raises(TrainingError):
        answer(TroubleConfig(policy="skip_batch"), replace(now, rollbacks=3), back, "why", [])
