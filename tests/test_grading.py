"""Grading: verdicts, workspaces, determinism, failures of the machine, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, attempts, worker_of

import variance_dropout_task as task

Graders = Callable[..., task.Grader]
REFERENCE = task.REFERENCE_IMPLEMENTATION
BUGGY = task.BUGGY_IMPLEMENTATION


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with the right answer in it."""
    task.setup_task_files(tmp_path / "work")
    (tmp_path / "work" / "dropout.py").write_text(REFERENCE)
    return tmp_path / "work"


def timeless(verdict: task.Verdict) -> dict[str, Any]:
    return {key: value for key, value in verdict.items() if key != "duration_s"}


def raising(expression: str) -> str:
    """A submission that reports the value of an expression as its error."""
    return f"import os, sys\nraise RuntimeError({expression})\n"


# --- Verdicts -------------------------------------------------------------------------------------


def test_verdict_of_the_reference(workspace: Path, sandbox: str) -> None:
    """A right layer passes every check, with the keys that are declared, as JSON."""
    verdict = task.grade_solution(workspace, sandbox=sandbox)
    assert verdict["passed"] is True
    assert verdict["reward"] == 1.0
    assert verdict["failure_mode"] is None
    assert set(verdict) == set(task.Verdict.__annotations__)
    assert [row["name"] for row in verdict["checks"]] == [name for name, _ in task.CHECKS]
    assert list(verdict["variance_errors"])[:3] == ["0.3", "0.5", "0.7"]
    assert verdict["sandbox"] == sandbox
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict


def test_verdict_of_the_untouched_workspace(tmp_path: Path) -> None:
    """The starting file fails as mean-preserving scaling, with the ratios it really has."""
    verdict = task.grade_solution(task.setup_task_files(tmp_path))
    assert verdict["passed"] is False
    assert verdict["reward"] == 0.0
    assert verdict["failure_mode"] == "mean_preserving_scaling_unchanged"
    for rate in task.GRADED_RATES:
        assert verdict["variance_errors"][f"{rate}"] == pytest.approx(rate / (1 - rate))
    assert "1.429 at rate 0.3, 2.000 at rate 0.5, 3.333 at rate 0.7" in verdict["feedback"]


def test_a_changed_file_with_the_same_bug_is_told_apart() -> None:
    """Only the starting file, byte for byte, counts as unchanged."""
    assert task.grade_source(BUGGY + "#\n")["failure_mode"] == "mean_preserving_scaling"


def test_what_is_in_doubt_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second, larger probe with as much more time decides; without doubt there is none."""
    stages: list[task.Stage] = []
    limits: list[float] = []
    real_draw, real_send, real_judge = task.draw_probe, task.socket.send_fds, task.judge

    def draw(digest: bytes, stage: task.Stage) -> task.Probe:
        stages.append(stage)
        return real_draw(digest, stage)

    def send(control: Any, messages: list[bytes], descriptors: list[int]) -> int:
        limits.extend(struct.unpack("=d", messages[0]) if len(messages[0]) == 8 else ())
        return real_send(control, messages, descriptors)

    def in_doubt(evidence: task.Evidence) -> Any:
        return real_judge(evidence) if evidence.stage is task.CONFIRMATION else []

    monkeypatch.setattr(task, "draw_probe", draw)
    monkeypatch.setattr(task.socket, "send_fds", send)
    with task.Grader(1) as grader:
        assert grader.grade_source(REFERENCE)["passed"]
        assert (stages, limits) == ([task.SCREENING], [10.0])
        monkeypatch.setattr(task, "judge", in_doubt)
        for source, passed in ((REFERENCE, True), (BUGGY, False)):
            stages.clear()
            limits.clear()
            assert grader.grade_source(source)["passed"] is passed
            assert (stages, limits) == ([task.SCREENING, task.CONFIRMATION], [10.0, 40.0])


def test_the_time_limit_is_told_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs on the second look hears of the limit, not of the four that it had by then."""
    monkeypatch.setattr(task, "SCREENING", task.CONFIRMATION)
    verdict = task.grade_source("while True: pass", time_limit=0.5)
    assert verdict["failure_mode"] == "timeout"
    assert "(0.5 s)" in verdict["feedback"]


