"""The config of a study: what is tried, how it is searched, and when there has been enough."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from medtrain.config import Config, knob
from medtrain.errors import ConfigError
from medtrain.runtime import RuntimeConfig
from medtrain.search import searchers, trials
from medtrain.search.searcher import SearcherConfig
from medtrain.search.space import Space
from medtrain.search.trials import TrialConfig
from medtrain.storage import StorageConfig

TRIALS = 24
"""The budget of a study that names none."""


class SchedulerConfig(Config):
    """Which trials are stopped early for others' sake; Ray Tune's own rules."""

    kind: Literal["none", "asha", "median"] = knob("none")
    """none lets each trial end; asha (arXiv:1810.05934) stops all but the best of those that came as far; median stops
    what is worse than the median of the others' means so far."""
    grace: int = knob(1, ge=1)
    """Steps that every trial gets, as its kind counts them."""
    reduction: int = knob(3, ge=2)
    """asha: one of so many goes on at each rung, and a rung is so many times as far as the one before."""


def _most(given: dict[str, Any]) -> int | None:
    """The default of `budget.trials`, beside the limits that were given."""
    return TRIALS if given.get("hours") is None and given.get("cost") is None else None


class BudgetConfig(Config):
    """When there has been enough; what is met first counts, null never does."""

    hours: float | None = knob(None, gt=0)
    """Hours in which trials ran, all submissions of the study together."""
    cost: float | None = knob(None, gt=0)
    """Money, in `price.currency`."""
    trials: int | None = knob(default_factory=_most, ge=1)
    """Trials with an outcome, early-stopped and failed ones among them; 24 where neither hours nor cost are given."""


class PriceConfig(Config):
    """What machines cost."""

    per_slot_hour: float | None = knob(None, gt=0)
    """Of one trial running for an hour; null shows no costs."""
    currency: str = knob("USD")
    """The unit of money."""


class StudySettings(Config):
    """One study, under `studies/<name>`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The study's name; another search of another space wants another one."""
    trial: dict[str, Any]
    """What is tried, by `kind`; its settings are those of search/trials/<kind>.py."""
    space: dict[str, Any]
    """What varies, by dotted name in the trial's base config: {low, high[, log][, int][, step]}, {choices}, {fixed}."""
    searcher: dict[str, Any] = Field(default_factory=lambda: {"kind": searchers.DEFAULT})
    """How settings are chosen, by `kind`; its settings are those of search/searchers/<kind>.py."""
    metric: str
    """The number of a trial's result that counts; `searcher.mode` says whether low or high is good."""
    scheduler: SchedulerConfig = SchedulerConfig()
    slots: int = knob(2, ge=1)
    """Trials at a time; it may differ between submissions."""
    timeout_s: float | None = knob(None, gt=0)
    """A trial that takes longer has failed."""
    budget: BudgetConfig = BudgetConfig()
    price: PriceConfig = PriceConfig()
    keep: int = knob(1, ge=0)
    """How many of the best trials keep their checkpoints and adapters; of the others the numbers stay."""
    earlier: tuple[str, ...] = ()
    """Studies in the same space whose trials this one begins with."""

    @field_validator("trial")
    @classmethod
    def _whole_trial(cls, trial: dict[str, Any]) -> dict[str, Any]:
        try:
            return trials.validate(trial).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("searcher")
    @classmethod
    def _whole_searcher(cls, searcher: dict[str, Any]) -> dict[str, Any]:
        try:
            return searchers.validate(searcher).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("space")
    @classmethod
    def _is_a_space(cls, space: dict[str, Any]) -> dict[str, Any]:
        try:
            Space(space)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return space

    @model_validator(mode="after")
    def _parts_go_together(self) -> "StudySettings":
        if self.searching.reevaluate and self.trying.seed is None:
            raise ValueError(
                f"searcher.reevaluate={self.searching.reevaluate}: the same setting with the same seed gives the same "
                "value again; name the base config's seed in trial.seed, or leave reevaluate out"
            )
        if self.trying.seed is not None and self.trying.seed in self.space:
            raise ValueError(f"trial.seed={self.trying.seed}: it is in the space; take it out of one of them")
        if self.budget.cost is not None and self.price.per_slot_hour is None:
            raise ValueError("budget.cost: without a price nothing costs; set price.per_slot_hour, or leave it out")
        if self.scheduler.kind != "none" and trials.is_partial(self.trying) and self.searching.pruned != "failed":
            raise ValueError(
                f"scheduler.kind={self.scheduler.kind}: the last value of a {self.trying.kind} trial that is stopped "
                "early is of a part of its work, not to be compared with a whole trial's; set searcher.pruned=failed, "
                "or scheduler.kind=none"
            )
        return self

    @property
    def searching(self) -> SearcherConfig:
        """The searcher's own config."""
        return searchers.validate(self.searcher)

    @property
    def trying(self) -> TrialConfig:
        """The trial's own config."""
        return trials.validate(self.trial)


class StudyConfig(Config):
    """A study on a cluster."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """What a trial's process reserves, and how often a trial may be lost (`max_failures`) before it has failed."""
    study: StudySettings
