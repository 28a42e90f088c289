"""The statistics of the checks: a right layer never fails them, a wrong one always does.

The layers here are ours and run in this process, on probes drawn for many digests: what is
tested is the probe and the pure checks, without a sandbox.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats

import variance_dropout_task as task

PROBES = 30
STAGES = (task.SCREENING, task.CONFIRMATION)
REQUIRED_POWER = 1e-9


class Layer:
    """A right layer that a test makes wrong in one respect."""

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        self.rate, self.rng, self.training = rate, rng, True

    def factor(self) -> float:
        return float((1 - self.rate) ** -0.5)

    def drop_rate(self) -> float:
        return self.rate

    def mask(self, shape: tuple[int, ...]) -> Any:
        return self.rng.random(shape) >= self.drop_rate()

    def __call__(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if not self.training or self.rate == 0:
            return x
        return np.asarray(x * self.mask(x.shape) * self.factor()).astype(x.dtype)


def answer(
    step: task.Step, layers: dict[int, Layer], make: Callable[..., Layer], rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """What the child would answer to a step."""
    if step.op == "new":
        layers[step.layer] = make(step.rate, rng)
    if step.op == "mode":
        layers[step.layer].training = step.argument == "train"
    if step.op in ("new", "mode"):
        return np.array([step.rate, layers[step.layer].training], dtype=float)
    if step.op == "call":
        return layers[step.layer](step.x)
    return np.ones(step.x.size)


def evidence(
    make: Callable[..., Layer], number: int, stage: task.Stage = task.SCREENING
) -> task.Evidence:
    """What grading would gather of a layer, for the probe of one digest."""
    probe = task.draw_probe(hashlib.sha256(str(number).encode()).digest(), stage)
    rng = np.random.default_rng(number)
    layers: dict[int, Layer] = {}
    frames = [("A", memoryview(b"\x01")), ("A", memoryview(b""))]
    for step in probe.steps:
        frames.append(("A", memoryview(answer(step, layers, make, rng).tobytes())))
    submission = task.Submission(b"", None, None)
    return task.gather_evidence(submission, probe, task.Run(frames, "done", ""))


def failures(make: Callable[..., Layer], number: int) -> dict[str, str]:
    """The checks that fail in the end, after one stage or two."""
    for stage in STAGES:
        found = task.judge(evidence(make, number, stage))
        if found:
            break
    assert found
    return {name: f.failure_mode for name, f in found if f.failure_mode}


def counts(gathered: task.Evidence) -> dict[float, tuple[int, int]]:
    """How many units there are at each rate, and how many were dropped."""
    assert gathered.calls is not None
    totals: dict[float, tuple[int, int]] = {}
    for step, n, k in zip(
        gathered.calls.steps, gathered.calls.units[0], gathered.calls.drops[0], strict=True
    ):
        before = totals.get(step.rate, (0, 0))
        totals[step.rate] = before[0] + int(n), before[1] + int(k)
    return totals


@pytest.mark.parametrize("stage", STAGES)
def test_a_right_layer_passes_every_probe(stage: task.Stage) -> None:
    """At the level that fails it in the end; in the first stage, few are looked at again."""
    again = 0
    for number in range(PROBES):
        found = task.judge(evidence(Layer, number, stage))
        again += not found
        assert not any(finding.failure_mode for _, finding in found)
    assert again <= 2 * (stage is task.SCREENING)


def surprise(k: int, n: int, p: float) -> float:
    """The divergence that the drop-rate check compares with its level, as a share of it."""
    parts = ((k, p), (n - k, 1 - p))
    divergence = sum(part * math.log(part / (n * q)) for part, q in parts if part)
    return divergence / math.log(2 / task.ALPHA)


def accepted(n: int, p: float, alpha: float = task.ALPHA) -> tuple[int, int]:
    """The smallest and the largest count that the drop-rate check accepts."""
    counts = np.flatnonzero(task._is_plausible(np.arange(n + 1), n, p, alpha))
    return int(counts[0]), int(counts[-1])


def test_a_right_layer_is_far_from_the_last_level() -> None:
    """Over all rates of all probes, no drop rate comes near the level that fails."""
    worst = max(
        surprise(k, n, rate)
        for number in range(PROBES)
        for rate, (n, k) in counts(evidence(Layer, number, task.CONFIRMATION)).items()
    )
    assert 0.1 < worst < 0.7


@pytest.mark.parametrize("p", [0.001, 0.05, 0.3, 0.5, 0.7, 0.95, 0.99])
@pytest.mark.parametrize("n", [30, 1000, 54_000])
def test_drop_rate_level_is_a_bound(p: float, n: int) -> None:
    """The exact binomial probability that a right layer fails is at most ALPHA."""
    low, high = accepted(n, p)
    assert stats.binom.cdf(low - 1, n, p) + stats.binom.sf(high, n, p) <= task.ALPHA


def test_a_drop_rate_is_plausible_if_nothing_or_all_is_dropped() -> None:
    """Counts of 0 and n have no logarithm."""
    k, n, p = np.array([0, 3, 0, 30]), np.array([3, 3, 30, 30]), np.array([0.001, 0.999, 0.9, 0.1])
    assert task._is_plausible(k, n, p, 1e-4).tolist() == [True, True, False, False]


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("n", [300, 2048, 20_000])
@pytest.mark.parametrize("side", [-1, 1])
def test_correlation_limit_is_a_bound(p: float, n: int, side: int) -> None:
    """Chernoff's bound, from the exact distribution of the products, is below ALPHA."""
    q = 1 - p
    values = np.array([q * q, -p * q, p * p]) / (p * q) * side
    weights = np.array([p * p, 2 * p * q, q * q])
    level = math.log(2 / task.ALPHA)
    limit = task.correlation_limit((p, p), n, task.ALPHA)
    limit -= 2 * level / n  # what the estimate of p moves
    exponents = [
        n * (math.log(weights @ np.exp(scale * values)) - scale * limit)
        for scale in np.geomspace(1e-4, 10, 2000)
    ]
    assert math.exp(min(exponents)) <= task.ALPHA


