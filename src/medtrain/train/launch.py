"""A run from config to artifact: inputs, merge, workers under Ray Train, manifest."""

import contextlib
import itertools
import json
import os
import uuid
from typing import Any

import ray
import ray.exceptions
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from medtrain import artifacts, reservation, runtime
from medtrain.artifacts import Artifact, Build, Identity, Policy
from medtrain.errors import TrainingError
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.train import exhausted
from medtrain.train import stage as stages
from medtrain.train.memory import launch as memory
from medtrain.train.notice import listen
from medtrain.train.payload import FAILURE, LEFT, RESULT, Payload, answered
from medtrain.train.settings import TrainConfig


class ListeningBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    """PyTorch's process group, in workers that take SIGTERM as word to leave."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Called by Ray Train when the workers are there; what it executes runs in their main threads."""
        super().on_start(worker_group, backend_config)
        worker_group.execute(listen)


class ListeningConfig(TorchConfig):
    """`TorchConfig` with that backend."""

    @property
    def backend_cls(self) -> type[ListeningBackend]:
        return ListeningBackend


def _work(payload: dict[str, Any]) -> None:
    """The function of `TorchTrainer`: only a worker imports the model libraries, Ray Train's controller need not."""
    with runtime.importing():
        import deepspeed  # noqa: F401 (the engine would import it when it is built)

        from medtrain.train.worker import work

    work(Payload.model_validate(payload))


def run(root: Store, kind: str, config: TrainConfig, cluster: RuntimeConfig, policy: Policy) -> Artifact:
    """Train <kind>/<name> on the connected cluster, or read it back if it is whole already.

    A killed run is gone on with from its last whole checkpoint when this is called again.

    Raises:
        MissingArtifact: an input does not exist; the message names the job that makes it.
        IdentityMismatch: an artifact of this name was made from something else.
        TrainingError: the workers failed for good.
    """
    prepared = prepare(root, kind, config, cluster, policy)
    if isinstance(prepared, Artifact):
        return prepared
    build, payload = prepared
    with memory.kept(payload.submission) if config.checkpoint.memory_every_steps else contextlib.nullcontext():
        _fit(build, payload, cluster)
    build.store.delete("ray")
    build.store.delete(reservation.FILE)
    return finish(build, payload)


def prepare(
    root: Store, kind: str, config: TrainConfig, cluster: RuntimeConfig, policy: Policy
) -> Artifact | tuple[Build, Payload]:
    """A run's artifact where it is whole, else its build and what its workers are told; merges what it starts from.

    Raises:
        ConfigError: the base's tokenizer is not that of the tokens, or see `base_reference`; nothing has changed then.
        MissingArtifact, IdentityMismatch: as in `run`.
    """
    tokens = artifacts.locate(root, "tokens", config.tokens)
    stages.check_tokens(root, config, tokens)
    base = stages.base_reference(root, config, tokens)
    build = artifacts.begin(root, kind, config.name, stages.identity_of(root, config, tokens), policy)
    if isinstance(build, Artifact):
        print(f"{kind}/{config.name} is whole already ({build.store.root}); --again trains it again", flush=True)
        return build
    for note in build.notes:
        print(note)
    if config.merge_from:
        _merge(root, config, tokens, policy)
    return build, Payload(
        root=root.root,
        run=f"{kind}/{config.name}",
        submission=uuid.uuid4().hex,
        train=TrainConfig.model_validate({name: getattr(config, name) for name in TrainConfig.model_fields}),
        base=base,
        base_path=artifacts.model_path(root, base),
        adapter_path=stages.stage_adapter(root, config.init_from) if config.init_from else None,
        cpus=cluster.cpus_per_worker,
        collective_timeout_s=cluster.collective_timeout_s,
    )


def finish(build: Build, payload: Payload) -> Artifact:
    """The artifact of a run whose workers have left its result."""
    result, config = json.loads(build.store.read(RESULT)), payload.train
    model = config.model.model_dump(mode="json")
    return build.finish({"base": payload.base, "tokens": config.tokens, "model": model, **result})


