"""A whole stage under Ray Train and DeepSpeed, twice: stage 1, then stage 2 from its merged weights."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import pytest
import ray.train
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.constants import COLLECTIVE_TIMEOUT_S_ENV_VAR, WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from medtrain import reservation
from medtrain.artifacts import Artifact, Build, Identity, Policy, begin, locate
from medtrain.errors import IdentityMismatch, MissingArtifact, TrainingError
from medtrain.plugins import PACKAGE
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.train import inputs, launch, worker
from medtrain.train import stage as stages
from medtrain.train.launch import run
from medtrain.train.payload import FAILURE, LEFT, Payload, answer, answered
from medtrain.train.stage import StageConfig

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "name": "tiny",
    "stage": 1,
    "tokens": "tiny",
    "epochs": 2,
    "adapter": {"kind": "lora", "rank": 4},
    "batch": {"size": 16, "micro_tokens": 128},
    "optimizer": {"learning_rate": 1e-2},
    "validation": {"every_steps": 2},
}


def _remake(root: Store, stage: Artifact) -> Artifact:
    """The same stage under another identity, as if it had been trained again with other settings."""
    kept = {path: stage.store.read(path) for path in stage.store.files("adapter")}
    build = begin(root, stage.kind, stage.name, Identity({"other": 1}, {}, ""), Policy(again=True))
    assert isinstance(build, Build)
    for path, content in kept.items():
        build.store.write(path, content)
    return build.finish(stage.facts)


@dataclass
class Trainers:
    """Ray Train's trainers as the launcher makes them; only their `fit` is this one's, which starts no workers."""

    made: list[TorchTrainer] = field(default_factory=list)
    found: list[dict[str, str]] = field(default_factory=list)
    """The environment as each `fit` began."""
    act: Callable[[int], None] = lambda number: None
    """What the `number`-th `fit` does."""

    def fit(self) -> None:
        """A run of the workers."""
        self.found.append(dict(os.environ))
        self.act(len(self.found) - 1)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Trainers:
    """The trainers that the launcher makes; what it puts into the environment is taken out again at the end."""
    for name in (WORKER_GROUP_START_TIMEOUT_S_ENV_VAR, COLLECTIVE_TIMEOUT_S_ENV_VAR):
        monkeypatch.setenv(name, "as it was")
    trainers, make = Trainers(), launch._trainer
    monkeypatch.setattr(launch, "_trainer", lambda *given: (trainers.made.append(make(*given)), trainers)[1])
    return trainers


@pytest.fixture
def build(store: Store) -> Build:
    """A run that has begun."""
    begun = begin(store, "stage1", "tiny", Identity({}, {}, ""), Policy())
    assert isinstance(begun, Build)
    return begun


def fit(build: Build, **cluster: Any) -> None:
    """Let the launcher start the workers of a run, of which there are none."""
    config = RuntimeConfig.model_validate({"use_gpu": False, **cluster})
    told = {
        "root": "/r",
        "run": "stage1/tiny",
        "submission": "s",
        "train": {"name": "tiny", "tokens": "t"},
        "base": "b",
        "base_path": "/b",
        "adapter_path": None,
        "cpus": config.cpus_per_worker,
        "collective_timeout_s": config.collective_timeout_s,
    }
    launch._fit(build, Payload.model_validate(told), config)


@pytest.mark.parametrize(
    ("elastic", "workers", "waits", "looks"),
    [
        ({}, 4, "as it was", 60.0),
        ({"min_workers": 2}, (2, 4), "15", 60.0),
        ({"min_workers": 1, "start_timeout_s": 7, "grow_every_s": 3.5}, (1, 4), "7", 3.5),
    ],
)
def test_ray_is_told_how_many_workers_and_how_long_to_wait_for_them(
    build: Build,
    trainers: Trainers,
    monkeypatch: pytest.MonkeyPatch,
    elastic: Any,
    workers: Any,
    waits: str,
    looks: Any,
) -> None:
    monkeypatch.setattr(reservation, "_alive", lambda: {"a"})
    fit(build, workers=4, cpus_per_worker=2, max_failures=6, collective_timeout_s=45, elastic=elastic)
    (made,), (environment,) = trainers.made, trainers.found
    scaling, group, of_run = made.scaling_config, made.backend_config, made.run_config
    assert (scaling.num_workers, scaling.elastic_resize_monitor_interval_s) == (workers, looks)
    assert (scaling.use_gpu, scaling.resources_per_worker) == (False, {"CPU": 2})
    assert (group.backend, group.timeout_s, group.backend_cls) == ("gloo", 45, launch.ListeningBackend)
    assert of_run.failure_config.max_failures == 6
    assert (of_run.name, of_run.storage_path) == ("s-0", f"{build.store.root}/ray")
    assert environment[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] == waits
    assert environment[COLLECTIVE_TIMEOUT_S_ENV_VAR] == "45"


def test_workers_on_gpus_get_their_share_and_nccl(build: Build, trainers: Trainers) -> None:
    fit(build, use_gpu=True, gpus_per_worker=0.5)
    (made,) = trainers.made
    assert made.scaling_config.use_gpu and made.backend_config.backend == "nccl"
    assert made.scaling_config.resources_per_worker == {"CPU": 1, "GPU": 0.5}


def test_an_elastic_run_s_coordinator_is_made_to_look_while_the_workers_run(
    build: Build, trainers: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a killed submission's places are given back before the workers are asked for."""
    asked: list[str] = []
    nodes, counted, looked = {"a", "b"}, threading.Event(), threading.Event()

    def count() -> set[str]:
        found = set(nodes)
        counted.set()
        return found

    def ask(method: str, **given: Any) -> None:
        asked.append(f"{method} {given['requester_id']}")
        if method == "get_reserved_resources":
            looked.set()

    def lose_a_node(number: int) -> None:
        asked.append("fit")
        assert counted.wait(20), "nobody looks at the nodes"
        nodes.remove("b")
        assert looked.wait(20), "a lost node is not told"

    monkeypatch.setattr(reservation, "LOOK_S", 0.01)
    monkeypatch.setattr(reservation, "_alive", count)
    monkeypatch.setattr(reservation, "_ask", ask)
    trainers.act = lose_a_node
    build.store.write(reservation.FILE, b"train-x")
    fit(build, workers=2, elastic={"min_workers": 1})
    assert asked == ["cancel_request train-x", "fit", "get_reserved_resources medtrain"]