def test_floating_point_errors_of_outputs_are_no_errors_of_the_grader() -> None:
    """Whatever NumPy is set to in the process that grades."""
    (infinite,) = (one for one in attempts("wrong") if one.path.stem == "outputs_infinite")
    with np.errstate(all="raise"), task.Grader(1) as grader:
        assert grader.grade_source(infinite.source)["failure_mode"] == "interface"
        assert grader.grade_source(REFERENCE)["passed"]


def test_the_same_code_gets_the_same_verdict_to_the_last_digit(sandbox: str) -> None:
    """Cold, warm, in any order: only the duration differs; whatever generator is used."""
    sources = [attempt.source for attempt in attempts("honest")[::5]] + [BUGGY.encode()]
    with task.Grader(1, sandbox=sandbox) as grader:
        first = [timeless(grader.grade_source(source)) for source in sources]
        again = [timeless(grader.grade_source(source)) for source in reversed(sources)]
    assert first == again[::-1]
    assert first[0] == timeless(task.grade_source(sources[0], sandbox=sandbox))


@pytest.mark.parametrize(
    "draw",
    [
        "np.random.random()",
        "np.random.default_rng().random()",
        "np.random.Generator(np.random.MT19937()).random()",
        "np.random.RandomState().random_sample()",
        "random.random()",
        "random.SystemRandom().random()",
        "os.urandom(8).hex()",
        "__import__('secrets').token_hex(8)",
        "__import__('uuid').uuid4()",
    ],
)
def test_unseeded_generators_are_deterministic(draw: str, graders: Graders) -> None:
    """The child seeds every generator, so that measured figures repeat; two draws differ."""
    imports = "import random\nimport numpy as np\n"
    source = imports + raising(f"'<' + str({draw}) + '|' + str({draw}) + '>'")
    grader = graders("process")
    feedback = grader.grade_source(source)["feedback"]
    assert feedback == grader.grade_source(source)["feedback"]
    first, second = feedback.split("<")[1].split(">")[0].split("|")
    assert first != second


# --- The workspace --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_any_path_to_a_workspace(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graders: Graders, sandbox: str
) -> None:
    """Relative paths, spaces and letters that are not ASCII make no difference."""
    monkeypatch.chdir(tmp_path)
    name = kind("répertoire de travail")
    task.setup_task_files(name)
    Path(name, "dropout.py").write_text(REFERENCE)
    assert graders(sandbox).grade_solution(name)["passed"]


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILERS = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b" \n"),
    "oversized": lambda path: path.write_bytes(REFERENCE.encode() + b"#" * (256 << 10)),
    "link": replace_by_link,
    "fifo": replace_by_fifo,
    "directory": replace_by_directory,
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_what_is_no_submission(spoil: Callable[[Path], None], workspace: Path) -> None:
    """What is no regular file of a sensible size is a failed verdict, and no wait."""
    spoil(workspace / "dropout.py")
    verdict = task.grade_solution(workspace)
    assert verdict["failure_mode"] == "no_submission", verdict["feedback"]
    assert verdict["reward"] == 0.0
    assert "dropout.py" in verdict["feedback"]


def test_a_submission_of_exactly_the_limit_is_graded() -> None:
    """256 KiB are allowed, one byte more is not."""
    padded = REFERENCE.encode().ljust(256 << 10, b"#")
    assert task.grade_source(padded)["passed"]
    assert task.grade_source(padded + b"#")["failure_mode"] == "no_submission"


MODIFIED = {
    **{name: spoil for name, spoil in SPOILERS.items() if name != "oversized"},
    "longer": lambda path: path.write_text(task.TEST_SCRIPT + "\n"),
    "CRLF": lambda path: path.write_bytes(task.TEST_SCRIPT.replace("\n", "\r\n").encode()),
    "one byte": lambda path: path.write_text(task.TEST_SCRIPT.replace("0.9 <", "0.0 <")),
}