@pytest.mark.parametrize("share", [0.002, 0.05, 0.3, 0.5])
def test_drop_rate_level_is_a_bound_for_two_masks(share: float) -> None:
    """The units that two masks drop both: the exact probability for independent masks."""
    n = 512
    dropped = math.ceil(share * n)
    for k in {dropped, dropped // 2 + 1, n // 2}:
        low, high = accepted(k, dropped / n, 3e-4)
        both = stats.hypergeom(n, dropped, k)
        assert both.cdf(low - 1) + both.sf(high) <= 3e-4


@pytest.mark.parametrize("p", [0.002, 0.05, 0.3, 0.5, 0.7, 0.93, 0.998])
def test_evenness_is_a_bound(p: float) -> None:
    """The exact mean of what is bounded is at most what the bound takes it for."""
    for n in (math.ceil(spread / (p * (1 - p))) for spread in (12, 20, 45, 300)):
        k = np.arange(n + 1)
        exact = stats.binom.pmf(k, n, p) @ np.exp(-3 * (k - n * p) ** 2 / (n * p * (1 - p)))
        mean = math.exp(task._evenness(n, p, np.array([n * p])))  # as even as can be
        assert exact * 0.9999999 <= mean < 1.2 * exact


def test_evenness_leaves_out_what_it_has_no_bound_for() -> None:
    """Groups that are too small say nothing."""
    assert task._evenness(10, 0.5, np.array([5, 5, 5])) == 0
    with np.errstate(all="ignore"):
        assert task._evenness(64, 0.0, np.array([0, 0])) == 0


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.95])
def test_independent_masks_are_far_from_the_limits_of_structure(p: float) -> None:
    """Bounds for dependent products: of 3,000 masks none is near them, and a tiled one is."""
    rng = np.random.default_rng(0)
    step = task.draw_probe(bytes(32)).steps[0]
    masks = [(step, mask) for mask in rng.random((3000, 512)) < p]
    assert task._structure(masks, 512, 3.0) is None  # a level of 0.3 % of the masks
    tiled = [(step, np.tile(rng.random(64) < 0.5, 8))]
    assert "moved by 64 units" in str(task._structure(tiled, 512, 1e-4))


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_units_that_come_again_are_found(p: float) -> None:
    """In the same mask or in another, at any distance; and never in independent ones."""
    rng = np.random.default_rng(0)
    step = task.draw_probe(bytes(32)).steps[0]

    def found(*masks: task.Mask, place: float = 0.0, alpha: float = task.ALPHA) -> bool:
        several = [(step, mask) for mask in masks]
        return bool(task._come_again(several, place, {step.rate: p}, alpha))

    for place in np.linspace(0, 1, 50):
        assert not found(*(rng.random((50, 1100)) < p), place=place, alpha=0.5)
    for size, period in ((1100, 7), (1100, 900), (23_000, 8192), (23_000, 22_800)):
        assert found(np.resize(rng.random(period) < p, size))
    mask = rng.random(23_000) < p
    assert found(mask, np.roll(mask, 5000))
    assert found(mask[:20_000], mask[19_000:])
    mask[20_000:20_200] = mask[10_000:10_200]  # one piece alone, where it is looked for
    assert not found(mask)
    assert found(mask, place=10_010 / 22_850)
    assert found(mask, place=20_010 / 22_850)


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.002, 1.0])
def test_units_that_are_nearly_all_equal_may_come_again(p: float) -> None:
    rng = np.random.default_rng(0)
    step = task.draw_probe(bytes(32)).steps[0]
    assert task._come_again([(step, rng.random(3000) < p)], 0.5, {step.rate: p}, 3e-4) is None


