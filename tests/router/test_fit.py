"""From config to artifact: an adapter that is the naive sum, the naive losses, and kills that cost nothing."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load

from medtrain import artifacts
from medtrain.artifacts import Policy, locate
from medtrain.config import parse
from medtrain.errors import ConfigError, IdentityMismatch, MedtrainError, MissingArtifact
from medtrain.experts.fold import read
from medtrain.experts.folder import Adapter
from medtrain.experts.fuse import Weights, combine
from medtrain.plugins import PACKAGE
from medtrain.router import fit
from medtrain.router.settings import FitConfig
from medtrain.router.states import States
from medtrain.train.model import load_system

FITS: dict[str, dict[str, Any]] = {
    "single": {"method": {"kind": "single"}},
    "average": {"method": {"kind": "average"}},
    "gradient": {"method": {"kind": "gradient", "size": 4, "epochs": 2, "learning_rate": 0.2, "save_every_steps": 1}},
    "cmaes": {"split": "train", "shots": 5, "method": {"kind": "cmaes", "generations": 3, "population": 5}},
    "lorahub": {"library": "even", "method": {"kind": "lorahub", "evaluations": 15}},
}
CAT = [kind for kind in FITS if kind != "lorahub"]


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        # A packed base must be told where samples end; another one has no use for that.
        found: torch.Tensor = model(input_ids=ids, use_cache=False, sample_lengths=(ids.shape[1],)).logits
    return found


def by_place(made: Any) -> dict[str, torch.Tensor]:
    """The weights of a fit's file."""
    content = json.loads(made.store.read("weights.json"))
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in content["values"].items()}


@pytest.mark.parametrize("kind", FITS)
def test_its_losses_are_the_naive_ones_and_its_adapter_has_them(shelf: Any, kind: str) -> None:
    made, world = shelf.fit(f"whole-{kind}", **FITS[kind]), shelf.world
    facts, experts = made.facts, shelf.even if kind == "lorahub" else world.experts
    assert facts["rows"]["held out"]["rows"] == 5 and facts["rows"]["fit"]["rows"] == (5 if kind == "cmaes" else 6)
    assert (list(facts["weights"]) == ["one", "two", "three"] and facts["fusion_error"] < 1e-6) or kind == "lorahub"
    opened = peft.PeftModel.from_pretrained(world.base(), str(made.store.local("adapter"))).eval()
    ids = torch.arange(10, 40)[None]
    if kind == "lorahub":
        fused, _ = combine(
            experts, Weights(values={"task": tuple(by_place(made)["task"].tolist())}), {"kind": "lorahub"}
        )
        changed = sums(world, [fused], torch.ones(1))
    else:
        changed = sums(world, experts, by_place(made)["task"])
        for rows, samples in (("held out", shelf.samples("test")), ("fit", shelf.samples("validation"))):
            if kind == "cmaes" and rows == "fit":
                continue
            ways = {"base": torch.zeros(3), "average": torch.full((3,), 1 / 3), "fitted": by_place(made)["task"]}
            for name, weights in ways.items():
                assert facts["losses"][rows][name] == pytest.approx(
                    float(world.naive(samples, {"task": weights})), rel=1e-5
                )
    torch.testing.assert_close(logits(opened, ids), logits(changed, ids), rtol=1e-5, atol=1e-5)
    with opened.disable_adapter():
        assert float((logits(opened, ids) - logits(changed, ids)).abs().max()) > 0.05
    text = made.store.read("card.md").decode()
    assert f"{facts['losses']['held out']['fitted']:.4f}" in text and "Not for commercial use: three" in text


def sums(world: Any, experts: list[Adapter], weights: torch.Tensor) -> Any:
    """The base with W0 + sum_i R_i s_i B_i A_i in its place, summed in whole float64 matrices."""
    model = world.base()
    for name, layer in model.named_modules():
        for expert, weight in zip(experts, weights, strict=True):
            if (f := expert.modules.get(name)) is not None:
                layer.weight.data += (weight * f.scale * f.B.double() @ f.A.double()).float()
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {"router": {"granularity": "layer", "form": "affine_norm"}},
        {"router": {"granularity": "matrix"}},
        {"experts": ["three", "one"]},
        {"rank": 2},
    ],
    ids=str,
)
def test_places_forms_and_subsets(shelf: Any, settings: dict[str, Any]) -> None:
    made = shelf.fit("x".join(map(str, settings)) + str(len(str(settings))), **FITS["gradient"], **settings)
    granularity = settings.get("router", {}).get("granularity", "task")
    places = {"task": 1, "layer": 2, "matrix": 14}[granularity]
    weights = by_place(made)
    assert len(weights) == places and list(made.facts["weights"]) == settings.get("experts", ["one", "two", "three"])
    wanted = dict(weights)
    if "experts" in settings:
        wanted = {"task": torch.tensor([weights["task"][1], 0, weights["task"][0]])}
    naive = shelf.world.naive(shelf.samples("test"), wanted, granularity)
    assert made.facts["losses"]["held out"]["fitted"] == pytest.approx(float(naive), rel=1e-5)
    assert (made.facts["fusion_error"] > 1e-2) == ("rank" in settings)
    assert max(made.facts["ranks"].values()) == 2 or "rank" not in settings
    card = made.store.read("card.md").decode()
    assert f"{places} places" in card or places == 1
    assert ("The losses are those before it was cut to rank 2." in card) == ("rank" in settings)