@pytest.mark.parametrize("spoil", MODIFIED.values(), ids=MODIFIED)
def test_a_modified_test_file_fails(spoil: Callable[[Path], None], workspace: Path) -> None:
    """The test file has to be the file that it was, byte for byte; the layer here is right."""
    spoil(workspace / "test_dropout.py")
    assert task.grade_solution(workspace)["failure_mode"] == "test_file_modified"


def test_a_test_file_modified_during_grading_fails(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at after the run, too."""
    run = task._Bench._run

    def modifying(*arguments: Any) -> Any:
        (workspace / "test_dropout.py").write_text("")
        return run(*arguments)

    monkeypatch.setattr(task._Bench, "_run", modifying)
    assert task.grade_solution(workspace)["failure_mode"] == "test_file_modified"


def test_files_beside_the_submission_are_not_loaded(workspace: Path, sandbox: str) -> None:
    """Shadow modules and forged byte code in the workspace are nothing to the grader."""
    for name in ("numpy.py", "sitecustomize.py", "conftest.py", "random.py", "usercustomize.py"):
        (workspace / name).write_text("raise SystemExit('loaded')\n")
    (workspace / "__pycache__").mkdir()
    (workspace / "__pycache__" / "dropout.cpython-311.pyc").write_bytes(b"rubbish")
    assert task.grade_solution(workspace, sandbox=sandbox)["passed"]
    (workspace / "dropout.py").write_text("import conftest\n" + REFERENCE)
    assert task.grade_solution(workspace, sandbox=sandbox)["failure_mode"] == "crash"


# --- Not graded -----------------------------------------------------------------------------------


def test_a_missing_workspace_is_not_graded(tmp_path: Path) -> None:
    """A mistake of the caller's raises, and says what to do."""
    with pytest.raises(task.GradingError, match="setup_task_files"):
        task.grade_solution(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "arguments",
    [{"time_limit": 0}, {"time_limit": float("nan")}, {"time_limit": -1}, {"sandbox": "docker"}],
)
def test_wrong_arguments_raise(arguments: dict[str, Any]) -> None:
    """A limit that is none, or a sandbox that does not exist, is refused by name."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        task.grade_source(REFERENCE, **arguments)


def fake_bubblewrap(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setattr(task, "_bubblewrap_works", None)


def test_forbidden_bubblewrap_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bubblewrap is forbidden, "auto" is a plain process, and the verdict says so."""
    fake_bubblewrap(tmp_path, monkeypatch)
    verdict = task.grade_source(REFERENCE)
    assert verdict["passed"]
    assert verdict["sandbox"] == "process"


def test_bubblewrap_that_fails_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed: only what fails twice is given up for good."""
    real = shutil.which("bwrap")
    if task.available_sandbox() != "bubblewrap" or real is None:
        pytest.skip("bubblewrap is not usable here")
    fake_bubblewrap(tmp_path, monkeypatch)
    flag = tmp_path / "failed"
    (tmp_path / "bwrap").write_text(
        f'#!/bin/sh\n[ -e {flag} ] && exec {real} "$@"\ntouch {flag}\nexit 1\n'
    )
    assert task.grade_source(REFERENCE)["sandbox"] == "bubblewrap"
    assert flag.exists()


def test_bubblewrap_asked_for_and_forbidden_is_not_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for bubblewrap does not get less."""
    fake_bubblewrap(tmp_path, monkeypatch)
    with pytest.raises(task.GradingError, match="No permissions to create namespace"):
        task.grade_source(REFERENCE, sandbox="bubblewrap")


def test_missing_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without bubblewrap "auto" is a plain process, and "bubblewrap" is an error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(task, "_bubblewrap_works", None)
    assert task.grade_source(REFERENCE)["sandbox"] == "process"
    with pytest.raises(task.GradingError, match="bwrap"):
        task.grade_source(REFERENCE, sandbox="bubblewrap")


def test_an_interpreter_that_cannot_start_is_not_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that starts no process gives no verdict."""
    monkeypatch.setattr(task, "_interpreter", lambda: "/nowhere/python")
    with pytest.raises(task.GradingError, match="/nowhere/python"):
        task.grade_source(REFERENCE, sandbox="process")


def test_a_worker_that_is_killed_from_outside_is_replaced(sandbox: str) -> None:
    """A lost worker costs a submission nothing: it runs again in a new one."""
    with task.Grader(1, sandbox=sandbox) as grader:
        assert grader.grade_source(REFERENCE)["passed"]
        worker = worker_of(grader)
        os.killpg(worker._process.pid, signal.SIGKILL)
        assert grader.grade_source(REFERENCE)["passed"]
        assert worker_of(grader) is not worker


def test_a_judge_that_is_killed_is_replaced() -> None:
    """Several workers belong to processes of ours: one that is lost costs a submission nothing."""
    with task.Grader(2) as grader:
        assert all(verdict["passed"] for verdict in grader.map([REFERENCE] * 4))
        judges = list(grader._idle.queue)
        for judge in judges:
            assert isinstance(judge, task._Judge)
            judge.process.kill()
        assert [verdict["passed"] for verdict in grader.map([REFERENCE, BUGGY])] == [True, False]


def test_judges_load_nothing_of_the_working_directory(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start late, when a model may have left a numpy.py where this process looks first."""
    for name in ("numpy.py", "json.py", "variance_dropout_task.py"):
        (workspace / name).write_text("open('loaded', 'w')\n")
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend("")
    control = [sys.executable, "-c", "import numpy"]
    with task.Grader(2) as grader:
        assert grader.grade_solution(".")["passed"]
    assert not (workspace / "loaded").exists()
    subprocess.run(control, check=False, capture_output=True)
    assert (workspace / "loaded").exists()


def test_judges_that_cannot_start_are_not_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a missing interpreter nor one that ends at once makes a reward of 0."""
    ends_at_once = shutil.which("true")
    for program, said in (("/nowhere/python", "No such file"), (ends_at_once, "an answer")):
        monkeypatch.setattr(task, "_interpreter", lambda program=program: program)
        with task.Grader(2) as grader, pytest.raises(task.GradingError, match=said):
            grader.grade_source(REFERENCE)


def test_not_graded_is_not_graded_by_judges_either(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a judge cannot do comes back as the same error; a workspace is graded as by one."""
    with task.Grader(2) as grader:
        assert grader.grade_solution(workspace)["passed"]
        (workspace / "test_dropout.py").unlink()
        assert grader.grade_solution(workspace)["failure_mode"] == "test_file_modified"
        with pytest.raises(task.GradingError, match="expected a directory"):
            grader.grade_solution(workspace / "nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with task.Grader(2, sandbox="bubblewrap") as grader, pytest.raises(
        task.GradingError, match="bwrap"
    ):
        grader.grade_source(REFERENCE)


def descendants(pid: int) -> list[int]:
    """The processes below one, the deepest last."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_from_outside_twice_is_not_graded(sandbox: str) -> None:
    """What the machine ends, as it does when memory is short, is no reward of 0."""
    with task.Grader(1, sandbox=sandbox) as grader, ThreadPoolExecutor(1) as pool:
        assert grader.grade_source(REFERENCE)["passed"]
        (bench,) = grader._idle.queue
        running = pool.submit(grader.grade_source, "while True: pass\n")
        seen = None
        while not running.done():
            worker = bench.worker
            if worker is None or worker is seen:
                time.sleep(0.01)
                continue
            with contextlib.suppress(OSError):
                burning = [pid for pid in descendants(worker._process.pid) if busy(pid)]
                for pid in burning[-1:]:
                    os.kill(pid, signal.SIGKILL)
                    seen = worker
        with pytest.raises(task.GradingError, match="out of memory"):
            running.result()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_submission_does_not_outlive_its_worker(sandbox: str) -> None:
    """The machine may end the worker and not what it has started."""
    with task.Grader(1, sandbox=sandbox, time_limit=4) as grader, ThreadPoolExecutor(1) as pool:
        assert grader.grade_source(REFERENCE)["passed"]
        worker = worker_of(grader)
        running = pool.submit(grader.grade_source, "while True: pass\n")
        above, below = 0, 0
        while not (below and used(below) > 0 and busy(below)):
            assert not running.done()
            time.sleep(0.01)
            above, below = [worker._process.pid, *descendants(worker._process.pid)][-2:]
        os.kill(above, signal.SIGKILL)
        assert running.result()["failure_mode"] == "timeout"  # of its second run
        ticks = used(below)
        time.sleep(0.1)
        assert used(below) == ticks


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("end", ["killed", "cut off"])
def test_a_process_that_ends_while_it_waits_costs_nothing(end: str, sandbox: str) -> None:
    """It is there before its submission, which runs in another one then."""
    with task.Grader(1, sandbox=sandbox) as grader:
        assert grader.grade_source(REFERENCE)["passed"]
        worker = worker_of(grader)
        before: list[int] = []
        while before != (below := descendants(worker._process.pid)) or not below:
            before = below
            time.sleep(0.1)
        if end == "killed":
            os.kill(below[-1], signal.SIGKILL)
        else:
            worker._channel.shutdown(socket.SHUT_RDWR)
        assert grader.grade_source(REFERENCE)["passed"]
        assert worker_of(grader) is not worker


def test_a_child_that_cannot_take_a_submission_is_not_graded() -> None:
    """Then nothing of the submission has run, so it is not what failed."""
    ending = struct.pack("=iiq", 0, task._NOT_READY << 8, 1000)
    assert task._decode_run(memoryview(b""), 80, ending, 10.0).ending == "killed"
    frame = struct.pack("=4sI", b"A", 1) + bytes(8)
    assert task._decode_run(memoryview(frame), 80, ending, 10.0).ending == "died"


def used(pid: int) -> int:
    """The user time of a process in ticks; -1 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
    except OSError:
        return -1


def busy(pid: int) -> bool:
    """Whether a process computes: its user time is more than a start takes."""
    return used(pid) / os.sysconf("SC_CLK_TCK") > 0.5


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os._exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("ctypes.string_at(0)", "signal 11"),
        ("os.write(4, b'.'); os._exit(3)", "exit code"),
        ("os.close(4); os._exit(3)", "exit code 3"),
    ],
)
def test_feedback_tells_how_a_process_ended(code: str, said: str, sandbox: str) -> None:
    """Every time, also when its end is seen before its status is."""
    with task.Grader(1, sandbox=sandbox) as grader:
        for number in range(20):
            verdict = grader.grade_source(f"import ctypes, os\n{code}\n# {number}\n")
            assert verdict["failure_mode"] == "crash"
            assert said in verdict["feedback"]


