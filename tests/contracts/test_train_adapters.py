"""What every adapter plug-in promises, of the package and of `$MEDTRAIN_PLUGINS`."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from medtrain import plugins
from medtrain.config import Config
from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.state import trainable, weights

KINDS = sorted(plugins.files("train", "adapters"))
IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2 on disk."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    folder = tmp_path_factory.mktemp("base")
    Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)).save_pretrained(folder)
    return folder


def plain(path: Path) -> Any:
    """The base in float32, frozen."""
    return load_base(str(path), ModelConfig(precision="fp32"), torch.device("cpu"))


def logits(model: Any) -> torch.Tensor:
    """(1, 20, V) of fixed ids."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_names_it_and_refuses_what_it_does_not_know(kind: str) -> None:
    config = adapters.validate({"kind": kind})
    assert isinstance(config, Config) and config.model_dump()["kind"] == kind
    assert plugins.load("train", "adapters", kind).__doc__
    with pytest.raises(ConfigError, match="no_such_setting"):
        adapters.validate({"kind": kind, "no_such_setting": 1})


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_alone_is_trained_and_starts_as_the_base(kind: str, precision: Any, base_path: Path) -> None:
    base = load_base(str(base_path), ModelConfig(precision=precision), torch.device("cpu"))
    frozen = {id(parameter) for parameter in base.parameters()}
    before = logits(base)
    model = adapters.attach(base, {"kind": kind}, seed=0)
    assert isinstance(model, peft.PeftModel)
    parts = trainable(model)
    assert parts and not any(id(parameter) in frozen for parameter in parts.values())
    assert {parameter.dtype for parameter in parts.values()} == {torch.float32}
    assert not any("lm_head" in name for name in parts)
    torch.testing.assert_close(logits(model), before)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in parts.values())
    assert any(parameter.grad.any() for parameter in parts.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_alone_decides_its_start(kind: str, base_path: Path) -> None:
    starts = []
    for noise, seed in ((1, 3), (2, 3), (3, 4)):
        torch.manual_seed(noise)
        starts.append(weights(adapters.attach(plain(base_path), {"kind": kind}, seed=seed)))
    assert all(torch.equal(starts[0][name], tensor) for name, tensor in starts[1].items())
    assert any(not torch.equal(starts[0][name], tensor) for name, tensor in starts[2].items())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_opens_in_plain_peft(kind: str, base_path: Path, store: Store) -> None:
    model = adapters.attach(plain(base_path), {"kind": kind}, seed=0)
    torch.manual_seed(1)
    for parameter in trainable(model).values():
        parameter.data += 0.05 * torch.randn_like(parameter)
    wanted = logits(model)
    adapter_files.write(store, "adapter", model, weights(LossModule(model)))
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(base, str(store.local("adapter")))
    torch.testing.assert_close(logits(opened), wanted)
    fresh = adapters.attach(plain(base_path), {"kind": kind}, seed=9)
    adapter_files.read_into(fresh, store.local("adapter"))
    torch.testing.assert_close(logits(fresh), wanted)