def test_workers_that_were_told_to_leave_start_again(build: Build, trainers: Trainers) -> None:
    """As often as that happens, and under a name of their own: Ray would go on with the ended run of the first."""

    def leave(number: int) -> None:
        build.store.delete(LEFT)  # as the first worker of a group does
        if number < 2:
            answer(build.store, LEFT, "s", f"SIGTERM: step {number} is saved")

    trainers.act = leave
    fit(build, max_failures=0)
    assert [made.run_config.name for made in trainers.made] == ["s-0", "s-1", "s-2"]
    assert not build.store.exists(LEFT)


def test_a_group_that_left_starts_again_even_where_ray_saw_its_machine_go_first(
    build: Build, trainers: Trainers
) -> None:
    """A word from before, of a group that never began, counts for nothing."""

    def leave(number: int) -> None:
        if number < 2:
            answer(build.store, LEFT, "s", f"SIGTERM: step {number} is saved")
        raise ray.train.TrainingFailedError("a node was lost")

    trainers.act = leave
    with pytest.raises(TrainingError, match="the workers failed for good: a node was lost"):
        fit(build, max_failures=0)
    assert len(trainers.made) == 3


def test_an_error_of_a_group_that_starts_again_ends_the_run(build: Build, trainers: Trainers) -> None:
    """Although the word of the group before it, which was told to leave, is still there."""

    def leave_and_fail(number: int) -> None:
        if number == 9:
            raise KeyboardInterrupt
        path, text = (FAILURE, "tokens/tiny does not exist") if number else (LEFT, "SIGTERM: step 4 is saved")
        answer(build.store, path, "s", text)

    trainers.act = leave_and_fail
    with pytest.raises(TrainingError, match="tokens/tiny does not exist"):
        fit(build)
    assert len(trainers.made) == 2 and not build.store.exists(LEFT) and not build.store.exists(FAILURE)


