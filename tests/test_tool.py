"""run_sandboxed: what an execute_code tool gives to a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import variance_dropout_task as task


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return task.setup_task_files(tmp_path / "work space")


def test_output_and_exit_code(workspace: Path, sandbox: str) -> None:
    """Standard output and error come in order, with the exit code."""
    code = "import sys\nprint('one')\nprint('two', file=sys.stderr)\nsys.exit(3)\n"
    assert task.run_sandboxed(code, workspace, sandbox=sandbox) == ("one\ntwo\n", 3, False, sandbox)


def test_traceback_of_the_code(workspace: Path, sandbox: str) -> None:
    """An error is a traceback that a model can read."""
    done = task.run_sandboxed("x = 1\nraise ValueError('oops')\n", workspace, sandbox=sandbox)
    assert done.exit_code == 1
    assert 'line 2' in done.output
    assert "ValueError: oops" in done.output


def test_the_workspace_is_there(workspace: Path, sandbox: str) -> None:
    """The code imports the layer, runs the visible test, and edits the layer."""
    code = """
import subprocess, sys
from dropout import VarianceStabilizedDropout
print(VarianceStabilizedDropout(0.25).dropout_rate)
done = subprocess.run(["python", "test_dropout.py"], capture_output=True, text=True)
print(done.returncode, done.stdout.splitlines()[-1])
text = open("dropout.py").read()
open("dropout.py", "w").write(text.replace("1.0 / keep_prob", "keep_prob ** -0.5"))
print(subprocess.run([sys.executable, "test_dropout.py"]).returncode)
"""
    done = task.run_sandboxed(code, workspace, sandbox=sandbox)
    assert done.output.startswith("0.25\n1 1 failed\n"), done.output
    assert done.output.endswith("all passed\n0\n")
    assert task.grade_solution(workspace, sandbox=sandbox)["passed"]


def test_time_limit(workspace: Path, sandbox: str) -> None:
    """A loop is ended, and what it printed is kept."""
    code = "print('started')\nwhile True: pass\n"
    done = task.run_sandboxed(code, workspace, time_limit=1, sandbox=sandbox)
    assert done == ("started\n", None, True, sandbox)


def test_a_process_that_closes_its_output_is_ended_too(workspace: Path, sandbox: str) -> None:
    """The limit holds for code that hides from the reader."""
    code = "import os, time\nos.close(1); os.close(2)\ntime.sleep(60)\n"
    assert task.run_sandboxed(code, workspace, time_limit=1, sandbox=sandbox).timed_out


def test_background_processes_do_not_hold_it_up(workspace: Path, sandbox: str) -> None:
    """It returns when the code ends, and ends what the code left running."""
    code = "import subprocess\nsubprocess.Popen(['python', '-c', 'import time; time.sleep(50)'])\n"
    done = task.run_sandboxed(code, workspace, time_limit=20, sandbox=sandbox)
    assert (done.exit_code, done.timed_out) == (0, False)


def test_output_is_cut_in_the_middle(workspace: Path, sandbox: str) -> None:
    """Memory is bounded by the limit; head and tail stay."""
    code = "print('head')\nfor _ in range(2000): print('x' * 10000)\nprint('tail')\n"
    done = task.run_sandboxed(code, workspace, output_limit=1000, sandbox=sandbox)
    assert len(done.output) < 1100
    assert done.output.startswith("head\n")
    assert done.output.endswith("tail\n")
    assert "bytes cut" in done.output


def test_no_environment(workspace: Path, sandbox: str) -> None:
    """No key and no setting of the trusted side."""
    code = "import os\nprint(sorted(os.environ))\n"
    assert os.environ["ANTHROPIC_API_KEY"]
    assert "ANTHROPIC" not in task.run_sandboxed(code, workspace, sandbox=sandbox).output


WALLS = {
    "project": f"os.path.exists({task.__file__!r})",
    "other files": "os.path.exists('/etc/passwd')",
    "processes": "os.path.exists(f'/proc/{os.getppid()}/root') and len(os.listdir('/proc')) > 300",
    "network": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "writing outside": "open('/tmp/vdt_outside', 'w')",
    "shared memory": "open('/dev/shm/vdt_outside', 'w')",
}


@pytest.mark.parametrize("expression", WALLS.values(), ids=WALLS)
def test_walls_of_bubblewrap(expression: str, workspace: Path) -> None:
    """The workspace alone is writable; no project, no network, no other process."""
    if task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import os, socket
PORT = {server.getsockname()[1]}
try:
    print("reached" if {expression} else "absent")
except OSError:
    print("refused")
"""
        plain = task.run_sandboxed(code, workspace, sandbox="process").output
        walled = task.run_sandboxed(code, workspace, sandbox="bubblewrap").output
    for name in ("/tmp/vdt_outside", "/dev/shm/vdt_outside"):
        Path(name).unlink(missing_ok=True)
    assert walled in ("absent\n", "refused\n")
    assert plain == "reached\n" or "len(os.listdir" in expression  # the control


def test_fork_bomb_is_ended(workspace: Path) -> None:
    """More than 64 processes end the code, also where root has no process limit."""
    if task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    code = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        time.sleep(60)
print("survived")
"""
    done = task.run_sandboxed(code, workspace, sandbox="bubblewrap")
    assert "64 processes" in done.output
    assert "survived" not in done.output
    assert not done.timed_out


def test_errors_are_the_callers(tmp_path: Path) -> None:
    """No workspace: an error that says so."""
    with pytest.raises(task.GradingError, match="expected a directory"):
        task.run_sandboxed("", tmp_path / "nowhere")


def test_the_code_cannot_trace_process_one(workspace: Path) -> None:
    """What ends the code cannot be taken over by it."""
    if task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    code = """
for path in ("/proc/self/mem", "/proc/1/mem"):
    try:
        open(path, "r+b")
        print("opened")
    except OSError as error:
        print(type(error).__name__)
"""
    done = task.run_sandboxed(code, workspace, sandbox="bubblewrap")
    assert done.output == "opened\nPermissionError\n"


def test_many_open_descriptors_are_no_matter(workspace: Path) -> None:
    """A caller with more than 1,024 open files gets its output, too."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("not that many descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert task.run_sandboxed("print(1)", workspace, sandbox="process").output == "1\n"
        assert task.grade_source(task.REFERENCE_IMPLEMENTATION, sandbox="process")["passed"]
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("arguments", [{"sandbox": "proces"}, {"time_limit": float("nan")}])
def test_wrong_arguments(arguments: dict[str, object], workspace: Path) -> None:
    """They are refused, not taken for something else."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        task.run_sandboxed("", workspace, **arguments)  # type: ignore[arg-type]