# --- Time, processes, descriptors -----------------------------------------------------------------


def test_time_limit_is_a_parameter(sandbox: str) -> None:
    """A loop ends with its limit, and the worker that ran it goes on."""
    with task.Grader(1, sandbox=sandbox, time_limit=1.0) as grader:
        started = time.monotonic()
        verdict = grader.grade_source("while True: pass\n")
        assert verdict["failure_mode"] == "timeout"
        assert "1 s" in verdict["feedback"]
        assert time.monotonic() - started < 8  # the default limit would be 10
        assert grader.grade_source(REFERENCE)["passed"]


def test_nothing_is_left_behind(sandbox: str, tmp_path: Path) -> None:
    """No process, no descriptor, no file: neither after a grade nor after a failed one."""
    program = """
import os, subprocess, sys, tempfile
import variance_dropout_task as task
def state():
    out = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True)
    kept = [line for line in out.stdout.splitlines() if b"ps -o" not in line]
    return len(os.listdir("/proc/self/fd")), kept, os.listdir(tempfile.gettempdir())
sandbox = sys.argv[1]
task.grade_source(task.REFERENCE_IMPLEMENTATION, sandbox=sandbox)
before = state()
for source in (task.REFERENCE_IMPLEMENTATION, "import os; os._exit(0)", "while True: pass", "("):
    task.grade_source(source, sandbox=sandbox, time_limit=0.5)
task.run_sandboxed("print(1)", ".", sandbox=sandbox)
list(task.Grader(2, sandbox=sandbox).map([task.REFERENCE_IMPLEMENTATION] * 3))
import gc; gc.collect()
print(state() == before or (before, state()))
"""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, sandbox],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")


