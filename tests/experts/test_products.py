"""The algebra of low-rank products against (out, in) matrices in float64."""

import torch

from medtrain.experts.folder import Factors
from medtrain.experts.products import best, distance, exact_sum, norm


def drawn(rank: int, seed: int = 0, *, out: int = 30, wide: int = 20, scale: float = 1.0) -> Factors:
    """Random float64 factors."""
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, wide, generator=draw, dtype=torch.float64)
    return Factors(A, torch.randn(out, rank, generator=draw, dtype=torch.float64), scale)


def full(factors: Factors) -> torch.Tensor:
    """The (out, in) update."""
    return factors.scale * factors.B @ factors.A


def test_a_concatenation_is_the_sum_to_the_last_bits() -> None:
    parts = [(0.3, drawn(4, 1, scale=2.0)), (-1.7, drawn(2, 2)), (0.2, drawn(7, 3, scale=0.25))]
    wanted = torch.stack([weight * full(f) for weight, f in parts]).sum(0)
    found = exact_sum(parts)
    assert found.rank == 13
    assert float((full(found) - wanted).norm() / wanted.norm()) < 3e-15


def test_the_best_product_of_a_rank_is_a_full_singular_value_decomposition() -> None:
    both = exact_sum([(1.0, drawn(4, 1)), (0.5, drawn(5, 2, scale=3.0))])
    whole = Factors(both.A, both.B, 0.7)
    U, S, Vh = torch.linalg.svd(full(whole))
    for rank in (1, 3, 8, 9, 15, 40):
        found = best(whole, rank)
        wanted = (U[:, :rank] * S[:rank]) @ Vh[:rank] if rank < 20 else full(whole)
        torch.testing.assert_close(full(found), wanted, rtol=1e-12, atol=1e-12)
        assert found.rank == min(rank, 9)
        torch.testing.assert_close(distance(whole, found), float(S[rank:].norm()), rtol=1e-10, atol=1e-12)


def test_factors_taller_than_their_matrix_are_cut_to_it() -> None:
    whole = exact_sum([(1.0, drawn(15, 1)), (0.5, drawn(15, 2))])
    found = best(whole, 40)
    assert found.rank == 20
    torch.testing.assert_close(full(found), full(whole), rtol=1e-12, atol=1e-12)


def test_norms_and_distances_are_those_of_the_matrices() -> None:
    one, other = drawn(3, 1, scale=0.7), drawn(5, 2)
    torch.testing.assert_close(norm(one), float(full(one).norm()), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(distance(one, other), float((full(one) - full(other)).norm()), rtol=1e-12, atol=0.0)
    # A distance of 1e-8 of the norm keeps its digits: squared products would have lost them all.
    near = Factors(one.A * (1 + 1e-8), one.B, one.scale)
    torch.testing.assert_close(distance(one, near) / norm(one), 1e-8, rtol=1e-6, atol=0.0)