def test_single_is_the_tasks_own_expert(shelf: Any) -> None:
    made = shelf.fit("own", own="three", **FITS["single"])
    assert made.facts["weights"] == {"one": 0.0, "two": 0.0, "three": 1.0}
    assert "three (its own) | 1.0000" in made.store.read("card.md").decode()
    alone = read(shelf.root.sub("library/uneven"), "three")
    fused = load(made.store.read("adapter/adapter_model.safetensors"))
    assert len(fused) == 2 * len(alone.modules)


def test_its_identity_has_the_code_that_its_weights_depend_on_and_no_other() -> None:
    files = {path.relative_to(PACKAGE).as_posix() for path in artifacts.room_code(*fit.CODE)}
    assert all((PACKAGE / file).is_file() for file in files)
    assert {"evolution.py", "router/objective.py", "experts/merges/cat.py", "train/packing.py"} <= files
    assert not {"router/report.py", "router/launch.py", "router/preview.py", "router/card.py"} & files


class Killed(BaseException):
    """The process ends here."""


def killed_after(states: int, monkeypatch: pytest.MonkeyPatch, tear: bool) -> Callable[[], None]:
    """Ends the process right after so many states were saved; `tear` cuts the file of the last one."""
    plain, count = States.save, [0]

    def save(self: States, state: Any) -> None:
        plain(self, state)
        count[0] += 1
        if count[0] == states:
            if tear:
                path = self._path(self._number)
                self._store.write(path, self._store.read(path)[:-5])
            raise Killed

    monkeypatch.setattr(States, "save", save)
    return lambda: monkeypatch.setattr(States, "save", plain)