LOOPS = {
    "grade": "grade_source('while True: pass', time_limit=60, sandbox=SANDBOX)",
    "several": "grade_many(['while True: pass'] * 2, 2, time_limit=60, sandbox=SANDBOX)",
    "tool": "run_sandboxed('while True: pass', '.', time_limit=2, sandbox=SANDBOX)",
}


@pytest.mark.parametrize("kind", LOOPS)
def test_a_killed_parent_leaves_no_process(kind: str, tmp_path: Path, sandbox: str) -> None:
    """What is run ends when the trusted side is gone, a plain tool soon after its time limit."""
    call = LOOPS[kind].replace("SANDBOX", repr(sandbox))
    program = f"import variance_dropout_task as task\ntask.{call}\n"
    marker = f"VDT_TEST_{os.getpid()}_{sandbox}_{kind}"
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": f"/nowhere/{marker}"},
    )

    def alive() -> list[str]:
        """The processes that inherited the marker, the one variable that is handed on."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if marker.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
            except OSError:
                continue
        return found

    def wait_until(condition: Callable[[], bool]) -> bool:
        for _ in range(200):
            if condition():
                return True
            time.sleep(0.1)
        return False

    assert wait_until(lambda: len(alive()) >= 2)  # the parent, and what it started
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not alive()), alive()


# --- From many places at once ---------------------------------------------------------------------


def test_sixteen_threads_at_once() -> None:
    """One grader, and cold grades, serve any number of threads."""
    with task.Grader(2) as grader, ThreadPoolExecutor(16) as pool:
        sources = [REFERENCE, BUGGY] * 16
        warm = list(pool.map(grader.grade_source, sources))
        cold = list(pool.map(task.grade_source, sources[:16]))
    assert [verdict["passed"] for verdict in warm] == [True, False] * 16
    assert [verdict["passed"] for verdict in cold] == [True, False] * 8


def test_a_thread_that_ends_takes_no_worker_with_it() -> None:
    """A worker outlives the thread that started it."""
    with task.Grader(1) as grader:
        thread = threading.Thread(target=grader.grade_source, args=(REFERENCE,))
        thread.start()
        thread.join()
        worker = worker_of(grader)
        assert grader.grade_source(REFERENCE)["passed"]
        assert worker_of(grader) is worker


def test_from_a_running_event_loop() -> None:
    """As in a notebook: directly, and through asyncio.to_thread without blocking the loop."""

    async def main() -> tuple[bool, bool]:
        direct = task.grade_source(REFERENCE)["passed"]
        with task.Grader(1) as grader:
            verdicts = await asyncio.gather(
                *(asyncio.to_thread(grader.grade_source, REFERENCE) for _ in range(3))
            )
        return direct, all(verdict["passed"] for verdict in verdicts)

    assert asyncio.run(main()) == (True, True)


def test_map_is_lazy_and_in_order() -> None:
    """Endless iterables are fine: it reads a few ahead, and yields in order."""
    taken = itertools.count()
    endless = (REFERENCE if index % 3 else BUGGY for index in taken)
    with task.Grader(2) as grader:
        verdicts = list(itertools.islice(grader.map(endless), 7))
    assert [verdict["passed"] for verdict in verdicts] == [bool(n % 3) for n in range(7)]
    assert next(taken) < 20


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_left_early_ends_at_once(workers: int) -> None:
    """Neither a break nor an exception waits for submissions that hang; others are not touched."""
    hanging = ["while True: pass"] * 8
    with task.Grader(workers, time_limit=60) as grader:
        started = time.monotonic()
        for verdict in grader.map([REFERENCE, *hanging]):
            assert verdict["passed"]
            break
        with pytest.raises(TypeError, match="str or bytes"):
            list(grader.map([None, *hanging]))  # type: ignore[list-item]
        assert grader.grade_source(REFERENCE)["passed"]
    with ThreadPoolExecutor(4) as pool, contextlib.suppress(KeyboardInterrupt), task.Grader(
        workers, time_limit=60
    ) as grader:
        futures = [pool.submit(grader.grade_source, source) for source in hanging]
        while len(grader._busy) < workers:
            time.sleep(0.01)
        raise KeyboardInterrupt
    for future in futures:
        with pytest.raises(task.GradingError, match=r"ended|stopped|answer"):
            future.result()
    assert time.monotonic() - started < 50  # one time limit would be 60


def test_a_grade_that_begins_as_its_map_is_left_does_not_run() -> None:
    """Nobody waits for it: not even if it had seen that somebody did."""
    abandoned = threading.Event()

    class LeftMeanwhile:
        def __enter__(self) -> None:
            abandoned.set()

        def __exit__(self, *_: object) -> None: ...

    with task.Grader(1, time_limit=2) as grader:
        grader._lock = LeftMeanwhile()  # type: ignore[assignment]
        with pytest.raises(task.GradingError, match="ended"):
            grader._use_free("grade_source", b"while True: pass", abandoned)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_class_of_the_callers_may_be_a_source(workers: int) -> None:
    """Its class is not known to the processes that grade."""

    class Text(str): ...

    class Data(bytes): ...

    with task.Grader(workers) as grader:
        sources = [Text(REFERENCE), Data(REFERENCE.encode())]
        assert [verdict["passed"] for verdict in grader.map(sources)] == [True, True]


def test_a_grader_that_an_exception_ended_can_be_entered_again() -> None:
    """As in a notebook, after Ctrl-C in a cell."""
    grader = task.Grader(1)
    with contextlib.suppress(KeyError), grader:
        raise KeyError
    with grader:
        assert grader.grade_source(REFERENCE)["passed"]


def test_one_source_is_no_iterable_of_sources() -> None:
    """Its letters are not graded one by one."""
    with task.Grader(1) as grader, pytest.raises(TypeError, match="several sources"):
        grader.map(REFERENCE)


def test_nothing_is_left_for_the_first_process_to_collect(sandbox: str) -> None:
    """What ends, ends as a child of what started it: in a container nobody else may collect it."""
    program = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans become children of this process
import variance_dropout_task as task
for workers in (1, 2):
    with task.Grader(workers, sandbox=sys.argv[1]) as grader:
        list(grader.map([task.REFERENCE_IMPLEMENTATION, "while True: pass"][:workers]))
try:
    print("left", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("nothing")
"""
    program = program.replace('sandbox=sys.argv[1]', 'sandbox=sys.argv[1], time_limit=2')
    done = subprocess.run(
        [sys.executable, "-c", program, sandbox], capture_output=True, text=True, check=False,
        cwd=ROOT,
    )
    assert (done.stdout, done.stderr) == ("nothing\n", "")


