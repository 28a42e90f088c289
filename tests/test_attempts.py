"""Every attempt gets the verdict that is true of it: honest, wrong and hostile ones.

The attempts are files; each says in a comment which truth it guards. All of a kind share a warm
worker, so that what one leaves behind would show in the verdicts of the next.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Attempt, attempts, worker_of

import variance_dropout_task as task

Graders = Callable[..., task.Grader]


def names(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attempt", attempts(kind), ids=lambda one: one.path.stem)


def outcome(verdict: task.Verdict) -> str:
    return verdict["failure_mode"] or "pass"


def limit(attempt: Attempt) -> float:
    """Seconds: few where the time limit has to end it, many where a busy machine must not."""
    return 2.0 if "timeout" in attempt.expected else 30.0


def test_the_corpus_is_as_large_as_promised() -> None:
    """At least 25 honest, 40 wrong and 40 hostile attempts, each with its truth and malice."""
    for kind, least in (("honest", 25), ("wrong", 40), ("hostile", 40)):
        files = attempts(kind)
        assert len(files) >= least
        for attempt in files:
            assert attempt.source.count(b"# truth: ") == 1, attempt.path
            assert (attempt.control != attempt.source) == (kind == "hostile"), attempt.path
            assert (attempt.expected == ["pass"]) == (kind == "honest"), attempt.path


@names("honest")
def test_honest(attempt: Attempt, sandbox: str, graders: Graders) -> None:
    """A right layer passes, however it is written."""
    verdict = graders(sandbox).grade_source(attempt.source)
    assert verdict["passed"], verdict["output"]
    assert verdict["failure_mode"] is None
    assert verdict["variance_error"] is not None
    assert verdict["variance_error"] <= task.VARIANCE_TOLERANCE


@names("wrong")
def test_wrong(attempt: Attempt, sandbox: str, graders: Graders) -> None:
    """A wrong layer fails, for the reason that is true, and is not told the formula."""
    verdict = graders(sandbox, limit(attempt)).grade_source(attempt.source)
    assert outcome(verdict) in attempt.expected, verdict["output"]
    assert not verdict["passed"]
    assert verdict["reward"] == 0.0
    if verdict["failure_mode"] != "crash":  # a crash quotes the submission
        assert not re.search(r"sqrt\(|\*\* ?-?0?\.5|1 ?/ ?q\b", verdict["feedback"])


@names("hostile")
def test_hostile(attempt: Attempt, sandbox: str, graders: Graders, tmp_path: Path) -> None:
    """Malice does not help: the verdict is that of the wrong layer, and the workspace stays."""
    task.setup_task_files(tmp_path)
    (tmp_path / task.SOLUTION_FILE).write_bytes(attempt.source)
    grader = graders(sandbox, limit(attempt))
    verdict = grader.grade_solution(tmp_path)
    searches = attempt.path.stem == "disk_searched_for_the_reference"
    if searches and not worker_of(grader).files_hidden:
        pytest.skip("a plain process hides no files on a kernel without Landlock")
    assert outcome(verdict) in attempt.expected, verdict["output"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dropout.py", "test_dropout.py"]
    assert (tmp_path / task.TEST_FILE).read_bytes() == task.TEST_SCRIPT.encode()


@names("hostile")
def test_hostile_control(attempt: Attempt, sandbox: str, graders: Graders) -> None:
    """The same code without its malice passes, so that it is the malice that is stopped."""
    verdict = graders(sandbox).grade_source(attempt.control)
    assert verdict["passed"], verdict["output"]


# What they do depends on the clock, a random device, a race of threads, or Python's hash seed.
UNREPEATABLE = {
    "dev_urandom", "mask_seeded_from_the_clock", "right_at_even_microseconds",
    "right_by_the_hash_seed", "right_in_the_first_millisecond", "seeded_from_pid_and_clock",
    "thread_that_writes_on_the_channel",
}


def test_no_verdict_depends_on_what_was_graded_before(sandbox: str) -> None:
    """1,000 warm grades of right, wrong and hostile code in random order: each is its cold one."""
    several = [attempt for kind in ("honest", "wrong", "hostile") for attempt in attempts(kind)]
    several = [one for one in several[::4] if "timeout" not in one.expected]

    def told(attempt: Attempt, verdict: task.Verdict) -> dict[str, Any]:
        kept = {"passed"} if attempt.path.stem in UNREPEATABLE else set(verdict) - {"duration_s"}
        return {key: value for key, value in verdict.items() if key in kept}

    def cold(attempt: Attempt) -> dict[str, Any]:
        return told(attempt, task.grade_source(attempt.source, time_limit=30, sandbox=sandbox))

    with ThreadPoolExecutor(2) as pool:
        expected = dict(zip(several, pool.map(cold, several), strict=True))
    assert {verdict["passed"] for verdict in expected.values()} == {True, False}
    order = random.Random(0).choices(several, k=1000)
    with task.Grader(2, time_limit=30, sandbox=sandbox) as grader:
        verdicts = grader.map(attempt.source for attempt in order)
        for attempt, verdict in zip(order, verdicts, strict=True):
            assert told(attempt, verdict) == expected[attempt], attempt.path
