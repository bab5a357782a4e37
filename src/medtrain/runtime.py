"""The process and the cluster: connecting to Ray, shipping the code, seeds, devices, ranks."""

import importlib.metadata
import os
import uuid
from pathlib import Path
from typing import Any

import medtrain
from medtrain import plugins
from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.storage import Store

PACKAGES = ("ray", "torch", "transformers", "peft", "bitsandbytes", "deepspeed", "pyarrow")


class RuntimeConfig(Config):
    """How a job meets its cluster."""

    workers: int = knob(1, ge=1)
    """Training or generating processes, one device each."""
    cpus_per_worker: float = knob(1.0, gt=0)
    """CPU cores that each worker reserves; PyTorch's threads follow it."""
    use_gpu: bool | None = knob(None)
    """One GPU for each worker; null takes GPUs where the cluster has any."""
    max_failures: int = knob(3, ge=-1)
    """How often a lost worker or node is replaced before the job gives up; -1 is without end."""
    worker_start_timeout_s: int = knob(30, ge=1)
    """How long to wait for workers that a lost node cannot give any more."""


def connect() -> None:
    """Join the cluster that the environment names (`ray job submit` does), or start one here; ship code and plug-ins.

    Workers import the very tree that the driver runs: the package and the plug-ins travel with the job.
    """
    import ray

    if ray.is_initialized():
        return
    ship: list[str] = [str(plugins.PACKAGE)]
    variables = {"RAY_TRAIN_V2_ENABLED": "1", "TOKENIZERS_PARALLELISM": "false"}
    own = plugins.own_root()
    if own is not None:
        ship.append(str(own))
        variables[plugins.SHIPPED_VARIABLE] = own.name
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    ray.init(runtime_env={"py_modules": ship, "env_vars": variables}, log_to_driver=True, include_dashboard=None)


def report() -> dict[str, Any]:
    """What this process runs: medtrain's version and folder, the user's plug-ins, the versions of the engine."""
    own = plugins.own_root()
    found = [] if own is None else sorted(str(p.relative_to(own)) for p in own.glob("*/*/*.py"))
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"medtrain": medtrain.__version__, "plugins": found, **versions}


def check_cluster(store: Store) -> None:
    """See that every node runs the driver's versions and sees the same storage.

    Raises:
        ConfigError: a node has another version of a package, or does not see the storage root's files.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nonce, path = uuid.uuid4().hex, f"nonces/{uuid.uuid4().hex}"
    store.write(path, nonce.encode())

    def look() -> tuple[dict[str, Any], str]:
        seen = store.read(path).decode() if store.exists(path) else ""
        return report(), seen

    task = ray.remote(num_cpus=0)(look)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    answers = ray.get(
        [
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote()
            for n in nodes
        ]
    )
    store.delete(path)
    mine = report()
    for node, (theirs, seen) in zip(nodes, answers, strict=True):
        where = node["NodeManagerAddress"]
        wrong = [f"{key} {theirs[key]} (driver: {mine[key]})" for key in mine if theirs[key] != mine[key]]
        if wrong:
            raise ConfigError(f"node {where}: runs {', '.join(wrong)}; install constraints.txt on every node")
        if seen != nonce:
            raise ConfigError(f"storage.root={store.root}: node {where} does not see it; use a shared folder or a URI")
    own = ", ".join(mine["plugins"]) or "none"
    print(f"workers: {len(nodes)} node(s) run medtrain {mine['medtrain']}, plug-ins: {own}")


def wants_gpu(config: RuntimeConfig) -> bool:
    """Whether workers get a GPU each: as the config says, else whether the cluster has any."""
    import ray

    return config.use_gpu if config.use_gpu is not None else ray.cluster_resources().get("GPU", 0) > 0


def rank() -> int:
    """This worker's number, 0 outside a worker group."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many workers there are in this group."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def set_threads(cpus: float) -> None:
    """Give PyTorch the cores that the worker has reserved (Ray alone gives it one)."""
    import torch

    torch.set_num_threads(max(1, int(cpus)))


def cache_folder() -> Path:
    """Where compiled operators of this machine are kept between runs."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR", str(Path.home() / ".cache" / "torch_extensions")))