@pytest.mark.parametrize("raised", [True, False])
def test_what_the_user_can_mend_is_the_run_s_one_error(build: Build, trainers: Trainers, raised: bool) -> None:
    """Whether Ray has seen the failed worker, or one after it that ended at once."""

    def fail(number: int) -> None:
        answer(build.store, FAILURE, "s", "out of memory on cuda:0: lower batch.micro_tokens=4096")
        if raised:
            raise ray.train.TrainingFailedError("RayTaskError(OutOfMemoryError): CUDA out of memory")

    trainers.act = fail
    with pytest.raises(TrainingError) as caught:
        fit(build)
    assert str(caught.value) == "out of memory on cuda:0: lower batch.micro_tokens=4096"
    assert caught.value.__suppress_context__ and caught.value.__cause__ is None, "Ray's pages stand before the message"
    assert len(trainers.found) == 1 and answered(build.store, FAILURE, "s") is None


def test_workers_that_fail_without_a_word_are_said_to_have_failed(build: Build, trainers: Trainers) -> None:
    def fail(number: int) -> None:
        raise ray.train.TrainingFailedError("a node was lost")

    trainers.act = fail
    answer(build.store, FAILURE, "an earlier submission", "no token")
    with pytest.raises(TrainingError, match=r"stage1/tiny: the workers failed for good: a node was lost"):
        fit(build)


KILLED = OutOfMemoryError("Task was killed due to the node running low on memory.")


@pytest.mark.parametrize("killed", [KILLED, WorkerHealthCheckFailedError("A worker health check failed.", KILLED)])
def test_who_is_killed_for_the_host_s_memory_is_told_what_holds_less(
    build: Build, trainers: Trainers, killed: Exception
) -> None:
    """Ray's memory monitor leaves the worker no time for a word of its own, and its peers another error."""

    def kill(number: int) -> None:
        raise WorkerGroupError("[Rank 1] killed", {0: RuntimeError("Connection closed by peer"), 1: killed})

    trainers.act = kill
    with pytest.raises(TrainingError, match=r"the workers failed for good: (.|\n)*\[Rank 1\] killed") as caught:
        fit(build)
    last = str(caught.value).splitlines()[-1]
    assert last.startswith("out of the memory of a worker's host: set engine.gradient_checkpointing: whole; ")
    assert last.endswith("; lower runtime.workers, if several share a node")


def test_who_was_lost_for_another_reason_is_told_nothing_of_memory(build: Build, trainers: Trainers) -> None:
    def lose(number: int) -> None:
        lost = WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())
        raise WorkerGroupError("[Rank 0] lost", {0: lost})

    trainers.act = lose
    with pytest.raises(TrainingError) as caught:
        fit(build)
    assert "memory" not in str(caught.value)


LIGHT = """
import sys
from medtrain.train import command, launch
from medtrain.train.payload import Payload
train = {"name": "x", "tokens": "t", "adapter": {"kind": "lora", "rank": 4}}
told = {"root": "/r", "run": "stage1/x", "submission": "1", "train": train, "base": "b", "base_path": "/b"}
Payload.model_validate({**told, "adapter_path": None, "cpus": 1, "collective_timeout_s": 60})
print(sorted({"transformers", "peft", "deepspeed", "bitsandbytes"} & set(sys.modules)))
"""


def test_a_driver_reads_its_config_without_the_model_libraries() -> None:
    """Driver and controller start in seconds, and do not hold the memory of what only workers use."""
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, env=there)
    assert done.stdout.strip() == "[]"


