"""The report of a plan: losses and weights as its routers have them, sweeps over one setting alone."""

import json
from typing import Any

from medtrain.artifacts import Artifact, Policy
from medtrain.config import parse
from medtrain.router import fit, plan, report
from medtrain.router.plan import RoutingPlan

MEAN = {"method": {"kind": "average"}}


def planned(**variants: Any) -> RoutingPlan:
    shared = {"passes": {"micro_tokens": 128, "candidates_per_pass": 2}, "model": {"precision": "fp32"}}
    tasks = {"x": {"tokens": "task", "own": "two"}, "y": {"tokens": "task", "fit": {"experts": ["three", "one"]}}}
    content = {"name": "r", "library": "even", "fit": shared, "tasks": tasks, "variants": variants}
    return parse(RoutingPlan, content)


def test_a_page_of_losses_and_weights(shelf: Any) -> None:
    asked = planned(single={"method": {"kind": "single"}}, average=MEAN)
    made = [fit.run(shelf.root, config, Policy(), shelf.here) for config in plan.fits(asked).values()]
    built = report.build(shelf.root, asked, made, Policy())
    found = json.loads(built.store.read("losses.json"))
    held = [router.facts["losses"]["held out"] for router in made]
    assert list(found) == ["x", "y"]
    assert found["x"] == {"base": held[0]["base"], "single": held[0]["fitted"], "average": held[1]["fitted"]}
    html = built.store.read("report.html").decode()
    assert (
        html.count("<svg") == 2
        and "own expert first in 1 of 1" in html
        and "own expert first in 0 of 1" in html
        and "5 held out" in html
    )
    for line in found.values():
        assert all(f"{loss:.4f}" in html for loss in line.values())
        assert f'badge better">{min(line.values()):.4f}' in html
    assert "y, one: 0.5000" in html and "y, two: 0.0000" in html and "x, two: 0.3333" in html
    assert not any(part in html for part in ("<script", "src=", "href=", "@import"))
    assert report.build(shelf.root, asked, made, Policy()).manifest == built.manifest


def test_losses_by_number_of_examples_are_drawn(shelf: Any) -> None:
    asked = planned(**{f"of-{count}": {"split": "train", "shots": count, **MEAN} for count in (3, 5)})
    cells = {cell: fit.run(shelf.root, config, Policy(), shelf.here) for cell, config in plan.fits(asked).items()}
    html = report.page(asked, cells, "f00d")
    drawn = html.partition("Held-out loss by number of examples")[2]
    assert drawn.count("<polyline") == 3 and "x, average" in drawn and "y, average" in drawn and ">mean<" in drawn
    assert "Held-out loss by number of experts" not in html


def router(name: str, loss: float, weights: int = 2, rows: int = 4, **config: Any) -> Artifact:
    """A router as its manifest tells of it."""
    facts = {
        "method": "cmaes",
        "weights": dict.fromkeys("abcdef"[:weights], 1 / weights),
        "rows": {"fit": {"rows": rows}},
        "losses": {"held out": {"base": 9.0, "fitted": loss}},
    }
    manifest = {"identity": {"config": {"name": name, "seed": 1, "tau": 1.0, **config}}, "facts": facts}
    return Artifact("router", name, None, manifest)  # type: ignore[arg-type]


def test_a_sweep_is_over_one_setting_and_means_over_seeds() -> None:
    cells = {
        ("x", "a"): router("a", 1.0, rows=4, shots=4),
        ("x", "b"): router("b", 2.0, rows=8, shots=8),
        ("x", "c"): router("c", 4.0, rows=8, shots=8, seed=2),
        ("x", "d"): router("d", 7.0, rows=16, shots=16, tau=0.5),
        ("x", "e"): router("e", 5.0, weights=3, shots=4, experts=["a", "b", "c"]),
        ("x", "f"): router("f", 6.0, weights=3, shots=4, experts=["d", "b", "c"]),
        ("x", "g"): router("g", 3.0, weights=2, shots=4, experts=["d", "b"]),
    }
    shots = report.sweep(cells, "shots", lambda facts: facts["rows"]["fit"]["rows"])
    assert shots == [("x, cmaes", [(4, 1.0), (8, 3.0)])]
    experts = report.sweep(cells, "experts", lambda facts: len(facts["weights"]))
    assert experts == [("x, cmaes", [(2, 2.0), (3, 5.5)])]


def test_curves_of_the_same_numbers_have_a_mean() -> None:
    picture, legend = report.picture([("x", [(1, 2.0), (3, 4.0)]), ("y", [(1, 4.0), (3, 8.0)])], "experts")
    assert [label for label, _ in legend] == ["x", "y", "mean"] and picture.count("<polyline") == 3
    _, alone = report.picture([("x", [(1, 2.0), (3, 4.0)]), ("y", [(1, 4.0), (2, 8.0)])], "experts")
    assert [label for label, _ in alone] == ["x", "y"]


def test_rows_that_were_fitted_to_stand_in_where_none_are_held_out(shelf: Any) -> None:
    made = shelf.fit("nothing-held", held_out={"split": "nowhere"}, **MEAN)
    assert "held out" not in made.facts["losses"] and report.rows_of({("x", "m"): made}, "x") == "fit"
    fitted_to = made.facts["losses"]["fit"]
    assert report.losses({("x", "m"): made}) == {"x": {"base": fitted_to["base"], "m": fitted_to["fitted"]}}
    content = {"name": "n", "library": "uneven", "tasks": {"x": {"tokens": "task"}}, "variants": {"m": MEAN}}
    html = report.page(parse(RoutingPlan, content), {("x", "m"): made}, "f00d")
    assert "those fitted to" in html and 'badge better">' not in html
    assert "nothing is known of other rows" in made.store.read("card.md").decode()
