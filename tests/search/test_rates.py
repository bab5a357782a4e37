"""The constants against pycma's, where the two agree, and against the paper's bounds."""

import cma
import numpy as np
import pytest

from medtrain.search.rates import rates


@pytest.mark.parametrize("dimension", [2, 5, 10])
@pytest.mark.parametrize("count", [6, 8, 13])
def test_the_constants_are_pycma_s(dimension: int, count: int) -> None:
    ours = rates(dimension, count)
    state = np.random.get_state()
    theirs = cma.CMAEvolutionStrategy([0.0] * dimension, 1.0, {"popsize": count, "verbose": -9})
    np.random.set_state(state)
    mu = theirs.sp.weights.mu
    np.testing.assert_allclose(ours.weights[:mu], list(theirs.sp.weights)[:mu], rtol=1e-12)
    assert ours.mu_eff == pytest.approx(theirs.sp.weights.mueff)
    assert ours.chi == pytest.approx(cma.utilities.math.Mh.chiN(dimension), rel=1e-4)
    assert ours.c_1 == pytest.approx(theirs.sp.c1, rel=0.05)
    assert ours.c_mu == pytest.approx(theirs.sp.cmu, rel=0.05)
    assert ours.weights[ours.weights < 0].sum() == pytest.approx(
        sum(weight for weight in theirs.sp.weights if weight < 0), rel=0.05
    )


@pytest.mark.parametrize("faster", [(1.0, 1.0), (2.0, 1.5), (50.0, 50.0)])
@pytest.mark.parametrize("count", [2, 3, 9, 40])
def test_the_covariance_can_never_lose_its_sign(count: int, faster: tuple[float, float]) -> None:
    """Negative steps are as long as sqrt(d), so that all together take less than what is kept of each axis."""
    for dimension in (1, 2, 10):
        found = rates(dimension, count, faster)
        bad = -found.weights[found.weights < 0].sum()
        assert found.weights[found.weights > 0].sum() == pytest.approx(1.0)
        kept = 1 - found.c_1 - found.c_mu * (1 - bad)
        assert kept - found.c_mu * dimension * bad > -1e-12 and found.c_1 + found.c_mu < 1
        assert 0 < found.c_sigma < 1 and 0 < found.c_c <= 1 and found.damping >= 1


def test_one_point_has_no_order() -> None:
    with pytest.raises(ValueError, match="two points at least"):
        rates(2, 1)
