"""Confidence sequences: they hold at every moment at once, for any counts, and know what they do not know."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.sequences import JEFFREYS, Side, bounds, log_wealth, prior_near, side, trials_to_pass

LIMITS = [0.0001, 0.001, 0.05, 0.3, 0.9]
rates = st.floats(1e-6, 1 - 1e-6)
alphas = st.floats(1e-6, 0.5)


@st.composite
def counts(draw: st.DrawFn, most: int = 10**9) -> tuple[int, int]:
    n = draw(st.integers(1, most))
    return draw(st.integers(0, n)), n


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_the_wealth_is_1_on_the_average(limit: float, n: int) -> None:
    """Under the rate that is bet against, the mean over all outcomes is 1: a fair game, so Ville's inequality holds."""
    mean = sum(
        math.comb(n, k) * limit**k * (1 - limit) ** (n - k) * math.exp(log_wealth(k, n, limit, prior_near(limit)))
        for k in range(n + 1)
    )
    assert mean == pytest.approx(1)


@given(counts(10**6), rates)
def test_the_wealth_neither_grows_nor_shrinks_by_a_further_observation(found: tuple[int, int], p: float) -> None:
    """One more observation leaves the wealth as it is, on the average over its two outcomes: a martingale."""
    k, n = found
    prior = prior_near(0.001)
    now = log_wealth(k, n, p, prior)
    hit, miss = (log_wealth(k + more, n + 1, p, prior) - now for more in (1, 0))
    assert p * math.exp(hit) + (1 - p) * math.exp(miss) == pytest.approx(1, rel=1e-4)


@given(counts(1000), rates, st.floats(0, 1))
def test_fractions_are_no_bet_to_win_by(found: tuple[int, int], p: float, x: float) -> None:
    """An observation between 0 and 1 is worth at most as much as the coin of the same mean: still no winning game."""
    k, n = found
    prior = (JEFFREYS,)
    now = log_wealth(k, n, p, prior)
    hit, miss, between = (math.exp(log_wealth(k + more, n + 1, p, prior) - now) for more in (1, 0, x))
    assert between <= (x * hit + (1 - x) * miss) * (1 + 1e-6)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.4])
def test_looking_at_every_observation_is_as_honest_as_looking_once(rate: float) -> None:
    """The chance that the true rate is ever ruled out, over all paths of 400, is below alpha, and not nothing."""
    alpha, prior = 0.05, prior_near(rate)
    standing, ruled_out = {0: 1.0}, 0.0
    for n in range(1, 401):
        after: dict[int, float] = {}
        for k, chance in standing.items():
            after[k] = after.get(k, 0.0) + chance * (1 - rate)
            after[k + 1] = after.get(k + 1, 0.0) + chance * rate
        standing = {}
        for k, chance in after.items():
            if log_wealth(k, n, rate, prior) >= -math.log(alpha):
                ruled_out += chance
            elif chance > 1e-12:
                standing[k] = chance
    assert 0.005 < ruled_out <= alpha


@given(counts(), alphas, st.sampled_from(LIMITS))
@example((0, 10**9), 0.05, 0.001)
@example((10**9, 10**9), 0.05, 0.001)
@example((5 * 10**8, 10**9), 1e-6, 0.3)
def test_the_bounds_hold_what_was_observed(found: tuple[int, int], alpha: float, limit: float) -> None:
    """0 <= low <= observed <= high <= 1, with no certainty beyond the ends, for any counts up to a thousand million."""
    k, n = found
    low, high = bounds(k, n, alpha, prior_near(limit))
    assert 0 <= low <= k / n <= high <= 1
    assert (low == 0) if k == 0 else low < k / n
    assert (high == 1) if k == n else high > k / n


@given(counts(10**6), alphas, st.sampled_from(LIMITS))
def test_bounds_and_sides_agree(found: tuple[int, int], alpha: float, limit: float) -> None:
    """A limit is ruled out on the side on which the bounds leave it, but for rounding."""
    k, n = found
    low, high = bounds(k, n, alpha, prior_near(limit))
    where = side(k, n, limit, alpha)
    if abs(low - limit) < 1e-9 or abs(high - limit) < 1e-9:
        return
    assert where is (Side.ABOVE if low > limit else Side.WITHIN if high < limit else Side.UNSURE)


def test_less_alpha_is_wider_and_more_observations_narrower() -> None:
    """What one pays: certainty costs width; evidence buys it back."""
    wide, narrow = bounds(7, 1000, 0.001), bounds(7, 1000, 0.1)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    later = bounds(700, 100_000, 0.1)
    assert narrow[0] < later[0] < later[1] < narrow[1]


def test_nothing_observed_rules_nothing_out() -> None:
    """No traffic: every rate is possible, and no limit is known to be kept or not."""
    assert bounds(0, 0, 0.05) == (0.0, 1.0)
    assert side(0, 0, 0.001, 0.05) is Side.UNSURE


def test_limits_at_the_ends() -> None:
    """Any hit exceeds a limit of 0, which nothing shows to be kept; a limit of 1 is kept always."""
    assert side(0, 10**9, 0.0, 0.05) is Side.UNSURE
    assert side(1, 10**9, 0.0, 0.05) is Side.ABOVE
    assert side(5, 5, 1.0, 0.05) is Side.WITHIN
    assert trials_to_pass(0, 0.0, 0.05) is None


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("hits", [0, 1, 20])
def test_as_many_as_are_enough_and_not_fewer(hits: int, limit: float) -> None:
    """With so many trials it passes, and with one fewer it does not yet."""
    enough = trials_to_pass(hits, limit, 0.05)
    assert enough is not None
    assert enough > hits / limit
    assert side(hits, enough, limit, 0.05) is Side.WITHIN
    assert side(hits, enough - 1, limit, 0.05) is not Side.WITHIN


@pytest.mark.parametrize(("k", "n", "alpha"), [(-1, 5, 0.05), (6, 5, 0.05), (1, 5, 0), (1, 5, 1), (1, 5, 2)])
def test_what_is_no_sequence_is_refused(k: int, n: int, alpha: float) -> None:
    """Counts that cannot be and an alpha that is no chance are errors of the one who calls."""
    with pytest.raises(ValueError, match="no such sequence"):
        bounds(k, n, alpha)
    with pytest.raises(ValueError, match="no such sequence"):
        side(k, n, 0.1, alpha)
