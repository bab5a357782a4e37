"""Which tasks are fitted in which ways: one YAML for the table of a paper, one router for each of its cells."""

from typing import Any

from pydantic import Field, model_validator

from medtrain.config import Config, parse
from medtrain.errors import ConfigError
from medtrain.router.settings import FitConfig
from medtrain.train.recipe import under


class TaskConfig(Config):
    """One task. With nothing set it is that of the library's expert of its name."""

    tokens: str | None = None
    """Its token artifact; null is the expert's, <library>-<task>."""
    own: str | None = None
    """The expert that was trained for it; null is the one of its name, or none where `tokens` is given."""
    fit: dict[str, Any] = Field(default_factory=dict)
    """Settings of its fits that differ from the plan's and the variant's."""


class RoutingPlan(Config):
    """Tasks times variants; each is fitted to router/<plan>-<task>-<variant>."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The plan's name, and how the names of its routers begin."""
    library: str
    """The library artifact whose experts are weighed."""
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    """The tasks by name."""
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    """Settings of a fit by the variant's name: method, rows, experts, router; those of `router/settings.py`."""
    fit: dict[str, Any] = Field(default_factory=dict)
    """Settings of every fit."""

    @model_validator(mode="after")
    def _fits_are_whole(self) -> "RoutingPlan":
        for task in self.tasks:
            for variant in self.variants:
                try:
                    fit_config(self, task, variant)
                except ConfigError as error:
                    raise ValueError(f"task {task}, variant {variant}: {error}") from None
        return self


def fit_config(plan: RoutingPlan, task: str, variant: str) -> FitConfig:
    """One cell of the table: the task's settings, else the variant's, else the plan's.

    Raises:
        ConfigError: a setting is wrong.
    """
    given = plan.tasks[task]
    is_expert = given.tokens is None
    named = {
        "name": f"{plan.name}-{task}-{variant}",
        "library": plan.library,
        "tokens": f"{plan.library}-{task}" if is_expert else given.tokens,
        "own": given.own or (task if is_expert else None),
    }
    settings = under(given.fit, under(plan.variants[variant], plan.fit))
    if clash := sorted(named.keys() & settings.keys()):
        raise ConfigError(f"{clash[0]}={settings[clash[0]]!r}: the plan and its task say that; leave it out here")
    return parse(FitConfig, {**settings, **named})


def fits(plan: RoutingPlan) -> dict[tuple[str, str], FitConfig]:
    """Every fit by (task, variant), task after task."""
    return {(task, variant): fit_config(plan, task, variant) for task in plan.tasks for variant in plan.variants}
