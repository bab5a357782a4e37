"""How long a run is by its tokens, and how many a cluster has room for."""

import pytest

from medtrain.artifacts import locate
from medtrain.config import parse
from medtrain.experts.work import reserved, slots, work_of
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens.shards import Samples
from medtrain.train.settings import TrainConfig

SETTINGS = {"name": "x", "tokens": "tiny", "epochs": 2, "batch": {"size": 8, "layout": "packed", "micro_tokens": 256}}


def test_a_run_is_as_long_as_its_tokens(made: Store) -> None:
    tokens = locate(made, "tokens", "tiny")
    samples = Samples.open(tokens)
    rows = samples.select("train")
    item = work_of(tokens, parse(TrainConfig, SETTINGS), "a")
    assert item.rows == len(rows) and item.steps == 2 * -(-len(rows) // 8)
    assert item.tokens == 2 * samples.lengths[rows].sum()
    half = work_of(tokens, parse(TrainConfig, {**SETTINGS, "max_steps": item.steps // 2}), "a")
    assert half.steps == item.steps // 2 and half.tokens == pytest.approx(item.tokens / 2, rel=0.1)


@pytest.mark.parametrize(
    ("resources", "runtime", "gpu", "room"),
    [
        ({"CPU": 2}, {}, False, 2),
        ({"CPU": 2}, {"workers": 2}, False, 1),
        ({"CPU": 1}, {"workers": 2}, False, 1),
        ({"CPU": 64, "GPU": 4}, {"cpus_per_worker": 4}, True, 4),
        ({"CPU": 64, "GPU": 4}, {"gpus_per_worker": 1 / 3}, True, 12),
        ({"CPU": 4, "GPU": 4}, {"cpus_per_worker": 2}, True, 2),
    ],
)
def test_room_is_what_cores_and_devices_allow(
    resources: dict[str, float], runtime: dict[str, float], gpu: bool, room: int
) -> None:
    assert slots(resources, RuntimeConfig.model_validate(runtime), gpu=gpu) == room


def test_a_device_reserves_what_is_counted_for_it() -> None:
    runtime = RuntimeConfig(cpus_per_worker=2, gpus_per_worker=0.25)
    assert reserved(runtime, gpu=True) == {"num_cpus": 2, "num_gpus": 0.25}
    assert reserved(runtime, gpu=False) == {"num_cpus": 2}
    assert slots({"CPU": 64, "GPU": 1}, runtime, gpu=True) == 4
