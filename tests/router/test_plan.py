"""Tasks times variants: what each cell is made from, and what is refused."""

from typing import Any

import pytest

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.router.plan import RoutingPlan, fits

CONTENT: dict[str, Any] = {
    "name": "p",
    "library": "lib",
    "fit": {"seed": 5, "router": {"tau": 0.5, "gamma1": 0.1}},
    "tasks": {
        "ner": {},
        "icd": {"tokens": "icd-tokens", "fit": {"router": {"gamma1": 0.3}, "split": "dev"}},
        "other": {"tokens": "t", "own": "ner"},
    },
    "variants": {
        "normal": {"method": {"kind": "gradient"}, "router": {"gamma1": 0.2}},
        "few": {"split": "train", "shots": 8, "method": {"kind": "cmaes"}},
    },
}


def test_a_cell_takes_the_tasks_settings_else_the_variants_else_the_plans() -> None:
    found = fits(parse(RoutingPlan, CONTENT))
    assert [config.name for config in found.values()] == [
        f"p-{task}-{variant}" for task in ("ner", "icd", "other") for variant in ("normal", "few")
    ]
    ner, icd, other = (found[task, "normal"] for task in ("ner", "icd", "other"))
    assert (ner.library, ner.tokens, ner.own, ner.seed, ner.router.tau) == ("lib", "lib-ner", "ner", 5, 0.5)
    assert (icd.tokens, icd.own, other.tokens, other.own) == ("icd-tokens", None, "t", "ner")
    assert [found[cell].router.gamma1 for cell in found] == [0.2, 0.1, 0.3, 0.3, 0.2, 0.1]
    assert [found[cell].split for cell in found] == ["validation", "train", "dev", "dev", "validation", "train"]
    assert found["icd", "few"].shots == 8 and found["icd", "few"].method["kind"] == "cmaes"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": {"a": {"method": {"kind": "cmaes", "sigma": 0}}}}, "task ner, variant a: .*(?s:.)*sigma=0"),
        ({"fit": {"tokens": "x"}}, "tokens='x': the plan and its task say that"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"a b": {}}}, "name='p-a b-normal'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_cell(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(RoutingPlan, {**CONTENT, **change})