def test_grade_many_keeps_the_order() -> None:
    """The one-liner for a batch."""
    passed = [verdict["passed"] for verdict in task.grade_many([BUGGY, REFERENCE, ""], workers=2)]
    assert passed == [False, True, False]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_starts_workers_of_its_own() -> None:
    """After a fork the child grades for itself, and the parent's worker is left alone."""
    with task.Grader(1) as grader:
        assert grader.grade_source(REFERENCE)["passed"]
        worker = worker_of(grader)
        pid = os.fork()
        if pid == 0:
            try:
                right = grader.grade_source(REFERENCE)["passed"]
                right &= worker_of(grader) is not worker
                grader.close()
                os._exit(0 if right else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert grader.grade_source(REFERENCE)["passed"]
        assert worker_of(grader) is worker


def processes(grader: task.Grader) -> list[Any]:
    """What the idle places of a grader have started; None where there is nothing yet."""
    idle: list[Any] = list(grader._idle.queue)
    started = [getattr(one, "worker", None) or one for one in idle]
    return [vars(one).get("_process") or vars(one).get("process") for one in started]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forked_process_ends_nothing_of_its_parent(workers: int) -> None:
    """An exception in the child leaves alone what is at work for the parent."""
    slow = "import time\ntime.sleep(0.5)\n" + REFERENCE
    with task.Grader(workers) as grader, ThreadPoolExecutor(1) as pool:
        assert grader.grade_source(REFERENCE)["passed"]
        before = processes(grader)
        running = pool.submit(grader.grade_source, slow)
        while not grader._busy:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            try:
                grader.__exit__(KeyboardInterrupt)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert running.result()["passed"]
        assert processes(grader) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forked_process_does_not_keep_workers_alive(workers: int) -> None:
    """They end by themselves when they are closed, whoever holds a copy of their sockets."""
    grader = task.Grader(workers)
    assert grader.grade_source(REFERENCE)["passed"]
    (process,) = filter(None, processes(grader))
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        grader.close()
        assert process.returncode == 0  # not -9: it would have been killed after a while
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="sets the cores of processes")
def test_as_many_workers_as_cores_keep_to_one_each() -> None:
    """And fewer, or more, go where the system puts them."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")

    def kept(workers: int) -> list[set[int]]:
        with task.Grader(workers) as grader:
            judges = [grader._idle.get() for _ in range(workers)]
            for judge in judges:
                assert isinstance(judge, task._Judge)
                assert judge.grade_source(REFERENCE.encode())["passed"]
                grader._idle.put(judge)
            return [os.sched_getaffinity(judge.process.pid) for judge in judges]

    two = set(sorted(cores)[:2])
    os.sched_setaffinity(0, two)
    try:
        assert sorted(map(sorted, kept(2))) == [[core] for core in sorted(two)]
        assert kept(3) == [two] * 3
    finally:
        os.sched_setaffinity(0, cores)


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """Root is not needed: neither for bubblewrap, where users may have it, nor for the process."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root to become another user")
    program = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import variance_dropout_task as task
