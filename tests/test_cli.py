"""The command line, as a subprocess, as a person or a program uses it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import variance_dropout_task as task

SCRIPT = task.__file__


def run(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, check=False,
    )


def run_in_terminal(*arguments: str, **env: str) -> str:
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | env
    with subprocess.Popen(
        [sys.executable, SCRIPT, *arguments], stdout=slave, stderr=slave, env=environment
    ):
        os.close(slave)
        text = b""
        try:
            while piece := os.read(master, 65536):
                text += piece
        except OSError:  # the terminal is closed
            pass
    os.close(master)
    return text.decode()


def test_demo() -> None:
    """Both layers judged with their ratios, the chart, nothing wider than 80 columns."""
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    failed = "FAILED (mean_preserving_scaling_unchanged), reward 0.0"
    for text in ("1.429 at rate 0.3", failed, "PASSED, reward 1.0", "1,074,9"):
        assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\033" not in done.stdout


def test_colour_on_a_terminal_alone() -> None:
    """Colour on a terminal, none with NO_COLOR."""
    assert "\033[31mFAIL" in run_in_terminal()
    assert "\033" not in run_in_terminal(NO_COLOR="1")


def test_setup_and_grade(tmp_path: Path) -> None:
    """setup, then grade: 1 for the untouched file, 0 for the repaired one."""
    done = run("setup", "my work", cwd=tmp_path)
    assert done.returncode == 0
    assert "my work/dropout.py" in done.stdout
    done = run("grade", "my work", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED (mean_preserving_scaling_unchanged), reward 0.0" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    (tmp_path / "my work" / "dropout.py").write_text(task.REFERENCE_IMPLEMENTATION)
    done = run("grade", "my work", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PASSED, reward 1.0" in done.stdout


def test_grade_json(tmp_path: Path) -> None:
    """--json prints the verdict and nothing else."""
    task.setup_task_files(tmp_path)
    done = run("grade", str(tmp_path), "--json", "--sandbox", "process")
    verdict = json.loads(done.stdout)
    assert set(verdict) == set(task.Verdict.__annotations__)
    assert (done.returncode, verdict["sandbox"]) == (1, "process")


def test_prompt() -> None:
    """prompt prints what the model is told."""
    assert run("prompt").stdout == task.TASK_PROMPT


def test_help_is_the_manual() -> None:
    """--help has the commands, examples and exit codes."""
    text = run("--help").stdout
    for part in ("setup", "grade", "prompt", "examples:", "exit status:"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grade", "nowhere"], "that holds dropout.py, got 'nowhere'"),
        (["grade", ".", "--time-limit", "0"], "error: time_limit must be in (0, 86400]"),
        (["grade", ".", "--time-limit", "soon"], "argument --time-limit"),
        (["grade"], "required: DIR"),
        (["dance"], "invalid choice"),
        (["setup", "/dev/null/work"], "error: /dev/null/work: Not a directory"),
        (["setup", ""], "error: workspace: expected a path, got an empty string"),
        (["grade", ""], "error: workspace: expected a directory that holds dropout.py, got ''"),
    ],
)
def test_errors_are_one_sentence_and_exit_2(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    """No traceback; what was expected and what arrived."""
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """`| head` may stop reading."""
    with subprocess.Popen(
        [sys.executable, SCRIPT, "prompt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_import_is_light() -> None:
    """Importing the module loads NumPy and nothing else that is not of the standard library."""
    code = (
        "import sys, numpy; before = set(sys.modules); import variance_dropout_task;"
        "new = {n.split('.')[0] for n in set(sys.modules) - before};"
        "print(sorted(n for n in new - {'__mp_main__'} if n not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(SCRIPT).parent, capture_output=True, text=True,
        check=False,
    )
    assert done.stdout.strip() == "['variance_dropout_task']", done.stderr


def test_any_letters_in_any_locale(tmp_path: Path) -> None:
    """An error is shown, and the verdict kept, where the terminal knows no such letter."""
    task.setup_task_files(tmp_path)
    (tmp_path / "dropout.py").write_text("raise RuntimeError('caf\\u00e9')\n", encoding="utf-8")
    done = run("grade", str(tmp_path), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    assert "caf\\xe9" in done.stdout


def test_setup_keeps_work_that_is_there(tmp_path: Path) -> None:
    """A dropout.py that is not the starting file is replaced with --force alone."""
    work = str(tmp_path / "work")
    assert run("setup", work).returncode == 0
    assert run("setup", work).returncode == 0  # the starting file is no work
    (tmp_path / "work" / "dropout.py").write_text("mine")
    done = run("setup", work)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force" in done.stderr
    assert (tmp_path / "work" / "dropout.py").read_text() == "mine"
    assert run("setup", work, "--force").returncode == 0
    assert (tmp_path / "work" / "dropout.py").read_text() == task.BUGGY_IMPLEMENTATION


def test_a_directory_that_is_no_workspace_is_noted(tmp_path: Path) -> None:
    """A verdict is given, and a hint at what may have been meant."""
    done = run("grade", str(tmp_path))
    assert done.returncode == 1
    assert "see setup" in done.stderr


def test_what_was_not_reached_is_one_line(tmp_path: Path) -> None:
    """A submission that cannot run shows why, not a column of failures; a fence is named."""
    task.setup_task_files(tmp_path)
    (tmp_path / "dropout.py").write_text(f"```python\n{task.REFERENCE_IMPLEMENTATION}```\n")
    out = run("grade", str(tmp_path)).stdout
    assert out.count("FAIL ") == 1
    assert "8 other checks: not reached" in out
    assert "Markdown" in out


def test_closed_standard_output_is_no_traceback() -> None:
    """As with `>&-` in a shell."""
    command = f'"{sys.executable}" "{SCRIPT}" >&-'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["variance_dropout_task.py", "validate_task.py"])
def test_without_numpy_nothing_is_graded(script: str) -> None:
    """What is missing and what to do, and the exit status of what could not be graded."""
    program = Path(SCRIPT).parent / script
    options = ["--offline", "--output-dir", "unused"] if script == "validate_task.py" else []
    code = f"import runpy, sys; sys.modules['numpy'] = None; sys.argv[1:] = {options}; "
    code += f"sys.path.insert(0, {str(program.parent)!r}); "
    code += f"runpy.run_path({str(program)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "numpy" in done.stderr
    assert "requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_a_sentence() -> None:
    """There is no file name to tell, so none is told."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, SCRIPT, "prompt"], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )
    assert "error: No space left on device" in done.stderr
