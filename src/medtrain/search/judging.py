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
    """The trial to judge; None where there is none, or its kind has no `judge`."""
    kind = plugins.load("search", "trials", str(study.settings.trial["kind"]))
    done = [told for told in study.told if told.outcome == "done" and told.value is not None]
    if not done or not hasattr(kind.Trials, "judge"):
        return None
    sign = 1.0 if study.settings.searching.mode == "min" else -1.0
    return min(done, key=lambda told: sign * (told.value or 0.0))


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
