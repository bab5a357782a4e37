"""How much each parameter decides whether a trial is among the good ones: Optuna's PED-ANOVA (arXiv:2304.10255).

It compares where the best trials lie with where all of them do, so that it asks for no model of the values and a trial
that diverged weighs no more than one that was merely bad. fANOVA would need scikit-learn.
"""

import importlib.util
import warnings
from collections.abc import Sequence

from medtrain.search.searchers.optuna import distributions, parameters
from medtrain.search.space import Space, Values

FEWEST, BEST_SHARE, FEWEST_BEST = 10, 0.1, 5
"""So many trials at least; the share of them that counts as good, and how many these are at least."""


def is_installed() -> bool:
    """Whether Optuna is there to be asked."""
    return importlib.util.find_spec("optuna") is not None


def importance(space: Space, tried: Sequence[tuple[Values, float]], mode: str) -> list[tuple[str, float]]:
    """Each varying parameter's share of 1, the most important first; empty where there are too few trials.

    Args:
        space: what varied.
        tried: settings and values of trials that ended well.
        mode: whether low (min) or high (max) values are good.

    Raises:
        ImportError: Optuna is not installed.
    """
    import optuna

    if len(tried) < FEWEST:
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = distributions(space)
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    made = [
        optuna.trial.create_trial(params=parameters(space, values), distributions=known, value=value)
        for values, value in tried
    ]
    study.add_trials(made)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=max(BEST_SHARE, FEWEST_BEST / len(tried)), evaluate_on_local=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental in Optuna is not the user's choice here
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(known))
    return sorted(((str(name), float(share)) for name, share in found.items()), key=lambda pair: -pair[1])