@pytest.mark.parametrize(("kind", "after", "tear"), [("gradient", 2, False), ("cmaes", 1, False), ("cmaes", 2, True)])
def test_killed_at_a_saved_state_it_goes_on_to_the_same_weights(
    shelf: Any, kind: str, after: int, tear: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, name = shelf.fit(f"whole-{kind}", **FITS[kind]), f"killed-{kind}-{after}"
    mend = killed_after(after, monkeypatch, tear)
    with pytest.raises(Killed):
        shelf.fit(name, **FITS[kind])
    mend()
    with pytest.raises(MissingArtifact, match="unfinished"):
        locate(shelf.root, "router", name)
    asked: list[str] = []

    def counting(config: FitConfig, part: Any) -> Any:
        made = shelf.here(config, part)
        losses, gradients = made.losses, made.gradients
        made.losses = lambda groups: asked.append("losses") or losses(groups)
        made.gradients = lambda weights, batches: asked.append("gradients") or gradients(weights, batches)
        return made

    again = fit.run(shelf.root, shelf.config(name, **FITS[kind]), Policy(), counting)
    for path in ("weights.json", "adapter/adapter_model.safetensors"):
        assert again.store.read(path) == whole.store.read(path)
    assert again.facts == whole.facts
    steps = [json.loads(line)["step"] for line in again.store.read("log/metrics.jsonl").decode().splitlines()]
    assert steps == list(range(1, len(steps) + 1)) and not again.store.files("state")
    # What was saved is not evaluated again: of four steps, or of three generations, after which comes the mean.
    left = (4 if kind == "gradient" else 3) - (after - tear)
    assert asked == (["gradients"] * left if kind == "gradient" else ["losses"] * (left + 1)) + ["losses"] * 2


def test_experts_of_several_bases_are_refused_before_anything_is_evaluated(shelf: Any) -> None:
    library = locate(shelf.root, "library", "uneven").store
    for path in library.files():
        content = library.read(path)
        if path == "two/adapter_config.json":
            content = content.replace(b"bases/tiny", b"bases/lean")
        shelf.root.write(f"library/mixed/{path}", content)
    with pytest.raises(ConfigError, match="expert 2: it was trained on 'artifact:bases/lean' and expert 1 on"):
        fit.run(shelf.root, shelf.config("mixed", library="mixed"), Policy(), lambda config, part: None)


def test_a_whole_fit_is_read_back_and_another_is_refused(shelf: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = shelf.fit("kept", **FITS["average"])

    def nobody(config: Any, part: Any) -> Any:
        raise AssertionError("nothing is to be done")

    config = shelf.config("kept", **FITS["average"])
    assert fit.run(shelf.root, config, Policy(), nobody).manifest == made.manifest
    assert "is whole already" in capsys.readouterr().out
    with pytest.raises(IdentityMismatch, match="split"):
        fit.run(shelf.root, shelf.config("kept", split="train", **FITS["average"]), Policy(), nobody)
    knob = {**FITS["gradient"]["method"], "save_every_steps": 7}
    first, other = (
        fit.identity_of(shelf.root, shelf.config("k", method=m)) for m in (FITS["gradient"]["method"], knob)
    )
    assert first == other


def test_it_is_a_system_like_any_other_run(shelf: Any) -> None:
    made = shelf.fit("whole-average", **FITS["average"])
    model, tokenizer = load_system(shelf.root, f"router/{made.name}", adapter=True, device=torch.device("cpu"))
    ids = torch.arange(10, 40)[None]
    wanted = sums(shelf.world, shelf.world.experts, torch.full((3,), 1 / 3))
    torch.testing.assert_close(logits(model, ids), logits(wanted, ids), rtol=1e-5, atol=1e-5)
    assert tokenizer.get_vocab()["<|im_end|>"] == 2


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"library": "none"}, MissingArtifact, "jobs/train_experts.py"),
        ({"tokens": "none"}, MissingArtifact, "jobs/build_tokens.py"),
        ({"experts": ["one", "four"]}, ConfigError, "experts='four': library/uneven has one, two, three"),
        ({"own": "four"}, ConfigError, "own='four': library/uneven has one, two, three"),
        ({"own": "one", "experts": ["two"], "method": {"kind": "single"}}, ConfigError, "method.expert='one'"),
        ({"shots": 7}, ConfigError, r"shots=7, split='validation': tokens/task has 6 such rows.*splits: test, train"),
        ({"split": "dev"}, ConfigError, "split='dev': tokens/task has 0 such rows"),
        (
            {"passes": {"micro_tokens": 20}},
            ConfigError,
            r"passes.micro_tokens=20: tokens/task has a row of \d\d tokens",
        ),
        ({"method": {"kind": "lorahub"}}, ConfigError, "merge.kind=lorahub.*ranks"),
        ({"tokens": "foreign"}, ConfigError, "tokens=foreign: made for the base elsewhere"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(
    shelf: Any, wrong: dict[str, Any], kind: type[Exception], words: str
) -> None:
    if wrong.get("tokens") == "foreign":
        content = shelf.tokens.manifest | {"facts": {"base": "elsewhere"}}
        for path in shelf.tokens.store.files():
            shelf.root.write(f"tokens/foreign/{path}", shelf.tokens.store.read(path))
        shelf.root.write("tokens/foreign/manifest.json", json.dumps(content).encode())
    with pytest.raises(kind, match=words):
        shelf.fit("wrong" + "-".join(wrong), **wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": {"kind": "newton"}}, "there are: average, cmaes, gradient, lorahub, single"),
        ({"method": {"kind": "cmaes", "sigma": -1}}, "sigma=-1"),
        ({"rank": 2, "method": {"kind": "lorahub"}}, "rank=2 with method.kind=lorahub"),
        ({"model": {"base": "x"}}, "model.base=x"),
        ({"experts": ["a", "a"]}, "one stands twice"),
        ({"held_out": {"split": "validation"}}, "held_out.split=validation"),
        ({"shots": 0}, "shots=0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(MedtrainError, match=words):
        parse(FitConfig, {"name": "x", "library": "y", "tokens": "z", **wrong})


def test_shots_are_drawn_by_seed_from_the_split(shelf: Any) -> None:
    from medtrain.router import inputs

    def drawn(**settings: Any) -> list[str]:
        given = inputs.read(shelf.root, shelf.config("x", split="train", shots=5, **settings))
        assert {sample.split for sample in given.rows["fit"]} == {"train"}
        return [sample.id for sample in given.rows["fit"]]

    every = [sample.id for sample in shelf.samples("train")]
    first = drawn()
    assert first == drawn() and len(set(first)) == 5 and [name for name in every if name in first] == first
    assert first != drawn(seed=4)
    held = [inputs.read(shelf.root, shelf.config("x", seed=seed)).rows["held out"] for seed in (1, 2)]
    assert [s.id for s in held[0]] == [s.id for s in held[1]] == [s.id for s in shelf.samples("test")]
    assert not np.isin([s.id for s in held[0]], every).any()