print(task.grade_source(task.REFERENCE_IMPLEMENTATION)["passed"])
"""
    shutil.copy(task.__file__, tmp_path)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o755)
    probe = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c"]
    readable = "import os, sys, numpy; open(os.path.realpath(sys._base_executable), 'rb')"
    if subprocess.run([*probe, readable], capture_output=True, check=False).returncode:
        pytest.skip("other users cannot run this interpreter")
    done = subprocess.run([*probe, program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize("source", [5, None, ["x"]])
def test_a_source_is_text_or_bytes(source: Any) -> None:
    """Anything else is the caller's mistake, named."""
    with pytest.raises(TypeError, match="source must be str or bytes"):
        task.grade_source(source)


def test_no_descriptors_left_is_not_graded() -> None:
    """A machine that gives no more descriptors gives no reward of 0."""
    program = """
import os, resource, variance_dropout_task as task
count = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 1, 4096))
try:
    print(task.grade_source(task.REFERENCE_IMPLEMENTATION, sandbox="process")["reward"])
except task.GradingError as error:
    print("not graded:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.startswith("not graded:"), done.stdout + done.stderr


def test_descriptors_exhausted_with_a_warm_worker_is_no_accusation(workspace: Path) -> None:
    """When the trusted side cannot open a file, the submission has not tampered with it."""
    program = f"""
