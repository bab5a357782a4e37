"""The shared base against each lane's own PEFT model: losses and gradients of one pass, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from medtrain.errors import ConfigError
from medtrain.train import adapters
from medtrain.train.batches import Batch, collate, join
from medtrain.train.lanes.layers import Present, SharedLinear, install, uninstall
from medtrain.train.lanes.lowrank import Part
from medtrain.train.lanes.twin import twin
from medtrain.train.loss import LossModule
from medtrain.train.order import BatchConfig
from medtrain.train.state import trainable

KINDS: dict[str, dict[str, Any]] = {
    "adalora": {"kind": "adalora", "dropout": 0.2},
    "some": {"kind": "adalora", "target_modules": ["q_proj", "down_proj"]},
    "lora": {"kind": "lora", "rank": 8, "dropout": 0.1},
    "rslora": {"kind": "lora", "rank": 4, "rslora": True, "dropout": 0.0},
}


def grown(model: Any, seed: int) -> Any:
    """An adapter that does something: no factor is zero."""
    torch.manual_seed(seed)
    for parameter in trainable(model).values():
        parameter.data.normal_(std=0.05)
    return model


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("nf4", 3e-2)])
def test_each_lane_has_the_losses_and_gradients_of_its_own_model(
    world: Callable[[str], Any], precision: str, bound: float
) -> None:
    made = world(precision)
    base, present, batches = made.base(), Present(), []
    shared = twin(base).train()
    models = {
        name: grown(adapters.attach(twin(base), adapter, 0), seed) for seed, (name, adapter) in enumerate(KINDS.items())
    }
    start = 0
    for number, (name, model) in enumerate(models.items()):
        install(shared, present, name, model)
        batches.append(collate([made.samples[row] for row in range(4 * number, 4 * number + 3)], BatchConfig(), 3))
        stop = start + batches[-1].input_ids.shape[1]
        present.parts.append(Part(name, start, stop, torch.Generator().manual_seed(number)))
        start = stop
    losses = LossModule(shared).token_losses(join(batches)).split([batch.trained_tokens for batch in batches])
    torch.cat(losses).sum().backward()
    for number, model in enumerate(models.values()):
        found = {key: parameter.grad for key, parameter in trainable(model).items()}
        loss, wanted = own(model.train(), batches[number], number)
        assert float(losses[number].detach().sum()) == pytest.approx(float(loss), rel=bound)
        for key, gradient in wanted.items():
            assert float((found[key] - gradient).norm()) <= bound * float(gradient.norm()), key
    uninstall(shared, "some")
    layers = [module for module in shared.modules() if isinstance(module, SharedLinear)]
    assert len(layers) == 14 and all("some" not in layer.factors and "lora" in layer.factors for layer in layers)


def own(model: Any, batch: Batch, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A PEFT model's own loss and gradients, dropout drawn from the seed."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = LossModule(model)(batch)
    loss.backward()
    return loss.detach(), {key: parameter.grad for key, parameter in trainable(model).items()}


def test_what_lanes_cannot_share_is_refused(world: Callable[[str], Any]) -> None:
    base = world("fp32").base()
    dora = adapters.attach(twin(base), {"kind": "lora", "rank": 4, "dora": True}, 0)
    with pytest.raises(ConfigError, match=r"layers\.0\.self_attn\.q_proj is DoRA"):
        install(twin(base), Present(), "x", dora)
    more = adapters.attach(twin(base), {"kind": "lora", "rank": 4}, 0)
    more.get_base_model().model.norm.weight.requires_grad_()
    with pytest.raises(ConfigError, match=r"norm\.weight is trained, which lanes cannot share"):
        install(twin(base), Present(), "x", more)
    embedding = adapters.attach(twin(base), {"kind": "lora", "rank": 4, "target_modules": ["embed_tokens"]}, 0)
    with pytest.raises(ConfigError, match="embed_tokens is an adapter of Embedding"):
        install(twin(base), Present(), "x", embedding)
