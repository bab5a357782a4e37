"""What a stage begins from: one base, whose tokenizer is that of the tokens, known by what its files hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin, locate
from medtrain.errors import ConfigError
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.train import launch, stage
from medtrain.train.stage import StageConfig


def config(**settings: Any) -> StageConfig:
    return StageConfig.model_validate({"name": "x", "stage": 2, "tokens": "tiny", **settings})


@pytest.fixture
def tokens(made_once: Store) -> Artifact:
    """Those of bases/tiny."""
    return locate(made_once, "tokens", "tiny")


@pytest.fixture
def base(made_once: Store, tmp_path: Path) -> Path:
    """A copy of bases/tiny in a folder."""
    return Path(shutil.copytree(made_once.local("bases/tiny"), tmp_path / "base"))


@pytest.fixture
def begun(made_once: Store, tokens: Artifact) -> Store:
    """A root with stage1/first over bases/tiny, whose adapter folder has its tokens' tokenizer."""
    build = begin(made_once, "stage1", "first", Identity({}, {}, ""), Policy(again=True))
    assert isinstance(build, Build)
    shutil.copytree(tokens.store.local("tokenizer"), build.store.local("adapter"))
    build.finish({"base": "artifact:bases/tiny"})
    return made_once


def one_more(folder: Path) -> None:
    """Let a tokenizer know a token that no row has."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["a b c"] = 999
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False))


def other_ids(folder: Path) -> None:
    """Let two tokens of a tokenizer change places; the file's size stays."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    known = content["model"]["vocab"]
    known["a"], known["b"] = known["b"], known["a"]
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False))


def test_a_base_of_its_own_is_taken_where_its_tokenizer_is_that_of_the_tokens(
    made_once: Store, tokens: Artifact, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = config(model={"base": str(base)})
    stage.check_tokens(made_once, asked, tokens)
    assert stage.base_reference(made_once, asked, tokens) == str(base)
    assert stage.base_reference(made_once, config(), tokens) == "artifact:bases/tiny" and capsys.readouterr().out == ""
    one_more(base)
    stage.check_tokens(made_once, asked, tokens)
    other_ids(base)
    with pytest.raises(
        ConfigError, match=rf"model.base={base}: its tokenizer gives other ids than tokens/tiny, made for"
    ):
        stage.check_tokens(made_once, asked, tokens)
    (base / "tokenizer.json").unlink()
    stage.check_tokens(made_once, asked, tokens)
    assert "no tokenizer.json there that tokens/tiny could be compared with" in capsys.readouterr().out


@pytest.mark.parametrize("start", ["merge_from", "init_from"])
def test_a_stage_goes_on_over_the_base_of_the_one_before(begun: Store, tokens: Artifact, start: str) -> None:
    wanted = {"merge_from": "artifact:merged/stage1-first", "init_from": "artifact:bases/tiny"}[start]
    for model in ({}, {"base": "artifact:bases/tiny"}):
        assert stage.base_reference(begun, config(**{start: "stage1/first"}, model=model), tokens) == wanted
    another = config(**{start: "stage1/first"}, model={"base": "/models/other"})
    with pytest.raises(ConfigError, match=r"model.base=/models/other: stage1/first is over artifact:bases/tiny; leave"):
        launch.prepare(begun, "stage2", another, RuntimeConfig(), Policy(again=True))
    assert begun.files("stage2") == [], "refused when something was done already"
    stage.check_tokens(begun, config(**{start: "stage1/first"}), tokens)
    other_ids(begun.local("stage1/first/adapter"))
    with pytest.raises(ConfigError, match=rf"{start}=stage1/first: its tokenizer gives other ids than tokens/tiny"):
        stage.check_tokens(begun, config(**{start: "stage1/first"}), tokens)


def test_a_base_is_known_by_what_its_files_hold(made_once: Store, tokens: Artifact, base: Path, tmp_path: Path) -> None:
    """Moved it is the same; trained on in its place it is another, although no size has changed."""

    def inputs(path: Path) -> str:
        return stage.identity_of(made_once, config(model={"base": str(path)}), tokens).inputs["base"]

    first = inputs(base)
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    assert inputs(moved) == first
    weights = moved / "model.safetensors"
    held, size = load_file(weights), weights.stat().st_size
    save_file({name: tensor + 1 for name, tensor in held.items()}, weights, {"format": "pt"})
    assert weights.stat().st_size == size and inputs(moved) != first