def test_independent_masks_are_far_from_the_correlation_limit() -> None:
    """As for the drop rate, with the rate estimated from the masks themselves."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for n, p in itertools.product((100, 2048), (0.05, 0.3, 0.5, 0.95)):
        a, b = rng.random((2, 2000, n)) < p
        estimate = (a.mean(1) + b.mean(1)) / 2
        kept = (estimate > 0) & (estimate < 1)
        both, estimate = (a & b).mean(1)[kept], estimate[kept]
        correlation = (both - estimate**2) / (estimate * (1 - estimate))
        limits = [task.correlation_limit((value, value), n, task.ALPHA) for value in estimate]
        worst = max(worst, float(np.max(np.abs(correlation) / limits)))
    assert 0.2 < worst < 0.8


@pytest.mark.parametrize("stage", STAGES)
def test_at_most_a_thousand_tests_share_the_bound(
    stage: task.Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right layer fails with 1e-9 at most: ALPHA times the statistical tests of two stages."""
    tests: list[float] = []
    real = task._is_plausible, task._correlation
    last = stage._replace(alpha=task.ALPHA, drop_rate_alpha=task.ALPHA)

    def plausible(k: Any, n: Any, p: Any, alpha: Any) -> Any:
        tests.append(np.broadcast_to(alpha, np.shape(k)).sum() / task.ALPHA)
        return real[0](k, n, p, alpha)

    def correlation(one: Any, other: Any, alpha: float) -> Any:
        tests.append(alpha / task.ALPHA)
        return real[1](one, other, alpha)

    gathered = [evidence(Layer, number, stage) for number in range(5)]
    monkeypatch.setattr(task, "_is_plausible", plausible)
    monkeypatch.setattr(task, "_correlation", correlation)
    for one in gathered:
        tests.clear()
        task.judge(one._replace(stage=last))
        families = 2 + 1 + 2  # masks moved, moved around a circle; too even ones
        assert 200 < sum(tests) + families <= 1000
    assert 2 * 1000 * task.ALPHA <= 1e-9


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("graded", task.GRADED_RATES)
@pytest.mark.parametrize("points", [-0.03, 0.03])
def test_a_drop_rate_off_by_three_points_is_always_found(
    stage: task.Stage, graded: float, points: float
) -> None:
    """At each graded rate and in each stage; the probability to be missed is below 1e-9."""

    class Off(Layer):
        def drop_rate(self) -> float:
            return self.rate + points * (self.rate == graded)

    for number in range(5):
        assert failures(Off, number)["drop rate"] == "wrong_drop_rate"
        n, _ = counts(evidence(Off, number, stage))[graded]
        low, high = accepted(n, graded, stage.drop_rate_alpha)
        missed = stats.binom(n, graded + points)
        assert missed.cdf(high) - missed.cdf(low - 1) < REQUIRED_POWER


@pytest.mark.parametrize("graded", [*task.GRADED_RATES, None])
@pytest.mark.parametrize("ratio", [0.88, 1.12])
def test_a_variance_error_of_12_percent_is_always_found(graded: float | None, ratio: float) -> None:
    """At each graded rate alone, and at any other rate."""

    class Off(Layer):
        def factor(self) -> float:
            wrong = self.rate == graded if graded else self.rate not in task.GRADED_RATES
            return super().factor() * (ratio**0.5 if wrong else 1.0)

    for number in range(5):
        assert failures(Off, number) == {"variance": "wrong_factor"}


@pytest.mark.parametrize("ratio", [0.92, 1.08])
def test_a_variance_error_of_8_percent_is_allowed(ratio: float) -> None:
    """The rule says 10 %."""

    class Off(Layer):
        def factor(self) -> float:
            return super().factor() * ratio**0.5

    assert failures(Off, 0) == {}


