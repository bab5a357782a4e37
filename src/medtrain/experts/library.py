"""A library: the adapters of a plan side by side, each as plain LoRA in PEFT's layout, with what is known of them."""

from dataclasses import replace
from typing import Any

from medtrain import artifacts
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.errors import ConfigError
from medtrain.experts import fold, folder
from medtrain.experts.plan import Plan
from medtrain.storage import Store

KIND = "library"


def assemble(root: Store, plan: Plan, made: dict[str, Artifact], policy: Policy) -> Artifact:
    """Fold every expert into library/<plan>; a library of other experts is replaced.

    Raises:
        ConfigError: an expert kept no rank at all, or experts are over several bases.
    """
    base, *others = dict.fromkeys(str(artifact.facts["base"]) for artifact in made.values())
    if others:
        over = ", ".join(f"{name} over {artifact.facts['base']}" for name, artifact in made.items())
        raise ConfigError(f"library/{plan.name}: {over}; a library is over one base: train every expert on the same")
    path = artifacts.model_path(root, base)
    names = {name: plan.experts[name].model_dump(include={"category", "non_commercial"}) for name in made}
    inputs = {f"expert/{artifact.name}": artifact.fingerprint for artifact in made.values()}
    code = artifacts.code_hash(artifacts.room_code("experts"))
    identity = Identity({"experts": names}, inputs, code)
    build = artifacts.begin_cache(root, KIND, plan.name, identity, Policy(policy.keep_stale))
    if isinstance(build, Artifact):
        return build
    for note in build.notes:
        print(note)
    facts = {}
    for name, artifact in made.items():
        # An expert's own folder says where the base lay when it was trained.
        adapter = replace(fold.read(artifact.store, "adapter"), base=path)
        folder.write(build.store, name, adapter)
        ranks = {module: factors.rank for module, factors in adapter.modules.items()}
        facts[name] = {**_facts(root, plan, name, artifact), "ranks": ranks}
    return build.finish({"base": base, "experts": facts})


def _facts(root: Store, plan: Plan, name: str, artifact: Artifact) -> dict[str, Any]:
    """What a reader of the library must know of an expert."""
    data = artifacts.locate(root, "data", artifact.name)
    rows: dict[str, int] = {}
    for splits in data.facts["by_source"].values():
        for split, count in splits.items():
            rows[split] = rows.get(split, 0) + count
    local = "local" in data.facts["splits"].values()
    return {
        "category": plan.experts[name].category,
        "run": f"{artifact.kind}/{artifact.name}",
        "rows": rows,
        "split": "local" if local else "corpus",
        "non_commercial": plan.experts[name].non_commercial,
        **{key: artifact.facts[key] for key in ("step", "first_loss", "last_loss") if key in artifact.facts},
    }
