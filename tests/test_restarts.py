"""Restarts: IPOP's and BIPOP's runs against the rules as they were published."""

import numpy as np
import pytest

from medtrain.restarts import Restarts, Run


def test_ipop_doubles_until_its_limit() -> None:
    restarts = Restarts("ipop", 3, 6, np.random.RandomState(1))
    assert [restarts.next(100) for _ in range(4)] == [Run(12), Run(24), Run(48), None]


def test_bipop_makes_small_runs_while_they_took_fewer_points() -> None:
    restarts, random = Restarts("bipop", 3, 6, np.random.RandomState(1)), np.random.RandomState(1)
    assert restarts.next(100) == Run(12)  # the first run was a small one, and there was no large one yet
    small = large = 0
    small, large = 100, 1000
    seen, taken = [], 1000
    for _ in range(20):
        run = restarts.next(taken)
        assert run is not None
        seen.append(run)
        if run.evaluations is None:
            break
        assert run.sigma_factor == pytest.approx(0.01 ** random.uniform())
        assert run.population == int(6 * 2 ** random.uniform() ** 2)
        assert run.evaluations == large // 2
        taken = 300
        small += taken
    assert small == 1000 and seen[-1] == Run(24) and len(seen) == 4


def test_bipop_ends_after_its_last_large_run() -> None:
    restarts = Restarts("bipop", 1, 6, np.random.RandomState(1))
    assert restarts.next(100) == Run(12)
    assert restarts.next(500) is None
    assert Restarts("bipop", 0, 6, np.random.RandomState(1)).next(9) is None
