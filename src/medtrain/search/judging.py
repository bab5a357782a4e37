"""What a study's winner is worth beside its base config, where its kind of trial can tell; kept in `verdict.json`.

The base config's own trial lies in `studies/<name>/verdict/`, and is gone on with from there.
"""

import json
from typing import Any

from medtrain import plugins
from medtrain.search import trials
from medtrain.search.space import assignments
from medtrain.search.study import Study
from medtrain.search.told import Told
from medtrain.search.trial import FILES, KIND
from medtrain.storage import Store

FILE, FOLDER = "verdict.json", "verdict"


def winner(study: Study) -> Told | None:
    """A trial of the study's best setting, to be judged; None where there is none, or its kind has no `judge`."""
    if study.best is None or not _judges(study):
        return None
    tries = [told for told in study.tries(study.best.values) if told.value is not None]
    return min(tries, key=lambda told: told.outcome != "done", default=None)  # one stopped early is gone on with


def silence(study: Study) -> str:
    """Why nothing can be said of the best setting, though its kind of trial could; empty where something can."""
    if study.best is None or not _judges(study) or winner(study) is not None:
        return ""
    return (
        f"whether this is better than the default is open: the best setting is of a study in study.earlier="
        f"{','.join(study.settings.earlier)}, and none of this study's own was as good"
    )


def _judges(study: Study) -> bool:
    return hasattr(plugins.load("search", "trials", str(study.settings.trial["kind"])).Trials, "judge")


def judge(given: dict[str, Any], places: tuple[str, str], device: tuple[float, bool], won: Told) -> dict[str, Any]:
    """Judge a winner in this process, or read back what was found of this one.

    Args:
        given: the kind of trial and its settings.
        places: the storage root and the study's folder.
        device: cores of this process, and whether it has a GPU.
        won: the winner.

    Returns:
        What its kind has found, `line` for people among it, and `trial`, the winner's number.
    """
    root, study = (Store(place) for place in places)
    known = read(study)
    if known is not None and known["trial"] == won.number:
        return known
    judging: Any = trials.make(trials.validate(given), root, *device)
    own = study.sub(f"{KIND}/{won.number}/{FILES}")
    facts = {"trial": won.number, **judging.judge(study.sub(FOLDER), assignments(won.values), own)}
    study.write(FILE, json.dumps(facts, indent=1).encode())
    return facts


def read(study: Store) -> dict[str, Any] | None:
    """What was found; None where nothing was, or it was cut while it was written."""
    if not study.exists(FILE):
        return None
    try:
        found: dict[str, Any] = json.loads(study.read(FILE))
    except ValueError:
        return None
    return found


def line(study: Store) -> str:
    """What was found, in words; empty where nothing was."""
    found = read(study)
    return str(found["line"]) if found else ""
