"""Tensors as the parts of a safetensors file, without a copy: what a thread writes while the main one trains.

The library's own `save` copies everything three times and lets no other thread run meanwhile: 1.5 s for 720 MB, three
quarters of a training step of the benchmark. Its `load` reads what is written here.
"""

import json

import numpy as np
import torch

KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}


def frames(tensors: dict[str, torch.Tensor]) -> list[bytes | memoryview]:
    """Header and contents, which belong together in this order; the memory is the tensors' own, so it must not change.

    Args:
        tensors: on the host, of the types in `KINDS`.
    """
    # Wide types first, so that every tensor begins at a multiple of its element's size.
    named = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, parts, place = {}, [], 0
    for name, tensor in named:
        content = tensor.detach().contiguous().reshape(-1).numpy().view(np.uint8)
        end = place + content.nbytes
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        parts.append(content.data)
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *parts]
