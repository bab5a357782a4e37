"""What every kind of trial promises, of the package and of `$MEDTRAIN_PLUGINS`."""

import inspect
from typing import Any, get_args, get_origin

import pytest

from medtrain import plugins
from medtrain.errors import ConfigError
from medtrain.search import trials
from medtrain.search.trials import TrialConfig
from medtrain.storage import Store

KINDS = sorted(plugins.files("search", "trials"))


def required(kind: str) -> dict[str, Any]:
    """The least that a kind's config wants: the first of its choices, a mapping of one empty section, or a word."""
    found: dict[str, Any] = {}
    for name, field in plugins.load("search", "trials", kind).Config.model_fields.items():
        if field.is_required():
            choices = get_args(field.annotation)
            is_mapping = get_origin(field.annotation) is dict
            found[name] = {"x": {}} if is_mapping else choices[0] if choices and isinstance(choices[0], str) else "x"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_names_it_and_refuses_what_it_does_not_know(kind: str) -> None:
    module = plugins.load("search", "trials", kind)
    assert issubclass(module.Config, TrialConfig) and module.__doc__
    assert all(info.description for info in module.Config.model_fields.values())
    config = trials.validate({"kind": kind, **required(kind)})
    assert config.kind == kind and trials.validate(config.model_dump(mode="json")) == config
    with pytest.raises(ConfigError, match="no_such_setting"):
        trials.validate({"kind": kind, **required(kind), "no_such_setting": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_parts_that_a_study_calls(kind: str) -> None:
    module = plugins.load("search", "trials", kind)
    expected = {
        "base": ["config", "root"],
        "identity": ["config", "root", "overrides"],
        "command": ["config", "overrides"],
        "named": ["config", "root", "study", "number"],
        "paced": ["config", "steps", "overrides"],
        "takes": ["config", "root", "gpu"],
        "estimate": ["config", "root"],
        "prune": ["config", "root", "overrides"],
    }
    for name, parameters in expected.items():
        part = getattr(module, name, None)
        assert part is not None or name in ("named", "paced", "takes", "estimate", "prune"), f"{name} is absent"
        if part is not None:
            assert len(inspect.signature(part).parameters) == len(parameters), name
    assert list(inspect.signature(module.Trials).parameters)[1:] == ["root", "cpus", "gpu"]
    assert list(inspect.signature(module.Trials.run).parameters) == ["self", "folder", "overrides", "report"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_command_is_a_line_with_the_overrides_last(kind: str) -> None:
    config = trials.validate({"kind": kind, **required(kind)})
    line = trials.command(config, ["a.b=1", "c='two words'"])
    assert "\n" not in line and "a.b=1" in line and line.index("a.b=1") < line.index("two words")


def test_an_unknown_kind_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are: .*job"):
        trials.validate({"kind": "no_such_kind"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_opens_files_by_name_refuses_an_object_store(
    kind: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trials.validate({"kind": kind, **required(kind)})
    if not getattr(plugins.load("search", "trials", kind), "SHARED", False):
        return
    monkeypatch.setattr(Store, "is_local", property(lambda self: False))
    for part in (lambda: trials.base(config, store), lambda: trials.identity(config, store, [])):
        with pytest.raises(ConfigError, match=f"storage.root={store.root}: {kind} trials .* folder that every node"):
            part()
