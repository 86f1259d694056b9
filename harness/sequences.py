"""Confidence sequences: bounds of a rate that hold at every moment at once, however often somebody looks.

Let X₁, X₂ … be zeros and ones (or anything between) of mean p, k the sum of the first n. For any prior on the rate

    M_n(p) = ∫ q^k (1-q)^(n-k) dprior(q) / (p^k (1-p)^(n-k)),
    which for the prior Beta(a, b) is B(a+k, b+n-k) / (B(a, b) p^k (1-p)^(n-k)),

is what a gambler owns who started with 1 and bet against p: a martingale of mean 1 if p is the rate. By Ville's
inequality it ever reaches 1/alpha with probability alpha at most, so the rates at which it has not, an interval, hold
the true one at all times together with probability 1 - alpha. Nothing is assumed of when anybody looks or stops.

Sources: H. Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", Annals of Mathematical
Statistics 41(5), 1970 (the method of mixtures). S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2), 2021 (conjugate mixtures, the
beta-binomial among them). I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting",
Journal of the Royal Statistical Society B 86(1), 2024 (the same as a capital that is bet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

_STEPS = 100  # of a bisection; each halves what is left
_MOST = 1 << 60  # trials


class Side(Enum):
    """Where the rate is for certain, of a limit."""

    ABOVE = "above"
    WITHIN = "within"  # at or below
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Beta:
    """A part of the prior, with its weight; the weights of all parts make 1."""

    weight: float
    a: float
    b: float


JEFFREYS = Beta(1.0, 0.5, 0.5)


def prior_near(limit: float) -> tuple[Beta, ...]:
    """The prior for a question about ``limit``.

    Three quarters of it have their mean there, which is sharp for rates around and below the limit: how soon a good
    rate passes depends on it. One quarter is spread over all rates, so that a rate far beyond is seen within a few
    observations: alone the first part would need twice as many. Any prior is valid; a bad one only takes longer.
    """
    if not 0 < limit < 0.5:
        return (JEFFREYS,)
    return Beta(0.75, 0.5, 0.5 * (1 - limit) / limit), Beta(0.25, 0.5, 0.5)


def log_wealth(k: float, n: float, p: float, prior: Sequence[Beta]) -> float:
    """The natural logarithm of M_n(p); infinite for a rate that the observations rule out."""
    return _log_mixture(k, n, prior) - _log_likelihood(k, n, p)


def bounds(k: float, n: float, alpha: float, prior: Sequence[Beta] = (JEFFREYS,)) -> tuple[float, float]:
    """The least and the greatest rate that k in n leave possible; from 0 to 1 while nothing is known."""
    _check(k, n, alpha)
    if n == 0:
        return 0.0, 1.0
    most = _log_mixture(k, n, prior) + math.log(alpha)  # a rate of less likelihood than this is ruled out
    return _edge(k, n, most, 0.0), _edge(k, n, most, 1.0)


def side(k: float, n: float, limit: float, alpha: float, prior: Sequence[Beta] | None = None) -> Side:
    """Whether the rate is for certain above ``limit``, or at or below it. ``prior``: as it is near the limit.

    What is never ruled out is decided by counting alone: a limit of 0 is exceeded by the first hit and never shown
    to be kept, one of 1 is always kept.
    """
    _check(k, n, alpha)
    if limit >= 1:
        return Side.WITHIN
    if n == 0 or log_wealth(k, n, limit, prior or prior_near(limit)) < -math.log(alpha):
        return Side.UNSURE
    return Side.ABOVE if k > n * limit else Side.WITHIN


def trials_to_pass(k: float, limit: float, alpha: float) -> int | None:
    """Of how many observations k hits are for certain within the limit; None for a limit of 0."""
    if limit <= 0:
        return None
    low, high = math.ceil(k), _MOST
    if side(k, high, limit, alpha) is not Side.WITHIN:
        return None
    while low < high:  # beyond k / limit each further observation without a hit is evidence for the same side
        middle = (low + high) // 2
        if side(k, middle, limit, alpha) is Side.WITHIN:
            high = middle
        else:
            low = middle + 1
    return low


def _check(k: float, n: float, alpha: float) -> None:
    if not (0 <= k <= n and 0 < alpha < 1):
        raise ValueError(f"no such sequence: {k} in {n}, alpha {alpha}")


def _log_mixture(k: float, n: float, prior: Sequence[Beta]) -> float:
    logs = [
        math.log(part.weight) + _log_beta(part.a + k, part.b + (n - k)) - _log_beta(part.a, part.b) for part in prior
    ]
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(k: float, n: float, p: float) -> float:
    """Of k in n at the rate p."""
    if (k and p <= 0) or (k < n and p >= 1):
        return -math.inf
    return (k * math.log(p) if k else 0.0) + ((n - k) * math.log1p(-p) if k < n else 0.0)


def _edge(k: float, n: float, most: float, end: float) -> float:
    """The bound between the observed rate and ``end``: the likelihood falls all the way. On the side of caution."""
    inside, outside = k / n, end
    if _log_likelihood(k, n, end) > most:
        return end
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            break
        if _log_likelihood(k, n, middle) > most:
            inside = middle
        else:
            outside = middle
    return outside
