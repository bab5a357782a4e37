"""Ray Tune's view of a search: the one place of this room that talks to Ray."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher as RaySearcher

from medtrain.errors import ConfigError, TrainingError
from medtrain.search.journal import Recorded

REPEAT = "search.repeat"
"""Beside the parameters in a trial's config where settings are tried again: how often this one was before."""


class TuneSearcher(RaySearcher):
    """A recorded search as Ray Tune asks for one.

    A trial that ends with an error, without the metric, or with a value that is no finite number has failed. One whose
    `full` metric is below its value was stopped early. `suggest` returns None where trials that run must end first.

    Args:
        search: the search.
        metric: the result that counts, `a/b` inside of others.
        full: a metric of the result, such as `training_iteration`, and the value of a trial that was not stopped early.
    """

    def __init__(self, search: Recorded, metric: str, full: tuple[str, float] | None = None):
        super().__init__(metric=metric, mode=search.search.config.mode)
        self._search, self._full = search, full
        self._limit: int | None = None
        self._live: dict[str, int] = {}

    @property
    def search(self) -> Recorded:
        """The search."""
        return self._search

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Take Ray Tune's metric and mode, which must be this search's; its own `param_space` holds fixed keys only.

        Raises:
            ConfigError: it asks for another metric, another mode, or for a parameter of the space.
        """
        for name, theirs, own in (("metric", metric, self._metric), ("mode", mode, self._mode)):
            if theirs is not None and theirs != own:
                raise ConfigError(f"tune_config.{name}={theirs}: the search has {name}={own}; leave it out")
        both = sorted(config.keys() & self._search.space.parameters.keys())
        if both:
            raise ConfigError(f"param_space: {both[0]} is in the search space; take it out of one of them")
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """So many trials at once; it may change at any time."""
        self._limit = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The trial's parameters by dotted name; None: ask later; FINISHED: no more."""
        if trial_id in self._live:
            raise ValueError(f"trial {trial_id}: has its parameters already")
        if self._limit is not None and len(self._live) >= self._limit:
            return None
        made = self._search.ask()
        if made is None:
            return str(RaySearcher.FINISHED) if self._search.search.finished else None
        self._live[trial_id] = made.id
        repeats = {REPEAT: made.repeat} if self._search.search.config.reevaluate else {}
        return {**made.values, **repeats}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """How a trial ended; one that is not of this search is left unread.

        Raises:
            TrainingError: so many trials failed that the search cannot go on.
        """
        id = self._live.pop(trial_id, None)
        if id is None:
            return
        value = None if error else _found(result or {}, self._metric)
        if value is None:
            self._search.tell(id, "failed")
        elif self._full is not None and (_found(result or {}, self._full[0]) or 0.0) < self._full[1]:
            self._search.tell(id, "pruned", value)
        else:
            self._search.tell(id, "done", value)

    def lost(self, trial_id: str) -> None:
        """A trial went with its node: its parameters are suggested again."""
        id = self._live.pop(trial_id, None)
        if id is not None:
            self._search.tell(id, "lost")

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """A trial of another search; a pruned one counts by `pruned` of the searcher."""
        values = {name: at for name, at in parameters.items() if name in self._search.space.parameters}
        self._search.add(values, "failed" if error else "pruned" if pruned else "done", value)

    def save(self, checkpoint_path: str) -> None:
        """Write the journal as JSON, whatever Ray calls the file."""
        path = Path(checkpoint_path)
        state = {"events": self._search.events, "live": self._live}
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
        beside.replace(path)

    def restore(self, checkpoint_path: str) -> None:
        """Go on from a file that `save` wrote, with the trials that ran then.

        Raises:
            IdentityMismatch: it is of another search.
            TrainingError: it is no such file.
        """
        try:
            state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"searcher state {checkpoint_path}: {error}; begin anew without it") from None
        again = self._search.anew()
        again.replay(state["events"])
        self._search, self._live = again, dict(state["live"])


def _found(result: Mapping[str, Any], metric: str) -> float | None:
    """A metric, flat or nested, as a number."""
    found: Any = result.get(metric)
    if found is None:
        found = result
        for key in metric.split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None
