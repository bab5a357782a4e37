"""The loss: the sum of token losses over trained tokens only, so that any normalisation is exact and made once."""

import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from medtrain.train import attention
from medtrain.train.batches import Batch

CHUNK_TOKENS = 1024
"""Trained tokens whose logits exist at once: (1024, V) and never (B, T, V)."""


@functools.cache
def liger() -> Callable[..., Any] | None:
    """Liger's fused linear cross-entropy; None where it is absent, or before 0.8.4, whose chunks are what they are."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy as fused

    return fused if "chunk_mem_const" in inspect.signature(fused).parameters else None


def fuses(head: torch.nn.Module, device_type: str) -> bool:
    """Whether a fused kernel may take the head's place where the hidden states are on such a device.

    It reads the head's weight and never calls the head, so whatever acts on that call would be left out: the product
    of a quantised layer, an adapter, a hook, the gathering of a weight that ZeRO-3 has sharded.
    """
    if device_type != "cuda" or type(head) is not torch.nn.Linear:
        return False
    hooked = head._forward_hooks or head._forward_pre_hooks
    return not hooked and not any(p.requires_grad or hasattr(p, "ds_id") for p in head.parameters())


def chunk_budget(tokens: int, vocabulary: int, width: int) -> int:
    """Liger's chunks for our `CHUNK_TOKENS`: it makes logits of budget x tokens x width elements at a time.

    Its default of 1 means 16 tokens a chunk on a 0.5B model, too few to fill a GPU. At least 1: logits as large as the
    hidden states are no concern.
    """
    chunks = -(-tokens // CHUNK_TOKENS)
    return max(1, vocabulary // (width * chunks))


def _chunk_losses(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(hidden).float(), targets, reduction="none")


def head_calls(tokens: int) -> int:
    """How often the head is called for so many trained tokens."""
    return max(1, -(-tokens // CHUNK_TOKENS))


def token_losses(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, calls: int = 0) -> torch.Tensor:
    """Cross-entropy of each token, with the logits of a long batch made and dropped chunk by chunk.

    Args:
        head: maps (n, hidden) to (n, V).
        hidden: (N, hidden) states that predict.
        targets: (N,) tokens to predict.
        calls: how often the head is called, on nothing where there are fewer tokens; 0 for as often as need be.

    Returns:
        (N,) float32.
    """
    calls = calls or head_calls(len(targets))
    if calls == 1:
        return _chunk_losses(head, hidden, targets)
    parts = zip(hidden.tensor_split(calls), targets.tensor_split(calls), strict=True)
    return torch.cat([checkpoint(_chunk_losses, head, states, wanted, use_reentrant=False) for states, wanted in parts])


def token_loss_sum(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, calls: int = 0) -> torch.Tensor:
    """The sum of `token_losses`, a float32 scalar; 0 with a gradient of 0 where there is no token.

    On a GPU with Liger (Hsu et al. 2024) the gradient is made together with the loss, so that no logits are made twice;
    it waits for the device twice, to count the tokens and to look at the gradient of the loss.
    """
    if len(targets) == 0:
        return hidden.float().sum() * 0.0
    if fuses(head, hidden.device.type) and (fused := liger()) is not None:
        budget = chunk_budget(len(targets), *head.weight.shape)
        total: torch.Tensor = fused(
            hidden, head.weight, targets, bias=head.bias, reduction="sum", chunk_mem_const=budget
        )
        return total
    return token_losses(head, hidden, targets, calls).sum()


class LossModule(torch.nn.Module):
    """A causal language model as a function from a micro-batch to its summed loss; what DeepSpeed wraps.

    The head runs on positions that predict a trained token and on no other.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, head_calls: int = 0) -> torch.Tensor:
        """The summed loss of a micro-batch, a float32 scalar.

        An empty batch still runs the whole model and gives 0 with gradients of 0, and the head is called `head_calls`
        times (0: as often as need be): ZeRO-3 needs equal forward passes on all ranks.
        """
        hidden, head = self._hidden(batch)
        if batch.trained_tokens == 0:
            return token_losses(head, hidden[:1], batch.input_ids.reshape(-1)[:1], head_calls).sum() * 0.0
        return token_loss_sum(head, hidden[batch.predictors], batch.targets, head_calls)

    def token_losses(self, batch: Batch) -> torch.Tensor:
        """The loss of each trained token, (N,) float32, in the order of `batch.targets`."""
        hidden, head = self._hidden(batch)
        return token_losses(head, hidden[batch.predictors], batch.targets)

    def _hidden(self, batch: Batch) -> tuple[torch.Tensor, torch.nn.Module]:
        """The last hidden states, (B * T, hidden), and the head."""
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = causal.model(**_called_with(causal, batch)).last_hidden_state  # (B, T, hidden)
        return hidden.reshape(-1, hidden.shape[-1]), causal.lm_head


def _called_with(causal: Any, batch: Batch) -> dict[str, Any]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": attention.behind_padding(batch.attention_mask) if batch.behind_padding else None,
        "position_ids": batch.position_ids,
        "use_cache": False,
        **attention.arguments(causal.config._attn_implementation, batch.lengths, batch.input_ids.device),
    }


@torch.no_grad()
def is_head_of_hidden(causal: Any) -> bool:
    """Whether a model's logits are its head's product with the last hidden states, as the losses here take them.

    Some architectures scale or cap them behind the head; a forward pass of eight tokens tells.
    """
    if not (hasattr(causal, "model") and hasattr(causal, "lm_head")):
        return False
    table = causal.get_input_embeddings().weight
    ids = torch.linspace(0, len(table) - 1, 8, device=table.device).long()  # one may be padding, whose vector is 0
    row = Batch(ids[None], torch.arange(8, device=table.device)[None], None, False, (8,), ids[:0], ids[:0])
    hidden, head = LossModule(causal)._hidden(row)
    own = causal(**_called_with(causal, row)).logits[0]
    return bool(torch.allclose(own.float(), head(hidden).float(), rtol=1e-3, atol=1e-6))