def _merge(root: Store, config: TrainConfig, tokens: Artifact, policy: Policy) -> Artifact:
    """The merged weights of the stage to start from, made once and kept."""
    run = str(config.merge_from)
    source = artifacts.locate(root, *run.split("/", 1))
    adapter, base = stages.stage_adapter(root, run), artifacts.model_path(root, source.facts["base"])
    code = artifacts.code_hash(artifacts.room_code("train/merge.py"))
    identity = Identity({"dtype": "bfloat16"}, {run: source.fingerprint}, code)
    build = artifacts.begin_cache(root, "merged", run.replace("/", "-"), identity, Policy(policy.keep_stale))
    if isinstance(build, Artifact):
        return build
    for note in build.notes:
        print(note)
    folder = str(build.store.local())

    def merge() -> None:
        from medtrain.train.merge import merged

        trusted = config.model.trust_remote_code
        merged(base, adapter, torch.bfloat16, trust_remote_code=trusted).save_pretrained(folder)

    print(f"merging {run} into its base, in float32, saved as bfloat16", flush=True)
    ray.get(ray.remote(num_cpus=1)(merge).remote())
    return build.finish({"base": source.facts["base"], "adapter": run})


def _fit(build: Build, payload: Payload, cluster: RuntimeConfig) -> None:
    """Run the workers; a lost one is replaced, and the group goes on from the last state in memory or on storage.

    A group that was told to leave has saved its state and ended well: it starts again where there is room, as often as
    that happens, for `max_failures` counts what goes wrong.
    """
    gpu, elastic = runtime.wants_gpu(cluster), cluster.elastic
    print(f"{payload.run}: {cluster.workers} worker(s), {'a GPU' if gpu else 'CPU'} each", flush=True)
    reservation.withdraw(build.store)
    if elastic.min_workers is not None:
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(elastic.start_timeout_s)
    os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] = str(cluster.collective_timeout_s)  # of Ray's own barriers
    try:
        with contextlib.nullcontext() if elastic.min_workers is None else reservation.looked_at():
            for number in itertools.count():
                build.store.delete(LEFT)
                if not _leaves(_trainer(build, payload, cluster, gpu, number), build.store, payload.submission):
                    break
    except ray.train.TrainingFailedError as error:
        what = f"\n{exhausted.host_advice(payload.train, gpu=gpu)}" if _killed_for_memory(error) else ""
        raise TrainingError(f"{payload.run}: the workers failed for good: {error}{what}") from error
    finally:
        failure = answered(build.store, FAILURE, payload.submission)
        for word in (FAILURE, LEFT):
            build.store.delete(word)
        if failure is not None:
            raise TrainingError(failure) from None


def _leaves(trainer: Any, store: Store, submission: str) -> bool:
    """Run the workers to their end; whether it came because they were told to leave.

    Their machine may be gone before Ray has seen that they ended well: what they said counts.
    """

    def said(word: str) -> bool:
        return answered(store, word, submission) is not None

    try:
        trainer.fit()
    except ray.train.TrainingFailedError:
        if said(FAILURE) or not said(LEFT):
            raise
    return said(LEFT) and not said(FAILURE)


def _killed_for_memory(error: ray.train.TrainingFailedError) -> bool:
    """Whether Ray's memory monitor killed a worker; the others then failed at what they did together."""
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(failure, "health_check_failure", failure) for failure in failures]
    return any(isinstance(cause, ray.exceptions.OutOfMemoryError) for cause in causes)


def _trainer(build: Build, payload: Payload, cluster: RuntimeConfig, gpu: bool, number: int) -> Any:
    """Ray Train's run of the workers, the `number`-th of this submission."""
    elastic = cluster.elastic
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker, **({"GPU": cluster.gpus_per_worker} if gpu else {})}
    return TorchTrainer(
        _work,
        train_loop_config=payload.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers if elastic.min_workers is None else (elastic.min_workers, cluster.workers),
            use_gpu=gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=elastic.grow_every_s,
        ),
        torch_config=ListeningConfig(backend="nccl" if gpu else "gloo", timeout_s=cluster.collective_timeout_s),
        run_config=RunConfig(
            name=f"{payload.submission}-{number}",
            storage_path=f"{build.store.root}/ray",
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
    )