@pytest.mark.parametrize("name", task.WRONG_FACTORS)
def test_wrong_factors_are_named(name: str) -> None:
    """The failure mode tells which formula was used."""

    class Wrong(Layer):
        def factor(self) -> float:
            return task.WRONG_FACTORS[name](self.rate, 1 - self.rate)

    assert failures(Wrong, 1)["variance"] == f"wrong_factor: {name}"


def shared(axis: int) -> type[Layer]:
    class Shared(Layer):
        def mask(self, shape: tuple[int, ...]) -> Any:
            axes = list(shape)
            if shape and shape[axis % len(shape)] != np.prod(shape):
                axes[axis % len(shape)] = 1
            return np.broadcast_to(super().mask(tuple(axes)), shape)

    return Shared


class SharedWhenSmall(Layer):
    """Shared along the last axis of arrays too small for the other comparisons of masks."""

    def mask(self, shape: tuple[int, ...]) -> Any:
        small = 200 <= math.prod(shape) < 900 and shape[-1] < math.prod(shape)
        return np.broadcast_to(super().mask((*shape[:-1], 1) if small else shape), shape)


class Cached(Layer):
    masks: ClassVar[dict[Any, Any]] = {}

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        super().__init__(rate, rng)
        Cached.masks = {} if rate == 0 else Cached.masks

    def mask(self, shape: tuple[int, ...]) -> Any:
        return self.masks.setdefault((self.rate, shape), super().mask(shape))


class EverySecond(Layer):
    last: Any = None

    def mask(self, shape: tuple[int, ...]) -> Any:
        if self.last is not None and self.last.shape == shape:
            mask, self.last = self.last, None
            return mask
        self.last = super().mask(shape)
        return self.last


class ExactCount(Layer):
    def mask(self, shape: tuple[int, ...]) -> Any:
        size = math.prod(shape)
        ranks = self.rng.permutation(size).reshape(shape)
        return ranks >= round(size * self.rate)


class EvenRows(Layer):
    """The same number in every row of large arrays, or nearly."""

    group = -1

    def mask(self, shape: tuple[int, ...]) -> Any:
        size = math.prod(shape)
        if size < 4000:
            return super().mask(shape)
        group = shape[-1] if self.group < 0 else self.group
        places = np.concatenate(
            [self.rng.permutation(group) for _ in range(math.ceil(size / group))]
        )
        return ((places[:size] + self.rng.random(size)) / group >= self.rate).reshape(shape)


class EvenBlocks(EvenRows):
    group = 64


class Seeded(Layer):
    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        super().__init__(rate, np.random.default_rng(0))


@pytest.mark.parametrize(
    "make",
    [
        shared(0), shared(1), shared(-1), SharedWhenSmall, Cached, EverySecond, Seeded,
        ExactCount, EvenRows, EvenBlocks,
    ],
)
def test_masks_that_are_not_random_are_always_found(make: type[Layer]) -> None:
    """Shared along an axis, repeated, of a fixed count, the same in two layers."""
    for number in range(5):
        Cached.masks = {}
        assert failures(make, number).get("mask") == "mask_not_random"


def test_a_wrong_drop_rate_is_not_called_a_mask_that_is_not_random() -> None:
    """The mask check takes the drop rate as it is."""

    class Half(Layer):
        def drop_rate(self) -> float:
            return self.rate / 2

    assert failures(Half, 0)["drop rate"] == "wrong_drop_rate"
    assert "mask" not in failures(Half, 0)


