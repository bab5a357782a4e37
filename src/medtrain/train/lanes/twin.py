"""A second module tree over the same weights: what each lane attaches its adapter to."""

import copy
from typing import Any


def twin(model: Any) -> Any:
    """A copy of a model's modules that shares every parameter and buffer with it, 4-bit ones too.

    PEFT replaces layers in the tree that it is given, so a tree belongs to one adapter. A twin costs no weights.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        state = getattr(module, "quant_state", None)  # of a 4-bit layer: the scales of its blocks
        if state is not None:
            shared[id(state)] = state
    return copy.deepcopy(model, shared)
