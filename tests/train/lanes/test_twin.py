"""A twin shares its weights and nothing else, 4-bit ones too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from medtrain.train import adapters
from medtrain.train.lanes.twin import twin

IDS = torch.arange(5, 25)[None]


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_a_twin_costs_no_weights_and_its_adapter_leaves_the_base_alone(
    world: Callable[[str], Any], precision: str
) -> None:
    base = world(precision).base().eval()
    names = [name for name, _ in base.named_modules()]
    told = {"use_cache": False, "sample_lengths": (20,)}
    with torch.no_grad():
        wanted = base(IDS, **told).logits
        second = twin(base)
        held = {parameter.data_ptr() for parameter in base.parameters()}
        assert {parameter.data_ptr() for parameter in second.parameters()} == held
        scales = [m.weight.quant_state.absmax.data_ptr() for m in base.modules() if hasattr(m, "quant_type")]
        again = [m.weight.quant_state.absmax.data_ptr() for m in second.modules() if hasattr(m, "quant_type")]
        assert scales == again
        model = adapters.attach(second, {"kind": "adalora"}, seed=0)
        for name, parameter in model.named_parameters():
            if "lora_E" in name:
                parameter.data.fill_(1.0)
        assert [name for name, _ in base.named_modules()] == names
        assert torch.equal(base(IDS, **told).logits, wanted)
        assert not torch.equal(model.eval()(IDS, **told).logits, wanted)
