"""What the tests share: the two sandboxes, warm graders, and attempts as files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import variance_dropout_task as task  # noqa: E402

# Code that searches the environment for keys has to have one to find, in every process of the
# suite, or its test could not fail.
os.environ["ANTHROPIC_API_KEY"] = "sk-ant-not-a-key-0123456789"


# The attempts are hostile: no tool of the suite may import them.
collect_ignore = ["attempts"]


class Attempt(NamedTuple):
    """A file of tests/attempts: its source, and what its comments say of it."""

    path: Path

    @property
    def source(self) -> bytes:
        return self.path.read_bytes()

    @property
    def expected(self) -> list[str]:
        """The failure modes that are right; "pass" for none."""
        found = re.search(rb"# expect: ([^\r\n]+)", self.source)
        assert found, f"{self.path} says not what to expect"
        return found.group(1).decode().strip().split(" | ")

    @property
    def control(self) -> bytes:
        """The source without its malice."""
        malice = rb"(?ms)^[ \t]*# malice begin\b.*?^[ \t]*# malice end[^\n]*\n"
        return re.sub(malice, b"", self.source)


def attempts(kind: str) -> list[Attempt]:
    return [Attempt(path) for path in sorted((ROOT / "tests/attempts" / kind).glob("*.py"))]


def worker_of(grader: task.Grader) -> Any:
    """The warm worker of a grader with one; None where each process serves one submission."""
    (bench,) = grader._idle.queue
    assert isinstance(bench, task._Bench)
    return bench.worker


@pytest.fixture(scope="session", params=["bubblewrap", "process"])
def sandbox(request: pytest.FixtureRequest) -> str:
    """Each sandbox that is usable here."""
    if request.param == "bubblewrap" and task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    return str(request.param)


@pytest.fixture(scope="session")
def graders() -> Iterator[Callable[[str, float], task.Grader]]:
    """Warm graders with one worker, by sandbox and time limit: hostile code shares them."""
    made: dict[tuple[str, float], task.Grader] = {}

    def grader(sandbox: str, time_limit: float = 30.0) -> task.Grader:
        key = sandbox, time_limit
        if key not in made:
            made[key] = task.Grader(workers=1, sandbox=sandbox, time_limit=time_limit)
        return made[key]

    yield grader
    for one in made.values():
        one.close()