def test_a_layer_that_never_drops_is_not_told_that_train_fails() -> None:
    """It is the drop rate that is wrong; one that stops to drop is told."""

    class Never(Layer):
        def drop_rate(self) -> float:
            return 0.0

    class Once(Layer):
        def __call__(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            self.stopped = getattr(self, "stopped", False) or not self.training
            return x if self.stopped else super().__call__(x)

    assert failures(Never, 0)["drop rate"] == "wrong_drop_rate"
    assert failures(Never, 0)["eval mode"] == "not_reached"
    assert failures(Once, 0)["eval mode"] == "eval_mode"


def test_probes_differ_and_repeat() -> None:
    """The digest decides everything: rates, shapes, values, order."""
    one, again, other = (task.draw_probe(bytes([n]) * 32) for n in (1, 1, 2))
    assert task._encode_steps(one) == task._encode_steps(again)
    xs = [[s.x.tobytes() for s in probe.steps if s.op == "call"] for probe in (one, other)]
    assert not {x for x in xs[0] if len(x) > 100} & {x for x in xs[1] if len(x) > 100}
    assert {s.rate for s in one.steps} & {s.rate for s in other.steps} <= {
        *task.GRADED_RATES, 0.0, 1e-9, 1 - 1e-9
    }
    assert [s.x.shape for s in one.steps] != [s.x.shape for s in other.steps]
    assert one.place == again.place != other.place


def test_every_probe_covers_what_the_contract_speaks_of() -> None:
    """Empty and 0-d arrays, both dtypes, up to 5 axes, strided and large arrays, many calls."""
    for number in range(5):
        probe = task.draw_probe(hashlib.sha256(str(number).encode()).digest())
        xs = [step.x for step in probe.steps if step.op == "call" and step.phase == "train"]
        assert {x.dtype.str for x in xs} == {"<f4", "<f8"}
        assert {0, 1, 2, 3, 4, 5} <= {x.ndim for x in xs}
        assert any(x.size == 0 for x in xs)
        for step in probe.steps:
            if step.op == "call":
                assert step.has_zeros >= (np.count_nonzero(step.x) < step.x.size), step
        assert any(x.size > 22_000 for x in xs)
        assert any(not x.flags.c_contiguous for x in xs)
        calls = [sum(s.op == "call" and s.layer == n for s in probe.steps) for n in range(60)]
        assert max(calls) >= 12
        evals = {step.x.shape for step in probe.steps if step.op == "call" and step.phase == "eval"}
        assert {(), (0,), (7, 0), (2, 0, 3), (25, 8)} <= evals
        assert sum(calls) > 75


def test_the_floor_of_the_benchmark_gives_true_verdicts() -> None:
    """It measures what grading costs without isolation, so it has to grade."""
    path = Path(task.__file__).parent / "benchmarks" / "grading.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_grading", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    verdicts = [benchmark.grade_here(f"{task.REFERENCE_IMPLEMENTATION}# {n}\n") for n in range(9)]
    assert sum(verdicts) >= 8  # one may be in doubt
    assert not benchmark.grade_here(task.BUGGY_IMPLEMENTATION)


def test_variance_by_depth_is_what_theory_says() -> None:
    """30 layers at rate 0.5: 2**30 for the starting file, 1 for the reference."""
    buggy = task.variance_by_depth(task.BUGGY_IMPLEMENTATION, 30)
    reference = task.variance_by_depth(task.REFERENCE_IMPLEMENTATION, 30)
    assert buggy[30] == pytest.approx(2**30, rel=0.3)
    assert reference[30] == pytest.approx(1, rel=0.3)
    assert buggy[:1] == reference[:1]


def reply_of(frames: list[tuple[str, bytes]]) -> bytes:
    pieces = [struct.pack("=4sI", k.encode(), len(data)) + data for k, data in frames]
    return b"".join(piece + bytes(-len(piece) % 8) for piece in pieces)


def judge(reply: bytes, probe: task.Probe) -> bool:
    """The way of a reply to a verdict."""
    status = struct.pack("=iiq", 0, 0, 1000)
    run = task._decode_run(memoryview(reply), len(probe.steps) + 2, status, 10.0)
    gathered = task.gather_evidence(task.Submission(b"", None, None), probe, run)
    found = task.judge(gathered)
    return bool(found) and task._verdict(gathered, found, "process", "", 0.0)["passed"]


def test_no_garbled_reply_passes_or_raises() -> None:
    """Cut, garbled, swollen and invented replies give failed verdicts, never an exception."""
    probe = task.draw_probe(hashlib.sha256(b"0").digest())
    rng = np.random.default_rng(0)
    layers: dict[int, Layer] = {}
    frames = [("A", b"\x01"), ("A", b"")]
    for step in probe.steps:
        frames.append(("A", answer(step, layers, Layer, rng).tobytes()))
    right = reply_of(frames)
    assert judge(right, probe)
    garbled = [right[:-1], right + b"\0", b"", b"A", b"A\xff\xff\xff\xff", right[:20] * 1000]
    garbled += [right[: rng.integers(len(right))] for _ in range(20)]
    garbled += [reply_of(frames[:k]) for k in range(4)]
    for kind, data in (("X", b"\xff\x1b[31m"), ("V", b""), ("Q", b""), ("A", b"x")):
        garbled += [reply_of([*frames[:k], (kind, data), *frames[k + 1 :]]) for k in (0, 2, 90)]
    for k, (_, data) in enumerate(frames[2:], 2):
        if 0 < len(data) <= 24:  # bytes of 255 are nan in both dtypes
            garbled.append(reply_of([*frames[:k], ("A", b"\xff" * len(data)), *frames[k + 1 :]]))
    assert [len(reply) for reply in garbled if reply != right and judge(reply, probe)] == []
