"""What a study will do, before it does, and what it has found."""

import math

from medtrain.errors import MissingArtifact
from medtrain.search import trial, trials
from medtrain.search.bill import bill
from medtrain.search.settings import StudyConfig
from medtrain.search.space import Choices, Fixed, Parameter, Space, assignments, look_up
from medtrain.search.study import Study, folder
from medtrain.search.told import read
from medtrain.storage import Store


def plan(root: Store, config: StudyConfig) -> str:
    """The space, the first setting, the population, the number of trials, and an estimate."""
    settings, space = config.study, Space(config.study.space)
    base = trials.base(settings.trying, root)
    lines = [f"study {settings.name}: {settings.trial['kind']} trials, {settings.metric} is to be {_good(config)}"]
    lines += [f"  {name}: {_shown(item)}; base {look_up(base, name)!r}" for name, item in space.parameters.items()]
    d = len(space.coordinates)
    population = settings.searcher.get("population") or 4 + int(3 * math.log(d))
    of = f", populations of {population}" if settings.searcher["kind"] == "cmaes" else ""
    lines.append(f"searcher {settings.searcher['kind']}: {d} coordinates{of}; scheduler {settings.scheduler.kind}")
    budget = settings.budget.model_dump()
    limits = [f"{name} {budget[name]:g}" for name in ("trials", "hours", "cost") if budget[name] is not None]
    lines.append(f"budget: {', '.join(limits) or 'none: it ends with the search'}; {settings.slots} trials at a time")
    lines.append(_time(root, config))
    try:
        lines.append(trials.estimate(settings.trying, root))
    except MissingArtifact as missing:
        lines.append(f"one trial: unknown until its input exists: {missing}")
    return "\n".join(line for line in lines if line)


def winner(study: Study) -> str:
    """The best setting, as a command line."""
    found, settings = study.best, study.settings
    if found is None:
        return f"study {settings.name}: no trial gave {settings.metric}"
    recommended = study.recorded.search.recommended or found.values
    tried = f" (mean of {found.tries})" if found.tries > 1 else ""
    lines = [f"best {settings.metric} {found.value:.6g}{tried}: {' '.join(assignments(found.values))}"]
    lines.append(study.command(found.values))
    if recommended != found.values:
        lines += ["the search itself, whose values are noisy, recommends:", study.command(recommended)]
    return "\n".join(lines)


def _good(config: StudyConfig) -> str:
    return "low" if config.study.searching.mode == "min" else "high"


def _shown(item: Parameter) -> str:
    if isinstance(item, Fixed):
        return f"always {item.fixed!r}"
    if isinstance(item, Choices):
        return f"one of {list(item.choices)}"
    kind = "whole numbers " if item.int else ""
    step = "" if item.step is None else f", each {item.step:g}"
    return f"{kind}{item.low:g} to {item.high:g}{', logarithmic' if item.log else ''}{step}"


def _time(root: Store, config: StudyConfig) -> str:
    """How long it will take, by the trials there are."""
    store = folder(root, config.study.name)
    told = read(store)
    if not told:
        return "time: known once trials have run"
    found = bill(config.study, told, {number: trial.attempts(store, number) for number in store.folders(trial.KIND)})
    trials = "" if found.forecast is None else f"to go: {found.forecast.trials - len(told)} trials; "
    return f"{trials}{found.line}"
