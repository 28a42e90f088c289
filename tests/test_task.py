"""The task as it is set: prompt, starting files, visible test, workspace."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import variance_dropout_task as task

FORMULA = re.compile(r"sqrt\s*\(\s*(keep|1|q)|\*\*\s*\(?-?\s*(0?\.5|1\s*/\s*2)")


def run_visible_test(workspace: Path, *command: str) -> subprocess.CompletedProcess[str]:
    command = command or ("test_dropout.py",)
    return subprocess.run(
        [sys.executable, *command], cwd=workspace, capture_output=True, text=True, check=False
    )


def test_buggy_and_reference_differ_in_the_planted_expression_alone() -> None:
    """The bug is one expression: one line differs, in `1.0 / keep_prob`."""
    buggy = task.BUGGY_IMPLEMENTATION.splitlines()
    reference = task.REFERENCE_IMPLEMENTATION.splitlines()
    differing = [pair for pair in zip(buggy, reference, strict=True) if pair[0] != pair[1]]
    assert [(a.strip(), b.strip()) for a, b in differing] == [
        ("scale = 1.0 / keep_prob", "scale = 1.0 / np.sqrt(keep_prob)")
    ]


@pytest.mark.parametrize("name", ["BUGGY_IMPLEMENTATION", "TEST_SCRIPT", "TASK_PROMPT"])
def test_nothing_the_model_sees_gives_the_formula(name: str) -> None:
    """Prompt, starting file and visible test never give the factor."""
    assert not FORMULA.search(getattr(task, name))
    assert FORMULA.search(task.REFERENCE_IMPLEMENTATION)  # the pattern would find it


@pytest.mark.parametrize(
    "name", ["BUGGY_IMPLEMENTATION", "REFERENCE_IMPLEMENTATION", "TEST_SCRIPT"]
)
def test_embedded_sources_are_python_and_lint_clean(name: str, tmp_path: Path) -> None:
    """The embedded texts parse as Python 3.10 and are free of lint."""
    ast.parse(getattr(task, name), feature_version=(3, 10))
    path = tmp_path / "embedded.py"
    path.write_text(getattr(task, name))
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=100"]
    lint += ["--select=E,F,W,B,UP,SIM,C4", str(path)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prompt_states_the_limits_that_are_enforced() -> None:
    """Every number of the prompt is the one in force."""
    prompt = " ".join(task.TASK_PROMPT.split())
    assert f"{task.TIME_LIMIT_S:g} seconds" in prompt
    assert f"{task.MEMORY_LIMIT_BYTES >> 30} GiB" in prompt
    assert f"{task.SOURCE_LIMIT_BYTES >> 10} KiB" in prompt
    assert f"{task.VARIANCE_TOLERANCE:.0%}".replace("%", " %") in prompt
    assert "rates 0.3, 0.5 and 0.7" in prompt
    assert task.GRADED_RATES == (0.3, 0.5, 0.7)


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["new/nested", "with spaces", "активации-активность"])
def test_setup_makes_the_workspace(name: str, kind: type, tmp_path: Path) -> None:
    """Any path will do: str or Path, nested, with spaces, not ASCII."""
    returned = task.setup_task_files(kind(tmp_path / name))
    assert returned == tmp_path / name
    assert (returned / "dropout.py").read_text() == task.BUGGY_IMPLEMENTATION
    assert (returned / "test_dropout.py").read_text() == task.TEST_SCRIPT
    assert len(list(returned.iterdir())) == 2


def test_setup_takes_relative_paths_and_resets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path works, and a used workspace becomes a new one; links are not followed."""
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside.py"
    outside.write_text("kept")
    task.setup_task_files("work")
    Path("work/dropout.py").unlink()
    Path("work/dropout.py").symlink_to(outside)
    task.setup_task_files("work")
    assert outside.read_text() == "kept"
    assert not Path("work/dropout.py").is_symlink()
    assert Path("work/dropout.py").read_text() == task.BUGGY_IMPLEMENTATION


def test_visible_test_fails_on_the_bug_and_names_it(tmp_path: Path) -> None:
    """As a script it prints a line a rule and exits with 1 for the starting file."""
    task.setup_task_files(tmp_path)
    done = run_visible_test(tmp_path)
    assert done.returncode == 1
    assert "FAIL  test_variance_is_preserved: AssertionError: rate 0.3" in done.stdout
    assert done.stdout.count("PASS") == 7
    assert not done.stderr


def test_visible_test_passes_on_the_reference(tmp_path: Path) -> None:
    """As a script and under pytest it accepts a right layer."""
    task.setup_task_files(tmp_path)
    (tmp_path / "dropout.py").write_text(task.REFERENCE_IMPLEMENTATION)
    done = run_visible_test(tmp_path)
    assert (done.returncode, done.stdout.count("PASS")) == (0, 8), done.stdout
    done = run_visible_test(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "8 passed" in done.stdout


def test_setup_follows_no_planted_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is written aside has a name that nobody can plant a link at."""
    outside = tmp_path / "outside"
    outside.write_text("kept")
    work = tmp_path / "work"
    task.setup_task_files(work)
    names = iter(["planted", "free", "free2"])
    monkeypatch.setattr("tempfile._get_candidate_names", lambda: names)
    for name in (f".dropout.py.{os.getpid()}", "tmpplanted"):
        (work / name).symlink_to(outside)
    task.setup_task_files(work)
    assert outside.read_text() == "kept"
    assert (work / "dropout.py").read_text() == task.BUGGY_IMPLEMENTATION
