"""A plan to a library: data and tokens of every expert, then as many runs at once as the cluster has room for."""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medtrain import artifacts, runtime
from medtrain.artifacts import Artifact, Build, Policy
from medtrain.data import pipeline as data
from medtrain.errors import ConfigError, MedtrainError, TrainingError
from medtrain.experts import library
from medtrain.experts.plan import Plan, artifact_name, data_config, run_config, tokens_config
from medtrain.experts.work import Work, check_shared, longest_first, reserved, slots, work_of
from medtrain.experts.worker import Device, Queue
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens import pipeline as tokens
from medtrain.tokens.config import TokensConfig
from medtrain.tokens.shards import Samples
from medtrain.tracking import Progress
from medtrain.train import adapters, launch
from medtrain.train.command import EstimateConfig
from medtrain.train.memory.launch import this_node
from medtrain.train.payload import Payload

KIND, LOOK_S = "expert", 1.0


@dataclass(frozen=True)
class Inputs:
    """What a plan does not say."""

    reference: Callable[[Store, TokensConfig], str]
    """The model reference of a set of tokens."""
    shared: EstimateConfig | None = None
    """The device by whose memory runs share one; None gives each run its own."""
    lanes: int | None = None
    """How many experts train together over one base on each device; None gives each an engine of its own."""


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
        ConfigError: a run is too short for its schedule, or lanes are to be on several workers; nothing was trained.
        TrainingError: experts failed; the message names them, the others are whole.
    """
    if inputs.lanes is not None and cluster.workers > 1:
        raise ConfigError(
            f"lanes={inputs.lanes} with runtime.workers={cluster.workers}: a base that experts share sits on one "
            "device; set runtime.workers: 1, or lanes: null"
        )
    works, failed = _prepared(root, plan, Policy(policy.keep_stale), inputs)
    if inputs.shared is not None and works and runtime.wants_gpu(cluster):
        together = min(runs_together(root, item, inputs.shared) for item in works)
        cluster = cluster.model_copy(update={"gpus_per_worker": 1 / together})
    if inputs.lanes is None:
        _train_apart(root, works, cluster, policy, failed)
    else:
        _train_together(root, works, cluster, policy, failed, inputs.lanes)
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


def _train_apart(
    root: Store, works: list[Work], cluster: RuntimeConfig, policy: Policy, failed: dict[str, BaseException]
) -> None:
    """Longest first, as many at once as there is room for; what fails is added to `failed`."""
    waiting = longest_first(works)
    room = slots(ray.cluster_resources(), cluster, gpu=runtime.wants_gpu(cluster))
    print(f"{len(waiting)} experts, {room} at a time: {', '.join(w.expert for w in waiting)}", flush=True)
    bar = Progress("experts", sum(item.tokens for item in waiting), unit="token", every_s=0)
    with ThreadPoolExecutor(room, thread_name_prefix="expert") as pool:
        running: dict[Future[Artifact], Work] = {
            pool.submit(launch.run, root, KIND, item.config, cluster, policy): item for item in waiting
        }
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, error = running.pop(future), future.exception()
                if error is not None:
                    failed[item.expert] = error
                    if not isinstance(error, MedtrainError):
                        traceback.print_exception(error)  # not for the user to mend
                bar.advance(item.tokens, f"{item.expert} {'failed' if error else 'is whole'}")


def _train_together(
    root: Store, works: list[Work], cluster: RuntimeConfig, policy: Policy, failed: dict[str, BaseException], lanes: int
) -> None:
    """On each device several over one base, longest first; a lost device's runs go on elsewhere."""
    builds: dict[str, tuple[str, Build, Payload]] = {}
    for item in longest_first(works):
        try:
            prepared = launch.prepare(root, KIND, item.config, cluster, policy)
        except MedtrainError as error:
            failed[item.expert] = error
            print(f"{item.expert} is left out: {error}", flush=True)
            continue
        if not isinstance(prepared, Artifact):
            builds[prepared[1].run] = (item.expert, *prepared)
    jobs = [payload for _, _, payload in builds.values()]
    check_shared(jobs)
    sizes = {item.expert: item.tokens for item in works}
    tokens = [sizes[name] for name, _, _ in builds.values()]
    bar = Progress("experts", sum(tokens), unit="token", every_s=0)
    for run, why in Devices(cluster, jobs, tokens, lanes).ended():
        name, build, payload = builds[run]
        if why:
            failed[name] = TrainingError(why)
        else:
            launch.finish(build, payload)
        bar.advance(sizes[name], f"{name} {'failed' if why else 'is whole'}")


class Devices:
    """The devices of a cluster, each a process that trains runs of one queue.

    Args:
        cluster: cores of a device, and how many lost ones are replaced.
        jobs: the runs in their order.
        tokens: what each of them takes.
        lanes: how many train together on one device.
    """

    def __init__(self, cluster: RuntimeConfig, jobs: list[Payload], tokens: list[int], lanes: int):
        self._cluster, self._lanes, self._left = cluster, lanes, len(jobs)
        self._failures, self._why = 0, ""
        self._gpu = runtime.wants_gpu(cluster)
        count = min(slots(ray.cluster_resources(), cluster, gpu=self._gpu), len(jobs))
        contents = [job.model_dump(mode="json") for job in jobs]
        here = NodeAffinitySchedulingStrategy(this_node(), soft=False)  # a lost node must not take the queue with it
        queue = ray.remote(num_cpus=0)(Queue).options(scheduling_strategy=here)
        self._queue = queue.remote(contents, tokens, count, lanes)
        self._running: dict[Any, tuple[int, Any]] = {}
        for number in range(count):
            self._start(number)
        print(f"{len(jobs)} experts, {len(self._running)} device(s), {lanes} at a time on each", flush=True)

    def _start(self, number: int) -> None:
        wanted = reserved(self._cluster, gpu=self._gpu)
        actor = ray.remote(Device).options(**wanted).remote(number, self._cluster.cpus_per_worker, self._gpu)
        self._running[actor.train.remote(self._queue, self._lanes)] = (number, actor)

    def ended(self) -> Iterator[tuple[str, str]]:
        """Runs with what went wrong, or nothing, as they end; all of them, once.

        A device that the cluster has no room for is never waited for, as long as others train.
        """
        try:
            while self._running and self._left:
                done, _ = ray.wait(list(self._running), timeout=LOOK_S)
                for ref in done:
                    number, actor = self._running.pop(ref)
                    self._look_after(number, actor, ref)
                yield from self._told()
            if self._left:
                ray.get(self._queue.give_up.remote(self._why))
                yield from self._told()
        finally:
            for _, actor in self._running.values():
                ray.kill(actor)

    def _told(self) -> list[tuple[str, str]]:
        ended: list[tuple[str, str]] = ray.get(self._queue.ended.remote())
        self._left -= len(ended)
        return ended

    def _look_after(self, number: int, actor: Any, ref: Any) -> None:
        """What becomes of a device that has stopped: nothing left to do, or lost and replaced."""
        try:
            ray.get(ref)
        except RayError as error:
            lost = ray.get(self._queue.give_back.remote(number))
            self._failures += 1
            limit = self._cluster.max_failures
            self._why = (
                f"runtime.max_failures={limit}: devices were lost {self._failures} times; run again, every run goes "
                f"on from its last checkpoint. The last loss: {error}"
            )
            print(f"device {number} was lost with {lost} run(s): {error}", flush=True)
            if limit < 0 or self._failures <= limit:
                self._start(number)
        ray.kill(actor)
