"""Optuna's samplers, where Optuna is installed (`pip install medtrain[search]`).

Whole numbers, steps, logarithms and choices are Optuna's own; its CMA-ES draws choices at random. It waits for nobody:
what it knows when it is asked decides.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from medtrain.errors import ConfigError
from medtrain.search.searcher import Searcher, SearcherConfig
from medtrain.search.space import Choices, Fixed, Parameter, Space, Values


class Config(SearcherConfig):
    """Settings of Optuna."""

    kind: Literal["optuna"] = "optuna"
    """This searcher's name."""
    sampler: Literal["tpe", "cmaes"] = "tpe"
    """Optuna's sampler."""
    startup: int = Field(1, ge=1)
    """So many trials are drawn at random before it samples."""


class Search(Searcher):
    """Optuna's study in memory, with one fixed space.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, config: Config, space: Space, base: Mapping[str, Any]):
        super().__init__(config, space, base)
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(
                f"searcher.kind=optuna: {error}; pip install 'medtrain[search]', or take searcher.kind: cmaes"
            ) from None
        self._optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = distributions(space)
        direction = "minimize" if config.mode == "min" else "maximize"
        self._study = optuna.create_study(sampler=self._sampler(config), direction=direction)
        self._trials: dict[int, Any] = {}

    def _sampler(self, config: Config) -> Any:
        samplers = self._optuna.samplers
        if config.sampler == "tpe":
            return samplers.TPESampler(seed=config.seed, n_startup_trials=config.startup)
        return samplers.CmaEsSampler(seed=config.seed, n_startup_trials=config.startup, warn_independent_sampling=False)

    def _suggest(self, id: int) -> Values:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is experimental in Optuna is not the user's choice here
            trial = self._study.ask(self._distributions)
        self._trials[id] = trial
        return self._values(trial.params)

    def _learn(self, id: int, value: float | None) -> None:
        state = self._optuna.trial.TrialState
        if value is None:
            self._study.tell(self._trials.pop(id), state=state.FAIL)
        else:
            self._study.tell(self._trials.pop(id), value)

    def _learn_other(self, point: tuple[float, ...], value: float | None) -> None:
        if value is None:
            return
        params = parameters(self.space, self.space.values(point))
        made = self._optuna.trial.create_trial(params=params, distributions=self._distributions, value=value)
        self._study.add_trial(made)

    def _values(self, params: Mapping[str, Any]) -> Values:
        found: Values = {}
        for name, parameter in self.space.parameters.items():
            if isinstance(parameter, Fixed):
                found[name] = parameter.fixed
            elif isinstance(parameter, Choices):
                found[name] = parameter.choices[params[name]]
            else:
                found[name] = params[name]
        return found


def distributions(space: Space) -> dict[str, Any]:
    """A space's varying parameters as Optuna's distributions; of choices, their numbers."""
    from optuna import distributions as kinds

    return {n: _distribution(kinds, p) for n, p in space.parameters.items() if not isinstance(p, Fixed)}


def parameters(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """A setting as Optuna's, in `distributions`."""
    found: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choices):
            found[name] = parameter.number(values[name])
        elif not isinstance(parameter, Fixed):
            found[name] = values[name]
    return found


def _distribution(kinds: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choices):
        return kinds.CategoricalDistribution(list(range(len(parameter.choices))))
    assert not isinstance(parameter, Fixed)
    if parameter.int:
        step = 1 if parameter.step is None else int(parameter.step)
        return kinds.IntDistribution(int(parameter.low), int(parameter.high), parameter.log, step)
    return kinds.FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
