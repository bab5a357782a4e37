"""A plan's fits over Ray: devices that hold base, experts and examples are sent weights and send back losses.

The only file of the room that knows Ray. What a device is asked is a function of the weights alone and never of how
many devices there are, so that values are the same to the last bit on one and on many.
"""

import traceback
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayTaskError

from medtrain import runtime
from medtrain.artifacts import Artifact, Policy
from medtrain.errors import MedtrainError, TrainingError
from medtrain.router import fit, plan
from medtrain.router.gate import Array
from medtrain.router.inputs import Part
from medtrain.router.objective import Evaluator, Rows
from medtrain.router.plan import RoutingPlan
from medtrain.router.settings import FitConfig
from medtrain.router.worker import Device, Task
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tracking import Progress
from medtrain.train import exhausted


def run(root: Store, planned: RoutingPlan, cluster: RuntimeConfig, policy: Policy) -> list[Artifact]:
    """Fit every cell of a plan that is not there yet, one after the other, each on all devices; in the plan's order.

    Raises:
        TrainingError: fits failed; the message names them, the others are whole.
    """
    made: list[Artifact] = []
    failed: dict[str, Exception] = {}
    pool, fits = Pool(cluster), plan.fits(planned)
    bar = Progress("fits", len(fits), unit="fit", every_s=0)
    try:
        for config in fits.values():
            try:
                made.append(fit.run(root, config, policy, partial(spread, pool, root)))
            except Exception as error:
                failed[config.name] = error
                if not isinstance(error, MedtrainError):
                    traceback.print_exception(error)  # not for the user to mend
                print(f"router/{config.name} failed: {error}", flush=True)
            bar.advance(note=f"{config.name} {'failed' if config.name in failed else 'is whole'}")
    finally:
        pool.close()
    if failed:
        lines = "".join(f"\n  {name}: {error}" for name, error in failed.items())
        raise TrainingError(
            f"{len(failed)} of {len(failed) + len(made)} fits failed; the others are whole, and the same command "
            f"makes only what is missing:{lines}"
        )
    return made


def spread(pool: "Pool", root: Store, config: FitConfig, part: Part) -> Evaluator:
    """A fit's rows, on the devices of a pool."""
    return Spread(pool, Task(root=root.root, fit=config, part=part))


class Spread:
    """An `Evaluator` whose groups and micro-batches are shared out; only numbers travel."""

    def __init__(self, pool: "Pool", task: Task):
        self._pool, self._task = pool, task.model_dump(mode="json")

    def losses(self, groups: Sequence[Array]) -> list[list[float]]:
        """The summed losses of each group's candidates."""
        return self._pool.ask("losses", [(self._task, group) for group in groups])

    def gradients(self, weights: Array, batches: Sequence[Rows]) -> list[tuple[float, Array]]:
        """The summed loss of each micro-batch and its gradient."""
        return self._pool.ask("gradient", [(self._task, weights, rows) for rows in batches])


class Pool:
    """Devices that questions are shared out among; a lost one is replaced, and its question is asked again.

    They are started when the first question comes, and asked as soon as they are there: one that the cluster has no
    room for is never waited for.

    Args:
        cluster: how many devices, the cores of each, and how many losses are too many.
    """

    def __init__(self, cluster: RuntimeConfig):
        self._cluster, self._losses = cluster, 0
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        """Reference -> device, and the number of the question; None where nobody waits for the answer."""

    def ask(self, method: str, questions: Sequence[tuple[Any, ...]]) -> list[Any]:
        """A method's answers to some arguments, in their order.

        Raises:
            TrainingError: devices were lost too often.
            MedtrainError: what a device raised about the user's settings or artifacts.
        """
        while len(self._idle) + len(self._busy) < self._cluster.workers:
            self._start()
        waiting, found = deque(range(len(questions))), dict[int, Any]()
        try:
            while len(found) < len(questions):
                while waiting and self._idle:
                    number, device = waiting.popleft(), self._idle.pop()
                    self._busy[getattr(device, method).remote(*questions[number])] = device, number
                (done,), _ = ray.wait(list(self._busy), num_returns=1)
                device, asked = self._busy.pop(done)
                try:
                    answer = _answer(done)
                except runtime.lost() as error:
                    if asked is not None:
                        waiting.appendleft(asked)
                    self._replace(device, error)
                    continue
                self._idle.append(device)
                if asked is not None:
                    if isinstance(answer, Exception):
                        raise answer
                    found[asked] = answer
        finally:
            self._busy = {reference: (device, None) for reference, (device, _) in self._busy.items()}
        return [found[number] for number in range(len(questions))]

    def close(self) -> None:
        """End the devices."""
        for device in [*self._idle, *(device for device, _ in self._busy.values())]:
            ray.kill(device)
        self._idle, self._busy = [], {}

    def _start(self) -> None:
        gpu, cores = runtime.wants_gpu(self._cluster), self._cluster.cpus_per_worker
        share = self._cluster.gpus_per_worker if gpu else 0
        device = ray.remote(num_cpus=cores, num_gpus=share)(Device).remote(cores, gpu)
        self._busy[device.ready.remote()] = device, None

    def _replace(self, device: Any, error: Exception) -> None:
        self._losses += 1
        ray.kill(device)
        print(f"a device was lost ({self._losses} so far): {str(error).splitlines()[0]}", flush=True)
        if 0 <= self._cluster.max_failures < self._losses:
            raise TrainingError(
                f"runtime.max_failures={self._cluster.max_failures}: devices were lost {self._losses} times; most "
                "often memory runs out: lower passes.candidates_per_pass or passes.micro_tokens. Run again, a fit goes "
                f"on from its last state. The last loss: {error}"
            ) from error
        self._start()


def _answer(reference: Any) -> Any:
    """What a device returned, or the exception that it raised."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if exhausted.is_exhausted(error.cause):
            return TrainingError(
                "out of memory: lower passes.candidates_per_pass or passes.micro_tokens (not below the longest row). "
                f"The device said: {error.cause}"
            )
        return error.cause if isinstance(error.cause, MedtrainError) else error
