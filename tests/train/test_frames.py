"""Our writing of safetensors against the library's reading and writing."""

import torch
from safetensors.torch import load, save

from medtrain.train.frames import KINDS, frames


def test_the_library_reads_what_we_write_and_would_write_the_same_bytes() -> None:
    torch.manual_seed(0)
    tensors = {f"x/{n}": (torch.randn(3, n) * 50).to(kind) for n, kind in enumerate(KINDS, 1)}
    tensors |= {"empty": torch.zeros(0, 4), "flag": torch.tensor(True), "ü": torch.randn(2, 3).T}
    content = b"".join(frames(tensors))
    found = load(content)
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    assert len(content) == len(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def test_nothing_is_copied() -> None:
    tensor = torch.zeros(4)
    _, part = frames({"a": tensor})
    tensor += 1
    assert bytes(part) == tensor.numpy().tobytes()
