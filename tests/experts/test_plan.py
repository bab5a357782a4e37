"""A plan's settings: the paper's underneath, the plan's over them, an expert's own on top; wrong ones refused early."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.experts.plan import Plan, data_config, run_config, tokens_config

CONFIGS = Path(__file__).resolve().parents[2] / "jobs/configs/train_experts"
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def plan(**settings: Any) -> Plan:
    expert = {"category": "question answering", "sources": [{"source": "alpaca", "path": "a.json"}]}
    return parse(Plan, {"name": "p", "experts": {"a": expert, "b": {**expert, "adaptation_rows": 5}}, **settings})


def test_an_expert_has_the_papers_settings_unless_told_otherwise() -> None:
    found = run_config(plan(), "a")
    assert (found.epochs, found.model.precision, found.adapter["kind"]) == (10, "nf4", "adalora")
    paper = {"init_rank": 12, "target_rank": 4, "orthogonality": 0.5, "tinit": 200, "tfinal": 1000, "dropout": 0.1}
    assert paper.items() <= found.adapter.items() and len(found.adapter["target_modules"]) == 6
    assert found.name == found.tokens == "p-a"


def test_the_expert_goes_over_the_plan_and_the_plan_over_the_paper() -> None:
    both = {"epochs": 3, "adapter": {"target_rank": 2}}
    one = {"category": "knowledge graph", "sources": [{"source": "alpaca", "path": "a"}], "train": {"epochs": 7}}
    made = plan(train=both, experts={"a": one, "b": {**one, "train": {}}})
    assert [run_config(made, name).epochs for name in "ab"] == [7, 3]
    assert run_config(made, "a").adapter["target_rank"] == 2 and run_config(made, "a").adapter["init_rank"] == 12


def test_data_and_tokens_are_the_experts_own() -> None:
    made = plan(seed=7, root="/raw", context_tokens=99)
    data, tokens = data_config(made, "b"), tokens_config(made, "b")
    assert (data.name, data.root, data.holdout.rows, data.holdout.seed, data.seed) == ("p-b", "/raw", 5, 7, 7)
    assert (tokens.name, tokens.data, tokens.context_tokens, tokens.seed) == ("p-b", "p-b", 99, 7)


def test_wrong_settings_name_the_expert() -> None:
    with pytest.raises(ConfigError, match=r"(?s)experts\.a\.train.*keep: last"):
        plan(train={"validation": {"keep": "best"}})
    with pytest.raises(ConfigError, match="no_such_source"):
        plan(experts={"a": {"category": "question answering", "sources": [{"source": "no_such_source", "path": "x"}]}})


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_plans_are_whole(name: str) -> None:
    made = parse(Plan, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["plan"])
    assert all(run_config(made, expert).validation.keep == "last" for expert in made.experts)
    assert len(made.experts) == (3 if name == "demo" else 12)
