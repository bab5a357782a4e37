#!/usr/bin/env python
"""A plan of specialties becomes a library of adapters: one AdaLoRA expert each, as many at once as there is room."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable, Sequence

import build_tokens
import prepare_data
from pydantic import model_validator

from medtrain import job, runtime
from medtrain.config import Config, knob
from medtrain.experts import launch, preview
from medtrain.experts.plan import Plan, data_config
from medtrain.runtime import RuntimeConfig
from medtrain.storage import StorageConfig, Store
from medtrain.tokens.config import TokensConfig
from medtrain.train.command import EstimateConfig


class Job(Config):
    """A library on a cluster."""

    storage: StorageConfig = StorageConfig()
    """Where artifacts lie."""
    runtime: RuntimeConfig = RuntimeConfig()
    """How one expert's run meets the cluster."""
    estimate: EstimateConfig = EstimateConfig()
    """For which device `--dry-run` estimates, and by whose memory runs share one."""
    share_devices: bool = knob(False)
    """With `lanes` null: put as many runs on a GPU as its memory holds by the estimate, where each has one worker."""
    lanes: int | None = knob(1, ge=1)
    """Experts that train together over a device's one base, without DeepSpeed; null: each on `runtime.workers` ones."""
    plan: Plan
    """The experts."""

    @model_validator(mode="after")
    def _shares_once(self) -> "Job":
        if self.share_devices and self.lanes is not None:
            raise ValueError(f"share_devices=True with lanes={self.lanes}: lanes share a device; set lanes: null")
        return self


def _with_corpus(root: Store, plan: Plan) -> Plan:
    """The plan with the demo's corpus, written now if need be, where `demo` stands for it."""
    first = data_config(plan, next(iter(plan.experts)))
    return plan.model_copy(update={"root": prepare_data.resolved(root, first).root})


def _one_base(root: Store, plan: Plan) -> Callable[[Store, TokensConfig], str]:
    """The base of every expert: the plan's, or the demo's one, which is made of the demo's whole corpus."""
    if not build_tokens.base_is_demo(plan.base):
        return build_tokens.reference
    prepare_data.main(["--config", "demo", f"storage.root={root.root}"])
    return lambda store, settings: build_tokens.reference(store, settings.model_copy(update={"data": "demo"}))


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet, and print the library."""
    call = job.parse(Job, Path(__file__), __doc__ or "", argv)
    config, root = call.config, Store(call.config.storage.root)
    if call.dry_run:
        base = "the demo's" if build_tokens.base_is_demo(config.plan.base) else config.plan.base.path
        print(job.show(config), preview.table(root, config.plan), f"base: {base}", sep="\n")
        return
    runtime.connect()
    runtime.check_cluster(root)
    plan, share = _with_corpus(root, config.plan), config.share_devices and config.runtime.workers == 1
    inputs = launch.Inputs(_one_base(root, plan), config.estimate if share else None, config.lanes)
    made = launch.train(root, plan, config.runtime, call.policy, inputs)
    print(preview.library_table(made), f"library/{made.name}: fingerprint {made.fingerprint}", sep="\n", flush=True)


if __name__ == "__main__":
    job.run(main)
