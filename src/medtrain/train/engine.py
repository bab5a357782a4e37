"""One optimizer step under DeepSpeed: exact token normalisation, our own accumulation, seeds by micro-batch."""

import gc
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from medtrain import runtime
from medtrain.errors import TrainingError
from medtrain.tokens.shards import Samples
from medtrain.train import checkpointing, order, timing
from medtrain.train import loss as loss_module
from medtrain.train import state as trainable_state
from medtrain.train.adapters import Rule
from medtrain.train.batches import Batch, collate
from medtrain.train.deepspeed_config import EngineConfig, deepspeed_config
from medtrain.train.loss import LossModule
from medtrain.train.optimizer import RATE_SCALE, OptimizerConfig, build


def join_group() -> None:
    """Enter DeepSpeed's communication over the process group that PyTorch has.

    DeepSpeed would first compile an operator for the all-reduce of inference, which training never calls: a minute or
    two, and a compiler, on every new machine without a GPU. So it is told that this operator is not to be had.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {**deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm": False}
    deepspeed.init_distributed(auto_mpi_discovery=False)


def limit_collectives(seconds: float) -> None:
    """Let a collective of any group fail after so long: groups that DeepSpeed makes have PyTorch's half an hour."""
    for group in list(dist.distributed_c10d._world.pg_map):
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


