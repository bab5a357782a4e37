"""`cluster/lab.yaml` against Ray's own schema, and what it copies and starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lab() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / "cluster" / "lab.yaml").read_text(encoding="utf-8"))
    return content


def test_ray_accepts_it(lab: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(lab)
    validate_config(prepared)
    assert prepared["provider"]["worker_ips"] == ["10.0.0.2", "10.0.0.3"]


def test_ray_refuses_a_wrong_key(lab: dict[str, Any]) -> None:
    """The test above can fail."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="head_starts"):
        validate_config(prepare_config({**lab, "head_starts": []}))


def test_every_node_starts_with_the_token(lab: dict[str, Any]) -> None:
    for command in (*lab["head_start_ray_commands"], *lab["worker_start_ray_commands"]):
        assert "source cluster/env.sh && python cluster/node.py ray start" in command
    assert "~/.ray/auth_token" in lab["file_mounts"]
    assert "--dashboard-host=127.0.0.1" in lab["head_start_ray_commands"][0]