import os, resource, variance_dropout_task as task
with task.Grader(1, sandbox="process") as grader:
    print(grader.grade_solution({str(workspace)!r})["passed"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        print(grader.grade_solution({str(workspace)!r})["failure_mode"])
    except task.GradingError as error:
        print("not graded")
    for descriptor in held:
        os.close(descriptor)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split("\n")[:2] == ["True", "not graded"], done.stdout + done.stderr


def test_blocked_signals_of_the_caller_are_no_matter(sandbox: str) -> None:
    """A caller that blocks SIGCHLD gets its verdicts as fast as others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        with task.Grader(1, sandbox=sandbox, time_limit=60) as grader:
            started = time.monotonic()
            assert grader.grade_source(REFERENCE)["passed"]
            assert time.monotonic() - started < 30  # it would take the whole limit
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_workspaces_are_not_graded(name: str) -> None:
    """A path that no system takes is the caller's mistake."""
    with pytest.raises((task.GradingError, ValueError)):
        task.grade_solution(name)


@pytest.mark.parametrize(
    "name", ["overflow_in_the_factor", "not_a_number_in_single_precision"]
)
def test_verdicts_are_json_whatever_the_figures(name: str) -> None:
    """No infinity and no nan in a verdict."""
    source = (ROOT / f"tests/attempts/wrong/{name}.py").read_bytes()
    verdict = task.grade_source(source, sandbox="process")
    assert not verdict["passed"]
    assert json.dumps(verdict, allow_nan=False)
