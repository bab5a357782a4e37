"""A study on Ray Tune: a new `Tuner` each time, fed from the journal; nothing that Ray Tune writes is read again.

Ray Tune places the trials' processes and applies the scheduler. What a trial's end means is read from its folder, so
that a lost process, a lost node and a killed driver are alike: what is finished counts, the rest is handed out again.
"""

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from medtrain import runtime
from medtrain.errors import TrainingError
from medtrain.search import judging, trials
from medtrain.search.launch import TuneSearcher
from medtrain.search.live import Live
from medtrain.search.runner import HOW, STEP, RunnerConfig
from medtrain.search.settings import SchedulerConfig
from medtrain.search.study import Study
from medtrain.search.worker import COMMON, ORDER, TrialActor

STORAGE = "ray"
"""Ray Tune's own folder under the study's; deleted when it ends."""
FURTHEST = 10**9
"""No trial has so many steps."""
LOOK_S = 5.0
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the journal is what we go on from
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else it swallows Ctrl-C, and we would begin another Tuner
    "RAY_AIR_NEW_OUTPUT": "0",
}


class StudySearcher(TuneSearcher):
    """A study as Ray Tune asks for its trials.

    Args:
        study: the study.
        live: who shows what happens.
        needs: what one trial takes of the cluster, by Ray's names.
    """

    def __init__(self, study: Study, live: Live, needs: Mapping[str, float]):
        super().__init__(study.recorded, study.settings.metric)
        self._study, self._show, self._needs = study, live, needs
        self._out: dict[str, str] = {}
        self._looked, self._room = -math.inf, 0
        self.broken: Exception | None = None
        """Why the study cannot go on."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """A trial; None: ask later; FINISHED: no more."""
        if self.broken is not None:
            return None if self._out else str(self.FINISHED)
        if len(self._out) >= self._places():
            return None
        try:
            order = self._study.next()
        except Exception as error:
            self.broken = error
            return self.suggest(trial_id)
        self._show.told(self._study)
        if order is None:
            return str(self.FINISHED) if self._study.over else None
        self._out[trial_id] = order.number
        self._show.began(order)
        return {ORDER: order.model_dump_json()}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, was stopped early or is lost; its folder says which."""
        number = self._out.pop(trial_id, None)
        if number is None:
            return
        last = {} if error or result is None else result
        early = None if HOW in last else last.get(self._study.settings.metric)
        try:
            told = self._study.ended(number, early)
        except Exception as failure:  # raised here it would end Ray Tune's loop among trials that run
            self.broken = failure
            return
        self._show.ended(self._study, number, told, str(last.get("why", "")))

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is what a study goes on from."""
        Path(checkpoint_path).touch()

    def _places(self) -> int:
        """How many trials there may be at a time, as the cluster is now."""
        if time.monotonic() - self._looked > LOOK_S:
            self._looked, there = time.monotonic(), ray.cluster_resources()
            fits = min((there.get(name, 0) / much for name, much in self._needs.items() if much), default=math.inf)
            self._room = int(min(fits + 1e-9, self._study.settings.slots))
            self._show.room(self._room, self._needs, self._study.settings.slots)
        return min(self._room, self._limit or self._room)


class MedianRule(MedianStoppingRule):
    """Ray Tune's, for trials whose last result only says how they ended and that are not saved by Ray Tune."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Every value has come already."""

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        """Not to pause it for others that wait, which Ray Tune does by a checkpoint of its own."""
        return str(TrialScheduler.CONTINUE)


class Watch(tune.Callback):
    """Lets the live view speak while trials run."""

    def __init__(self, study: Study, live: Live):
        self._study, self._live = study, live

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called a few times a second."""
        self._live.tick(self._study)


def run(study: Study) -> None:
    """Run a study's trials on the connected cluster until a budget is spent, or go on with them.

    Raises:
        TrainingError: so many trials failed that the search cannot go on.
    """
    live = Live(study)
    while not study.over:
        known = len(study.told)
        searcher = _fit(study, live)
        for number in [order.number for order in study.running.values()]:
            live.ended(study, number, study.ended(number))  # Ray Tune gave up before they did
        if searcher.broken is not None:
            raise searcher.broken
        if not study.over and len(study.told) == known:
            raise TrainingError(
                f"study {study.settings.name}: no trial could be run; see the messages above, and go on with the same "
                "command"
            )
    study.tidy()
    live.close(study)


def judge(study: Study) -> str:
    """What the winner is worth beside the base config, in a process like a trial's; empty where its kind cannot say."""
    won = judging.winner(study)
    if won is None:
        return judging.silence(study)
    own, _, common = _resources(study)
    task = ray.remote(judging.judge).options(
        num_cpus=own.pop("cpu"), num_gpus=own.pop("gpu", 0), resources=own or None, max_retries=3
    )
    places, device = (study.root.root, study.store.root), (common.cpus, common.gpu)
    return str(ray.get(task.remote(study.settings.trial, places, device, won))["line"])


def _fit(study: Study, live: Live) -> StudySearcher:
    """One `Tuner`'s life."""
    os.environ.update(SETTINGS, TUNE_MAX_PENDING_TRIALS_PG=str(study.settings.slots))
    own, needs, common = _resources(study)
    searcher = StudySearcher(study, live, needs)
    study.store.delete(STORAGE)
    tuner = tune.Tuner(
        tune.with_resources(TrialActor, own),
        param_space={COMMON: common.model_dump(mode="json")},
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(study.settings.scheduler, study.settings.metric, study.settings.searching.mode),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_name,
            trial_name_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=f"{study.store.root}/{STORAGE}",
            verbose=0,
            callbacks=[Watch(study, live)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
        ),
    )
    # A lost trial is an error to Ray Tune, told with a traceback and again at the end; to us it is a line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    finally:
        study.store.delete(STORAGE)
    return searcher


def _resources(study: Study) -> tuple[dict[str, float], dict[str, float], RunnerConfig]:
    """What a trial's process takes, what the whole trial takes, and what its process is told."""
    cluster, settings = study.config.runtime, study.settings
    gpu = runtime.wants_gpu(cluster)
    inside = trials.takes(settings.trying, study.root, gpu)
    common = RunnerConfig(
        root=study.root.root,
        study=study.store.root,
        trial=settings.trial,
        metric=settings.metric,
        stepwise=settings.scheduler.kind != "none",
        cpus=0 if inside else cluster.cpus_per_worker,
        gpu=gpu and not inside,
        timeout_s=settings.timeout_s,
        tree=str(trials.tree()),
    )
    if inside:  # its process only waits for what it has started, from the project's tree, which this machine has
        return {"cpu": 0, f"node:{ray.util.get_node_ip_address()}": 0.001}, inside, common
    own = {"cpu": cluster.cpus_per_worker, **({"gpu": cluster.gpus_per_worker} if gpu else {})}
    return own, {name.upper(): much for name, much in own.items()}, common


def _scheduler(config: SchedulerConfig, metric: str, mode: str) -> TrialScheduler:
    """Ray Tune's scheduler."""
    if config.kind == "none":
        return FIFOScheduler()
    given = {"time_attr": STEP, "metric": metric, "mode": mode, "grace_period": config.grace}
    if config.kind == "median":
        return MedianRule(**given)
    return AsyncHyperBandScheduler(**given, max_t=FURTHEST, reduction_factor=config.reduction)


def _name(trial: Any) -> str:
    """Ray Tune's own name of a trial; its default one has the whole setting in it."""
    return str(trial.trial_id)
