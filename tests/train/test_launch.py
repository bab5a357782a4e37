"""A whole stage under Ray Train and DeepSpeed, twice: stage 1, then stage 2 from its merged weights."""

import os
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin, locate
from medtrain.errors import IdentityMismatch, MissingArtifact
from medtrain.plugins import PACKAGE
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.train import inputs, launch, worker
from medtrain.train import stage as stages
from medtrain.train.launch import run
from medtrain.train.payload import Payload
from medtrain.train.stage import StageConfig

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "name": "tiny",
    "stage": 1,
    "tokens": "tiny",
    "epochs": 2,
    "adapter": {"kind": "lora", "rank": 4},
    "batch": {"size": 16, "micro_tokens": 128},
    "optimizer": {"learning_rate": 1e-2},
    "validation": {"every_steps": 2},
}


def _remake(root: Store, stage: Artifact) -> Artifact:
    """The same stage under another identity, as if it had been trained again with other settings."""
    kept = {path: stage.store.read(path) for path in stage.store.files("adapter")}
    build = begin(root, stage.kind, stage.name, Identity({"other": 1}, {}, ""), Policy(again=True))
    assert isinstance(build, Build)
    for path, content in kept.items():
        build.store.write(path, content)
    return build.finish(stage.facts)


LIGHT = """
import sys
from medtrain.train import command, launch
from medtrain.train.payload import Payload
train = {"name": "x", "tokens": "t", "adapter": {"kind": "lora", "rank": 4}}
told = {"root": "/r", "run": "stage1/x", "submission": "1", "train": train, "base": "b", "base_path": "/b"}
Payload.model_validate({**told, "adapter_path": None, "cpus": 1, "collective_timeout_s": 60})
print(sorted({"transformers", "peft", "deepspeed", "bitsandbytes"} & set(sys.modules)))
"""


def test_a_driver_reads_its_config_without_the_model_libraries() -> None:
    """Driver and controller start in seconds, and do not hold the memory of what only workers use."""
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, env=there)
    assert done.stdout.strip() == "[]"


def _goes_on_with_the_adapter(root: Store, first: Artifact) -> None:
    """What a worker of a stage with `init_from` trains begins as the earlier stage's adapter, on its base."""
    on = StageConfig.model_validate({**SETTINGS, "stage": 2, "name": "on", "init_from": "stage1/tiny"})
    tokens = locate(root, "tokens", "tiny")
    assert stages.base_reference(root, on, tokens) == first.facts["base"]
    told = {
        "root": root.root,
        "run": "stage2/on",
        "submission": "1",
        "train": on,
        "cpus": 1,
        "collective_timeout_s": 60,
    }
    base, adapter = str(root.local("bases/tiny")), stages.stage_adapter(root, "stage1/tiny")
    payload = Payload.model_validate(
        {**told, "base": "artifact:bases/tiny", "base_path": base, "adapter_path": adapter}
    )
    engine = worker._engine(payload, inputs.read(tokens, on), torch.device("cpu"), 3, None)
    found = peft.get_peft_model_state_dict(engine.deepspeed.module.model)
    saved = load_file(first.store.local("adapter") / "adapter_model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in saved.items()) and len(found) == len(saved)


@pytest.mark.usefixtures("ray_cluster", "group_of_one")
def test_two_stages_train_and_their_adapters_open_in_plain_peft(made: Store) -> None:
    first = run(made, "stage1", StageConfig.model_validate(SETTINGS), RuntimeConfig(workers=1), Policy())
    assert first.facts["step"] == 8
    assert first.facts["last_loss"] < first.facts["first_loss"]
    second_config = StageConfig.model_validate({**SETTINGS, "stage": 2, "merge_from": "stage1/tiny", "max_steps": 2})
    second = run(made, "stage2", second_config, RuntimeConfig(workers=1), Policy())
    assert second.facts["base"] == "artifact:merged/stage1-tiny"
    base = AutoModelForCausalLM.from_pretrained(made.local("merged/stage1-tiny"), dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(base, str(second.store.local("adapter")))
    ids = torch.arange(10, 20)[None]
    with torch.no_grad(), opened.disable_adapter():
        plain = opened(input_ids=ids).logits
    with torch.no_grad():
        adapted = opened(input_ids=ids).logits
    assert not torch.allclose(plain, adapted)
    assert not second.store.folders("ray")
    _goes_on_with_the_adapter(made, first)
    again = run(made, "stage2", second_config, RuntimeConfig(workers=1), Policy())
    assert again.fingerprint == second.fingerprint
    before = locate(made, "merged", "stage1-tiny").fingerprint
    remade = _remake(made, first)
    launch._merge(made, second_config, locate(made, "tokens", "tiny"), Policy())
    merged = locate(made, "merged", "stage1-tiny")
    assert merged.fingerprint != before and merged.manifest["identity"]["inputs"] == {"stage1/tiny": remade.fingerprint}
    with pytest.raises(IdentityMismatch, match=r"config.epochs: \S+ -> 3"):
        run(made, "stage1", StageConfig.model_validate({**SETTINGS, "epochs": 3}), RuntimeConfig(), Policy())


def test_a_run_s_identity_has_the_code_that_its_weights_depend_on_and_no_other() -> None:
    files = {path.relative_to(PACKAGE).as_posix() for path in stages.code()}
    assert {"train/loop.py", "train/lanes/engine.py", "train/order.py", "tokens/shards.py"} <= files
    assert not {"train/command.py", "train/estimate.py", "train/footprint.py"} & files
    assert all((PACKAGE / "train" / f"{name}.py").is_file() for name in stages.ASIDE)


def test_a_stage_without_its_input_says_which_job_makes_it(store: Store) -> None:
    with pytest.raises(MissingArtifact, match=r"tokens/tiny does not exist.*jobs/build_tokens.py makes it"):
        run(store, "stage1", StageConfig.model_validate(SETTINGS), RuntimeConfig(), Policy())
