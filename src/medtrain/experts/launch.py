"""A plan to a library: data and tokens of every expert, then as many runs at once as the cluster has room for."""

import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import ray

from medtrain import artifacts, runtime
from medtrain.artifacts import Artifact, Policy
from medtrain.data import pipeline as data
from medtrain.errors import MedtrainError, TrainingError
from medtrain.experts import library
from medtrain.experts.plan import Plan, artifact_name, data_config, run_config, tokens_config
from medtrain.experts.work import Work, slots, work_of
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens import pipeline as tokens
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.shards import Samples
from medtrain.tracking import Progress
from medtrain.train import adapters, launch
from medtrain.train.command import EstimateConfig

KIND = "expert"


@dataclass(frozen=True)
class Inputs:
    """What a plan does not say."""

    reference: Callable[[Store, TokensConfig], str]
    """The model reference of a set of tokens."""
    shared: EstimateConfig | None = None
    """The device by whose memory runs share one; None gives each run its own."""


def train(root: Store, plan: Plan, cluster: RuntimeConfig, policy: Policy, inputs: Inputs) -> Artifact:
    """Train every expert of a plan that is not there yet, and put them together as library/<plan>.

    Each expert is a run of its own: killed with the rest it goes on from its own checkpoint, failing it stops no other.

    Args:
        root: the storage root.
        plan: what to train.
        cluster: workers and cores of *one* run.
        policy: what to do with what is there already; `again` trains every expert again.
        inputs: what the job knows beside the plan.

    Raises:
        ConfigError: a run is too short for its schedule; nothing was trained.
        TrainingError: experts failed; the message names them, the others are whole.
    """
    works, failed = _prepared(root, plan, Policy(policy.keep_stale), inputs)
    if inputs.shared is not None and works and runtime.wants_gpu(cluster):
        together = min(runs_together(root, item, inputs.shared) for item in works)
        cluster = cluster.model_copy(update={"gpus_per_worker": 1 / together})
    _train_all(root, works, cluster, policy, failed)
    if failed:
        lines = "".join(f"\n  {name}: {error}" for name, error in failed.items())
        raise TrainingError(
            f"library/{plan.name}: {len(failed)} of {len(plan.experts)} experts failed; the others are whole, and the "
            f"same command trains only what is missing:{lines}"
        )
    made = {name: artifacts.locate(root, KIND, artifact_name(plan, name)) for name in plan.experts}
    return library.assemble(root, plan, made, policy)


def _prepared(root: Store, plan: Plan, policy: Policy, inputs: Inputs) -> tuple[list[Work], dict[str, BaseException]]:
    """Data and tokens of every expert, and its run; experts without them are failures of their own.

    Raises:
        ConfigError: a run is too short for its schedule.
    """
    works: list[Work] = []
    failed: dict[str, BaseException] = {}
    bar = Progress("data and tokens", len(plan.experts), unit="expert")
    for name in plan.experts:
        try:
            data.build(root, data_config(plan, name), policy)
            settings = tokens_config(plan, name)
            made = tokens.build(root, settings, inputs.reference(root, settings), policy)
            works.append(work_of(made, run_config(plan, name), name))
        except MedtrainError as error:
            failed[name] = error
            print(f"{name} is left out: {error}", flush=True)
        bar.advance(note=name)
    for item in works:
        adapters.check_length(item.config.adapter, item.steps)
    return works, failed


def runs_together(root: Store, item: Work, asked: EstimateConfig) -> int:
    """How many runs like this one fit on a device, by the estimate; one where its memory is not given."""
    if asked.memory_gib is None:
        return 1
    from medtrain.train import estimate, footprint

    made = artifacts.locate(root, "tokens", item.config.tokens)
    samples = Samples.open(made)
    path = artifacts.model_path(root, str(made.facts["base"]))
    lengths = samples.lengths[samples.select("train", item.config.categories)]
    found = estimate.estimate(footprint.shape_of(path, item.config), item.config, lengths, 1, asked.device)
    return estimate.runs_per_device(found, asked.memory_gib)


def _train_all(
    root: Store, works: list[Work], cluster: RuntimeConfig, policy: Policy, failed: dict[str, BaseException]
) -> None:
    """Longest first, as many at once as there is room for; what fails is added to `failed`."""
    waiting = sorted(works, key=lambda item: (-item.tokens, item.expert))
    room = slots(ray.cluster_resources(), cluster, gpu=runtime.wants_gpu(cluster))
    print(
        f"{len(waiting)} experts, {room} at a time, longest first: {', '.join(w.expert for w in waiting)}", flush=True
    )
    bar = Progress("experts", sum(item.tokens for item in waiting), unit="token", every_s=0)
    with ThreadPoolExecutor(room, thread_name_prefix="expert") as pool:
        running: dict[Future[Artifact], Work] = {
            pool.submit(launch.run, root, KIND, item.config, cluster, policy): item for item in waiting
        }
        done = 0
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, error = running.pop(future), future.exception()
                if error is not None:
                    failed[item.expert] = error
                    if not isinstance(error, MedtrainError):
                        traceback.print_exception(error)  # not for the user to mend
                done += 1
                bar.advance(item.tokens, f"{done} of {len(works)}: {item.expert} {'failed' if error else 'is whole'}")
