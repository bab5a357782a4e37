"""`--dry-run` of a stage: its plan and its verdict, and settings to change only where it does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Qwen2Config

from medtrain import artifacts
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.tokens.shards import Sample, shard_path, write_shard
from medtrain.train.command import Job, main, plan

STAGE_2 = Path(__file__).resolve().parents[2] / "jobs" / "stage2.py"


def job(store: Store, memory_gib: float | None, **train: Any) -> Job:
    """BioQwen's stage 2 on one device."""
    given = {"name": "x", "stage": 2, "recipe": "bioqwen", "tokens": "tiny", **train}
    settings = {"storage": {"root": store.root}, "estimate": {"memory_gib": memory_gib}, "runtime": {"workers": 1}}
    return Job.model_validate({**settings, "train": given})


def test_a_stage_that_fits_is_told_no_other_settings(made: Store) -> None:
    shown = plan(made, job(made, 24))
    assert "plan: 64 rows" in shown  # of 76: the rest is held out
    assert "GiB, fits\n" in shown and "1 x rtx3090" in shown
    assert "it fits with" not in shown and "no setting" not in shown
    unasked = plan(made, job(made, None))
    assert "fit" not in unasked


def test_a_stage_that_fits_nowhere_is_told_so(made: Store) -> None:
    shown = plan(made, job(made, 0.5))  # less than a CUDA context takes
    assert "GiB, does NOT fit\n" in shown
    assert shown.splitlines()[-1].startswith("no setting that keeps the results makes it fit")


def test_a_plan_whose_input_is_still_to_be_made_says_which(made: Store) -> None:
    shown = plan(made, job(made, 24, tokens="later"))
    assert shown.startswith("plan: unknown until its input exists: ") and "tokens/later does not exist" in shown


def test_dry_run_shows_config_and_plan_and_makes_nothing(made: Store, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"storage.root={made.root}", "train.tokens=tiny", "train.merge_from=null", "train.epochs=3"]
    main(STAGE_2, 2, [*given, "estimate.memory_gib=24", "--dry-run"])
    shown = capsys.readouterr().out
    assert "epochs: 3" in shown and "plan: 64 rows" in shown and "GiB, fits" in shown
    assert not made.exists("stage2/demo")
    with pytest.raises(ConfigError, match=r"train.stage=2: stage2.py runs stage 1; use the other stage's job"):
        main(STAGE_2, 1, [*given, "--dry-run"])


@pytest.fixture
def published(store: Store, tmp_path: Path) -> dict[str, Any]:
    """Qwen1.5 1.8B by its published sizes, and 64 rows of 1,024 tokens: what a stage is given of them."""
    sizes = {"hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5504}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16}
    Qwen2Config(vocab_size=151936, **sizes, **heads, tie_word_embeddings=False).save_pretrained(tmp_path / "1.8B")
    tokens = artifacts.begin(store, "tokens", "long", Identity({}, {}, ""), Policy())
    assert not isinstance(tokens, Artifact)
    ids = np.full(1024, 7, np.int32)
    rows = [Sample(str(n), "s", "qa", "QA", "en", "train", ids, ((1000, 1024),)) for n in range(64)]
    write_shard(tokens.store, shard_path(0), rows)
    tokens.finish({"base": str(tmp_path / "1.8B"), "context_tokens": 1024})
    return {"tokens": "long"}


@pytest.mark.parametrize(("how", "gib"), [("none", 18.923), ("selective", 11.942), ("whole", 5.557)])
def test_does_1_8b_with_1024_tokens_and_micro_batch_4_fit_a_24_gb_card(
    store: Store, published: dict[str, Any], how: str, gib: float
) -> None:
    batch = {"layout": "padded", "micro_samples": 4}
    asked = {**published, "batch": batch, "engine": {"gradient_checkpointing": how}}
    assert f"together {gib:>16} GiB, fits\n" in plan(store, job(store, 24, **asked))
    # A tenth for the allocator and a CUDA context come on top.
    needed = 1.1 * gib + 0.8
    assert "GiB, fits\n" in plan(store, job(store, needed + 0.01, **asked))
    assert "GiB, does NOT fit\n" in plan(store, job(store, needed - 0.01, **asked))


def test_what_is_proposed_for_micro_batches_of_16_fits(store: Store, published: dict[str, Any]) -> None:
    batch = {"layout": "padded", "micro_samples": 16}
    shown = plan(store, job(store, 24, **published, batch=batch))
    assert "GiB, does NOT fit\n" in shown
    proposal = shown.splitlines()[-1]
    assert proposal == "it fits with: train.engine.gradient_checkpointing=whole"
    settings = dict(word.rsplit(".", 1)[-1].split("=") for word in proposal.removeprefix("it fits with: ").split())
    assert "GiB, fits\n" in plan(store, job(store, 24, **published, batch=batch, engine=settings))
    assert "GiB, does NOT fit\n" in plan(
        store, job(store, 24, **published, batch=batch, engine={"gradient_checkpointing": "selective"})
    )
