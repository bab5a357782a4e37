"""DeepSpeed's configuration: accepted by DeepSpeed's own schema, and nothing in it changes what is computed."""

from typing import Any

import pytest
from deepspeed.runtime.config import DeepSpeedConfig

from medtrain.config import identity, parse
from medtrain.errors import ConfigError
from medtrain.train.deepspeed_config import EngineConfig, deepspeed_config


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_reads_what_was_meant(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    given = deepspeed_config(EngineConfig(zero_stage=stage, bucket_elements=1000), clip=0.3, world_size=1)
    read = DeepSpeedConfig(given)
    assert read.zero_config.stage == stage
    assert read.gradient_clipping == 0.3
    assert read.gradient_accumulation_steps == read.train_batch_size == 1
    assert not read.bfloat16_config.enabled and not read.float16_config.enabled
    assert read.zero_config.reduce_bucket_size == 1000


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("gpu", [False, True])
def test_masters_and_moments_lie_on_the_host_where_that_is_asked_for(stage: int, gpu: bool) -> None:
    def read(asked: bool) -> Any:
        engine = EngineConfig(zero_stage=stage, offload_optimizer=asked)
        return DeepSpeedConfig(deepspeed_config(engine, 0.3, 1, gpu=gpu)).zero_config.offload_optimizer

    there = read(True)
    assert (there.device, there.pin_memory) == ("cpu", gpu)
    assert read(False) is None


def test_collectives_are_logged_where_that_is_asked_for() -> None:
    """DeepSpeed logs wherever the key is there, whatever lies below it."""
    read = DeepSpeedConfig(deepspeed_config(EngineConfig(time_communication=True), 0.3, 1)).comms_config
    assert read.comms_logger_enabled
    assert read.comms_logger.enabled and read.comms_logger.prof_all and not read.comms_logger.verbose
    assert "comms_logger" not in deepspeed_config(EngineConfig(), 0.3, 1)


def test_its_timer_does_not_wait_for_the_device() -> None:
    assert not DeepSpeedConfig(deepspeed_config(EngineConfig(), clip=0, world_size=1)).timers_config.enabled


def test_the_batch_is_one_a_worker() -> None:
    assert deepspeed_config(EngineConfig(), clip=0, world_size=3)["train_batch_size"] == 3


def test_only_stage_3_shards_weights_and_shards_every_one() -> None:
    assert (
        deepspeed_config(EngineConfig(zero_stage=3), 0.3, 1)["zero_optimization"]["stage3_param_persistence_threshold"]
        == 0
    )
    keys = deepspeed_config(EngineConfig(zero_stage=2), 0.3, 1)["zero_optimization"]
    assert not any(key.startswith("stage3") for key in keys)


def test_it_is_no_part_of_a_stages_identity() -> None:
    assert identity(EngineConfig()) == identity(EngineConfig(zero_stage=3, gradient_checkpointing="whole")) == {}


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_stage=4"):
        parse(EngineConfig, {"zero_stage": 4})
