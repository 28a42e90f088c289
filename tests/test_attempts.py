"""Every attempt gets the verdict that is true of it: honest, wrong and hostile ones.

The attempts are files; each says in a comment which truth it guards. All of a kind share a warm
worker, so that what one leaves behind would show in the verdicts of the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Attempt, attempts

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
    if attempt.path.stem == "disk_searched_for_the_reference":
        worker = grader._idle.queue[0]
        if worker is not None and not worker.files_hidden:
            pytest.skip("a plain process hides no files on a kernel without Landlock")
    assert outcome(verdict) in attempt.expected, verdict["output"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dropout.py", "test_dropout.py"]
    assert (tmp_path / task.TEST_FILE).read_bytes() == task.TEST_SCRIPT.encode()


@names("hostile")
def test_hostile_control(attempt: Attempt, sandbox: str, graders: Graders) -> None:
    """The same code without its malice passes, so that it is the malice that is stopped."""
    verdict = graders(sandbox).grade_source(attempt.control)
    assert verdict["passed"], verdict["output"]