class Engine:
    """A model under DeepSpeed that runs the global batches of a plan.

    Args:
        model: PEFT model whose adapter alone is trainable.
        samples: the token artifact's rows.
        batch: layout of micro-batches.
        optimizer: AdamW's settings.
        engine: ZeRO stage.
        pad_id: token id that pads.
        rule: what the adapter does around each optimizer step, if it does anything.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        samples: Samples,
        *,
        batch: order.BatchConfig,
        optimizer: OptimizerConfig,
        engine: EngineConfig,
        pad_id: int,
        rule: Rule | None = None,
    ):
        import deepspeed

        self._samples, self._batch, self._pad_id, self.rule = samples, batch, pad_id, rule
        self._rank, self._world_size = runtime.rank(), runtime.world_size()
        model.train()  # before the engine is built: ZeRO stages agree only then
        checkpointing.enable(model, engine.gradient_checkpointing)
        module = LossModule(model)
        gpu = any(parameter.is_cuda for parameter in module.parameters())
        self.deepspeed, *_ = deepspeed.initialize(
            model=module,
            optimizer=build(optimizer, module.named_parameters()),
            config=deepspeed_config(engine, optimizer.clip, self._world_size, gpu=gpu),
            dist_init_required=False,
        )
        self._device = next(module.parameters()).device if engine.zero_stage < 3 else self.deepspeed.device
        self._clip = optimizer.clip
        self._ahead: tuple[order.MicroBatch | None, Batch] | None = None
        self._clock = timing.Clock(self._device, communication=engine.time_communication)

    def step(
        self,
        micro_batches: Sequence[order.MicroBatch],
        learning_rate: float,
        *,
        done: int = 0,
        leaving: bool = False,
        upcoming: Sequence[order.MicroBatch] = (),
    ) -> dict[str, float]:
        """Train one global batch; every rank calls it with the same micro-batches.

        The host waits for the device after the last micro-batch alone, where DeepSpeed looks at the gradient's norm and
        the loss is read: what the next step needs first (of its batch `upcoming`) is laid out and on its way before
        that. `done` are the steps before it, by which the adapter's rule goes; its regulariser is added once, however
        many micro-batches and ranks there are.

        The loss is the sum over all trained tokens of the global batch, divided by their number: rank and
        accumulation weigh nothing. DeepSpeed averages gradients over ranks, hence the factor of the world size.

        Returns:
            `loss` (nats a token), `tokens`, `trained_tokens`, `gradient_norm` (before clipping), and `leaving`: how
            many ranks said that they are, summed together with the loss so that all ranks agree at no cost. In the same
            way `step_s`: the mean seconds from the beginning of the step before to that of this one, infinite in the
            first. Of this rank: `memory_gib`, the peak so far, and `seconds/<part>` in data, forward, backward and
            optimizer.

        Raises:
            TrainingError: the batch trains no token.
        """
        trained = sum(int(self._samples.trained_tokens[row]) for micro in micro_batches for row in micro.rows)
        if trained == 0:
            ids = [self._samples.ids[row] for micro in micro_batches for row in micro.rows][:5]
            raise TrainingError(f"a step without a trained token (samples {', '.join(ids)}, …): nothing to learn from")
        mine = order.share(micro_batches, self._rank, self._world_size)
        sums = torch.tensor([0.0, float(leaving), self._clock.lap()], dtype=torch.float64, device=self._device)
        for turn, micro in enumerate(mine):
            loss_sum = self._forward(micro, self._head_calls(micro_batches, turn))
            sums[0] += loss_sum.detach().double()
            last = turn == len(mine) - 1
            self.deepspeed.set_gradient_accumulation_boundary(last)
            with self._clock.part("backward"):
                loss = loss_sum * (self._world_size / trained)
                if last and self.rule is not None:  # of every rank: DeepSpeed takes the mean
                    loss = loss + self.rule.regulariser(self._trained())
                self.deepspeed.backward(loss, scale_wrt_gas=False)
        if upcoming:
            self._first_of_next(order.share(upcoming, self._rank, self._world_size)[0])
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate * group[RATE_SCALE]
        norm = self._plain_gradient_norm() if self.deepspeed.zero_optimization_stage() == 0 else None
        with self._clock.part("optimizer"):
            gradients = self._gradients() if self.rule is not None and self.rule.reads_gradients(done + 1) else {}
            self.deepspeed.step()
            norm = self.deepspeed.get_global_grad_norm() if norm is None else norm
            if self.rule is not None:
                self._follow(self.rule, done + 1, gradients, float(norm))
        if self._world_size > 1:
            dist.all_reduce(sums)
        total, told, laps_s = sums.tolist()
        tokens = sum(int(self._samples.lengths[row]) for micro in micro_batches for row in micro.rows)
        return {
            "loss": total / trained,
            "tokens": tokens,
            "trained_tokens": trained,
            "gradient_norm": float(norm),
            "leaving": told,
            "step_s": laps_s / self._world_size,
            "memory_gib": timing.peak_memory_gib(self._device),
            **(self.rule.metrics() if self.rule is not None else {}),
            **self._clock.read(),
        }

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return trainable_state.trainable(self.deepspeed.module)

    def _gradients(self) -> dict[str, torch.Tensor]:
        """The gradients of the coming optimizer step, over all ranks, at full shape; collective."""
        from deepspeed.utils import safe_get_full_grad

        plain = self.deepspeed.zero_optimization_stage() == 0
        return {n: p.grad.clone() if plain else safe_get_full_grad(p) for n, p in self._trained().items()}

    def _follow(self, rule: Rule, step: int, gradients: dict[str, torch.Tensor], norm: float) -> None:
        """Let the rule change weights, and the float32 masters that the next step would otherwise restore them from."""
        from deepspeed.utils import safe_set_full_fp32_param

        trained = self._trained()
        clipped = min(1.0, self._clip / (norm + 1e-6)) if self._clip else 1.0
        for name, value in rule.after_step(step, trained, gradients, clipped).items():
            trained[name].data.copy_(value)
            safe_set_full_fp32_param(trained[name], value)  # does nothing at stage 0, which has no masters

    def _plain_gradient_norm(self) -> torch.Tensor:
        """The norm at stage 0, where DeepSpeed clips without keeping it; gradients are reduced at the boundary."""
        return torch.nn.utils.get_total_norm([p.grad for p in self._trained().values() if p.grad is not None])

    def losses(self, micro_batches: Sequence[order.MicroBatch]) -> list[tuple[float, int]]:
        """The (summed loss, trained tokens) of each micro-batch without training; the same list on every rank.

        Each value is computed on one rank and added to zeros of the others, so it does not depend on their number.
        """
        found = torch.zeros(len(micro_batches), 2, dtype=torch.float64, device=self._device)
        self.deepspeed.eval()
        with torch.no_grad():
            for turn, micro in enumerate(order.share(micro_batches, self._rank, self._world_size)):
                loss_sum = self._forward(micro, self._head_calls(micro_batches, turn))
                if micro is not None:
                    number = self._rank + turn * self._world_size
                    found[number, 0] = loss_sum.double()
                    found[number, 1] = float(sum(self._samples.trained_tokens[row] for row in micro.rows))
        self.deepspeed.train()
        if self._world_size > 1:
            dist.all_reduce(found)
        read = found.tolist()
        self._clock.read()  # what validation took is not the next step's
        return [(float(loss), int(tokens)) for loss, tokens in read]

    def release(self) -> None:
        """Give the memory back; the engine is of no use after it."""
        self.deepspeed.destroy()
        del self.deepspeed
        self.rule = self._ahead = None  # the rule holds the whole model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _head_calls(self, micro_batches: Sequence[order.MicroBatch], turn: int) -> int:
        """How often each rank calls the head in this turn; 0 where a rank may call it as often as it needs.

        ZeRO-3 gathers weights from all ranks at every call, so all make as many as the one that trains most tokens.
        """
        if self.deepspeed.zero_optimization_stage() < 3:
            return 0
        first = turn * self._world_size
        together = micro_batches[first : first + self._world_size]
        return loss_module.head_calls(max(sum(int(self._samples.trained_tokens[r]) for r in m.rows) for m in together))

    def _forward(self, micro: order.MicroBatch | None, head_calls: int) -> torch.Tensor:
        ahead, self._ahead = self._ahead, None
        with self._clock.part("data"):
            batch = ahead[1] if ahead is not None and ahead[0] == micro else self._collate(micro)
        torch.manual_seed(0 if micro is None else micro.seed)
        with self._clock.part("forward"):
            loss: torch.Tensor = self.deepspeed(batch, head_calls)
        return loss

    def _first_of_next(self, micro: order.MicroBatch | None) -> None:
        with self._clock.part("data"):
            self._ahead = (micro, self._collate(micro))

    def _collate(self, micro: order.MicroBatch | None) -> Batch:
        rows = () if micro is None else micro.rows
        return collate([self._samples[row] for row in rows], self._batch, self._pad_id).to(self._device)

    def state(self, room: trainable_state.State | None = None) -> trainable_state.State:
        """The whole trainable state, in the memory of an earlier one that nobody needs any more; collective."""
        return trainable_state.gather(self.deepspeed, room) | (self.rule.state() if self.rule is not None else {})

    def go_on(self, saved: trainable_state.State, steps: int) -> None:
        """Go on with a state's moments and rule; its weights must be in the model before the engine is built."""
        trainable_state.set_moments(self.deepspeed, saved, steps)
        if self.rule is not None:
            self.rule.load(saved)

    def weights(self) -> trainable_state.State:
        """The trained tensors at full shape; collective under ZeRO-3."""
        return trainable_state.weights(self.deepspeed.module)
