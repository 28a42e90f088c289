"""The statistics of validate_task.py against scipy, published values and plain enumeration."""

from __future__ import annotations

import itertools

import pytest
from scipy import stats

import validate_task as v

SIZES = (1, 2, 3, 7, 15, 30, 100, 1000)
COUNTS = [(k, n) for n in SIZES for k in sorted({0, 1, n // 4, n // 2, n - 1, n})]


@pytest.mark.parametrize(("passes", "n"), COUNTS)
def test_wilson_agrees_with_scipy(passes: int, n: int) -> None:
    """The interval is scipy's Wilson interval, at every size and at both ends."""
    expected = stats.binomtest(passes, n).proportion_ci(0.95, method="wilson")
    assert v.wilson(passes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_four_in_fifteen_is_as_published() -> None:
    """4/15 has the interval 10.9 to 52.0 %."""
    low, high = v.wilson(4, 15)
    assert (round(low, 3), round(high, 3)) == (0.109, 0.520)


@pytest.mark.parametrize("n", SIZES)
def test_wilson_ends_exactly_at_zero_and_one(n: int) -> None:
    """No pass gives a lower end of exactly 0, all passes an upper end of exactly 1."""
    assert v.wilson(0, n)[0] == 0.0
    assert v.wilson(n, n)[1] == 1.0


def test_wilson_of_nothing_is_everything() -> None:
    """Without attempts every rate is possible, and nothing divides by zero."""
    assert v.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.10, 0.40), "in range"),
        ((0.0999, 0.30), "inconclusive"),
        ((0.20, 0.4001), "inconclusive"),
        ((0.0, 0.0999), "outside"),
        ((0.0, 0.10), "inconclusive"),
        ((0.4001, 0.9), "outside"),
        ((0.40, 0.9), "inconclusive"),
        ((0.0, 1.0), "inconclusive"),
    ],
)
def test_verdict_follows_the_interval(interval: tuple[float, float], verdict: str) -> None:
    """In range only if the whole interval is, outside only if none of it is."""
    assert v.verdict_on(interval) == verdict


def test_what_fifteen_attempts_can_prove() -> None:
    """At n = 15 nothing proves "in range", and only ten passes or more prove "outside"."""
    verdicts = [v.verdict_on(v.wilson(k, 15)) for k in range(16)]
    assert verdicts == ["inconclusive"] * 10 + ["outside"] * 6


def test_the_first_size_that_can_prove_in_range() -> None:
    """The smallest run that can end "in range" has 28 attempts, 6 of them passed."""
    hits = [(n, k) for n in range(1, 29) for k in range(n + 1)
            if v.verdict_on(v.wilson(k, n)) == "in range"]
    assert hits == [(28, 6)]


@pytest.mark.parametrize("rate", [0.0, 0.03, 0.1, 0.4, 0.97, 1.0])
@pytest.mark.parametrize("n", [1, 15, 200, 5000])
def test_binomial_tail_agrees_with_scipy(n: int, rate: float) -> None:
    """P(X >= k) is scipy's, also where factorials would overflow a float and at rates 0 and 1."""
    for k in {-1, 0, 1, n // 10, n // 2, n, n + 1}:
        assert v.at_least(k, n, rate) == pytest.approx(stats.binom.sf(k - 1, n, rate), abs=1e-9)


@pytest.mark.parametrize(("passes", "n"), [(0, 0), *COUNTS])
def test_probability_in_range_agrees_with_scipy(passes: int, n: int) -> None:
    """P(rate in 10-40 %) is that of the Beta(1 + passes, 1 + failures) posterior."""
    posterior = stats.beta(1 + passes, 1 + n - passes)
    expected = posterior.cdf(0.4) - posterior.cdf(0.1)
    assert v.probability_in_range(passes, n) == pytest.approx(expected, abs=1e-9)


def test_probability_in_range_has_the_known_values() -> None:
    """The known table for 15 attempts, 0 to 10 of them passed."""
    known = [0.19, 0.51, 0.77, 0.87, 0.82, 0.67, 0.47, 0.28, 0.14, 0.06, 0.02]
    assert [round(v.probability_in_range(k, 15), 2) for k in range(11)] == known


@pytest.mark.parametrize("n", [5, 15, 28, 50, 105])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.35, 0.6])
def test_chance_of_a_verdict_agrees_with_enumeration(n: int, rate: float) -> None:
    """The chance of a conclusive verdict is the sum over all outcomes that give one."""
    expected = sum(stats.binom.pmf(k, n, rate) for k in range(n + 1)
                   if v.verdict_on(v.wilson(k, n)) != "inconclusive")
    assert v.chance_of_verdict(rate, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("rate", "n"),
    [(0.05, 242), (0.20, 95), (4 / 15, 105), (0.35, 757), (0.60, 48), (0.01, 53), (0.80, 13)],
)
def test_attempts_to_settle_has_the_known_values(rate: float, n: int) -> None:
    """The known sizes for an 80 % chance of a conclusive verdict."""
    assert v.attempts_to_settle(rate) == n