def _goes_on_with_the_adapter(root: Store, first: Artifact) -> None:
    """What a worker of a stage with `init_from` trains begins as the earlier stage's adapter, on its base."""
    on = StageConfig.model_validate({**SETTINGS, "stage": 2, "name": "on", "init_from": "stage1/tiny"})
    tokens = locate(root, "tokens", "tiny")
    assert stages.base_reference(root, on, tokens) == first.facts["base"]
    told = {
        "root": root.root,
        "run": "stage2/on",
        "submission": "1",
        "train": on,
        "cpus": 1,
        "collective_timeout_s": 60,
    }
    base, adapter = str(root.local("bases/tiny")), stages.stage_adapter(root, "stage1/tiny")
    payload = Payload.model_validate(
        {**told, "base": "artifact:bases/tiny", "base_path": base, "adapter_path": adapter}
    )
    engine = worker._engine(payload, inputs.read(tokens, on), torch.device("cpu"), 3, None)
    found = peft.get_peft_model_state_dict(engine.deepspeed.module.model)
    saved = load_file(first.store.local("adapter") / "adapter_model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in saved.items()) and len(found) == len(saved)


@pytest.mark.usefixtures("ray_cluster", "group_of_one")
def test_two_stages_train_and_their_adapters_open_in_plain_peft(made: Store) -> None:
    first = run(made, "stage1", StageConfig.model_validate(SETTINGS), RuntimeConfig(workers=1), Policy())
    assert first.facts["step"] == 8
    assert first.facts["last_loss"] < first.facts["first_loss"]
    second_config = StageConfig.model_validate({**SETTINGS, "stage": 2, "merge_from": "stage1/tiny", "max_steps": 2})
    second = run(made, "stage2", second_config, RuntimeConfig(workers=1), Policy())
    assert second.facts["base"] == "artifact:merged/stage1-tiny"
    base = AutoModelForCausalLM.from_pretrained(made.local("merged/stage1-tiny"), dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(base, str(second.store.local("adapter")))
    ids = torch.arange(10, 20)[None]
    with torch.no_grad(), opened.disable_adapter():
        plain = opened(input_ids=ids).logits
    with torch.no_grad():
        adapted = opened(input_ids=ids).logits
    assert not torch.allclose(plain, adapted)
    assert not second.store.folders("ray")
    _goes_on_with_the_adapter(made, first)
    again = run(made, "stage2", second_config, RuntimeConfig(workers=1), Policy())
    assert again.fingerprint == second.fingerprint
    before = locate(made, "merged", "stage1-tiny").fingerprint
    remade = _remake(made, first)
    launch._merge(made, second_config, locate(made, "tokens", "tiny"), Policy())
    merged = locate(made, "merged", "stage1-tiny")
    assert merged.fingerprint != before and merged.manifest["identity"]["inputs"] == {"stage1/tiny": remade.fingerprint}
    with pytest.raises(IdentityMismatch, match=r"config.epochs: \S+ -> 3"):
        run(made, "stage1", StageConfig.model_validate({**SETTINGS, "epochs": 3}), RuntimeConfig(), Policy())


def test_a_run_s_identity_has_the_code_that_its_weights_depend_on_and_no_other() -> None:
    files = {path.relative_to(PACKAGE).as_posix() for path in stages.code()}
    assert {"train/loop.py", "train/lanes/engine.py", "train/order.py", "tokens/shards.py"} <= files
    assert not {"train/command.py", "train/estimate.py", "train/footprint.py"} & files
    assert all((PACKAGE / "train" / f"{name}.py").is_file() for name in stages.ASIDE)


def test_a_stage_without_its_input_says_which_job_makes_it(store: Store) -> None:
    with pytest.raises(MissingArtifact, match=r"tokens/tiny does not exist.*jobs/build_tokens.py makes it"):
        run(store, "stage1", StageConfig.model_validate(SETTINGS), RuntimeConfig(), Policy())