@pytest.mark.parametrize("rate", [0.10, 0.40])
def test_no_number_settles_a_rate_on_the_edge(rate: float) -> None:
    """A true rate on an edge of the range is never settled, and that is said with None."""
    assert v.attempts_to_settle(rate) is None


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_of_nothing_or_all_is_settled(rate: float) -> None:
    """0 and 100 % observed give a number too."""
    assert v.attempts_to_settle(rate) in range(5, 60)


def test_pass_at_k_agrees_with_enumeration() -> None:
    """pass@k is the share of k-subsets of the attempts that hold a pass."""
    for n, passes, k in [(5, 2, 1), (5, 2, 3), (6, 1, 5), (6, 0, 3), (6, 6, 2), (7, 3, 7)]:
        subsets = list(itertools.combinations([1] * passes + [0] * (n - passes), k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert v.pass_at_k(passes, n, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_has_the_published_values() -> None:
    """4/15: 26.7 % at 1, 63.7 % at 3, 84.6 % at 5, where the naive formula says 60.6 and 78.8."""
    assert [round(v.pass_at_k(4, 15, k), 3) for k in (1, 3, 5)] == [0.267, 0.637, 0.846]


def test_statistics_of_no_graded_attempt() -> None:
    """Where all attempts ended in errors there is no rate and no verdict, and nothing raises."""
    figures = v.statistics(0, 0, complete=True)
    assert figures["success_rate"] is None
    assert figures["verdict"] == "none"
    assert figures["interval_95"] is None
    assert figures["probability_in_range"] is None
    assert figures["pass_at_k"] == {}


@pytest.mark.parametrize(
    ("n", "ks"), [(1, []), (2, ["1"]), (9, ["1", "3"]), (20, ["1", "3", "5", "10"])]
)
def test_pass_at_k_is_given_up_to_half_of_the_attempts(n: int, ks: list[str]) -> None:
    """Beyond that nearly all choices of k attempts overlap, and the figure says little."""
    assert list(v.statistics(1, n, complete=True)["pass_at_k"]) == ks


def test_an_incomplete_run_has_no_verdict() -> None:
    """12/15 proves "outside", but not in a run whose long attempts are still missing."""
    assert v.statistics(12, 15, complete=True)["verdict"] == "outside"
    assert v.statistics(12, 15, complete=False)["verdict"] == "none"


@pytest.mark.parametrize(("passes", "status"), [(1, "below"), (4, "in range"), (7, "above")])
def test_point_estimate_has_a_status_of_its_own(passes: int, status: str) -> None:
    """The point estimate says where the observed rate lies, whatever the verdict."""
    figures = v.statistics(passes, 15, complete=True)
    assert figures["point_estimate"] == status
    assert figures["verdict"] == "inconclusive"


def test_why_not_to_stop_when_the_verdict_pleases() -> None:
    """At a true rate on the edge, 200 attempts end in a wrong "in range" 3 times in 100; looking
    after every attempt and stopping at the first "in range", 16 times."""

    def in_range(passes: int, n: int) -> bool:
        return v.verdict_on(v.wilson(passes, n)) == "in range"

    alive, stopped = {0: 1.0}, 0.0
    for n in range(1, 201):
        later = dict.fromkeys(range(n + 1), 0.0)
        for passes, mass in alive.items():
            later[passes] += 0.9 * mass
            later[passes + 1] += 0.1 * mass
        stopped += sum(mass for passes, mass in later.items() if in_range(passes, n))
        alive = {passes: mass for passes, mass in later.items() if not in_range(passes, n)}
    once = sum(stats.binom.pmf(k, 200, 0.1) for k in range(201) if in_range(k, 200))
    assert (round(once, 2), round(stopped, 2)) == (0.03, 0.16)


@pytest.mark.parametrize(("rate", "share"), [(0.05, 0.17), (0.5, 0.30)])
def test_why_the_point_estimate_is_no_verdict(rate: float, share: float) -> None:
    """2 to 6 passes of 15 are "in range" as a point estimate; rates far outside give that often."""
    hits = [k for k in range(16) if v.range_of(k / 15) == "in range"]
    assert hits == [2, 3, 4, 5, 6]
    assert round(sum(stats.binom.pmf(k, 15, rate) for k in hits), 2) == share
