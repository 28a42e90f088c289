"""integrations/inspect_task.py in Inspect itself, offline: scripted models, the local sandbox."""

from __future__ import annotations

import functools
import gc
import hashlib
import itertools
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, attempts

import variance_dropout_task as task

REASON = "pip install -r integrations/requirements/inspect.txt"
FILE = "integrations/inspect_task.py"
REFERENCE = task.REFERENCE_IMPLEMENTATION
LIMIT = 256 << 10

Call = tuple[str, dict[str, str]]


def write(content: str, path: str = "dropout.py") -> Call:
    return "write_file", {"path": path, "content": content}


def execute(code: str) -> Call:
    return "execute_code", {"code": code}


def overwrite(code: str) -> Call:
    """A program that puts something else in the place of dropout.py."""
    return execute(f"import os\nos.remove('dropout.py')\n{code}")


def padded(size: int) -> str:
    """The reference, which passes, and a comment that brings it to `size` bytes."""
    return REFERENCE + "#" * (size - len(REFERENCE))


HOSTILE = {
    one.path.stem: one
    for one in attempts("hostile")
    if one.path.stem in (
        "builtin_all_and_any_patched", "json_verdict_on_every_descriptor",
        "error_message_with_lone_surrogates",
    )
}
LATIN = "# coding: latin-1\n# d\u00e9riv\u00e9e\n".encode("latin-1") + REFERENCE.encode()

# name: what the model does before it submits, and the failure modes that are right
CASES: dict[str, tuple[list[Call], list[str]]] = {
    "solved": (
        [
            ("read_file", {"path": "dropout.py"}),
            execute("import dropout\nprint(dropout.VarianceStabilizedDropout(0.25).dropout_rate)"),
            write(REFERENCE),
            execute("import sys\nprint('to stderr', file=sys.stderr)\nsys.exit(3)"),
        ],
        ["pass"],
    ),
    "unchanged": ([], ["mean_preserving_scaling_unchanged"]),
    **{name: ([write(one.source.decode())], one.expected) for name, one in HOSTILE.items()},
    **{f"{name} control": ([write(one.control.decode())], ["pass"])
       for name, one in HOSTILE.items()},
    "deleted": ([overwrite("")], ["no_submission"]),
    "link": (
        [write(REFERENCE, "real.py"), overwrite("os.symlink('real.py', 'dropout.py')")],
        ["no_submission"],
    ),
    "pipe": (
        [overwrite("os.mkfifo('dropout.py')"), ("read_file", {"path": "dropout.py"})],
        ["no_submission"],
    ),
    "pipe replaced": ([overwrite("os.mkfifo('dropout.py')"), write(REFERENCE)], ["pass"]),
    "directory": ([overwrite("os.mkdir('dropout.py')"), write(REFERENCE)], ["no_submission"]),
    "huge": ([write(padded(LIMIT + 1))], ["no_submission"]),
    "huge control": ([write(padded(LIMIT))], ["pass"]),
    "binary": ([execute("open('dropout.py', 'wb').write(bytes(range(256)))")], ["syntax_error"]),
    "latin": (
        [execute(f"open('dropout.py', 'wb').write({LATIN!r})"),
         ("read_file", {"path": "dropout.py"})],
        ["pass"],
    ),
    "test modified": ([write(REFERENCE), write("", "test_dropout.py")], ["test_file_modified"]),
    "awkward": (
        [
            write("x", ""), write("x", "a\0b"), write("x", "x" * 200_000),
            write("x", "dropout.py/x"), ("read_file", {"path": "-x"}),
            write(REFERENCE),
        ],
        ["pass"],
    ),
}


@pytest.fixture(scope="module")
def adapter() -> Any:
    """The file as Inspect imports it."""
    pytest.importorskip("inspect_ai", reason=REASON)
    from integrations import inspect_task

    yield inspect_task
    inspect_task.grader().close()


def scripted(cases: dict[str, list[Call]]) -> Any:
    """A model that plays one case a sample, and submits the case's name."""
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    unused = iter(cases.items())
    playing: dict[str | None, Iterator[Call]] = {}

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        sample = next(message.id for message in messages if message.role == "user")
        if sample not in playing:
            name, calls = next(unused)
            playing[sample] = itertools.chain(calls, [("submit", {"answer": name})])
        output = ModelOutput.for_tool_call("mockllm", *next(playing[sample]))
        # Without usage, Inspect counts tokens with an encoding that it would have to download.
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    return get_model("mockllm/model", custom_outputs=answer)


@pytest.fixture(scope="module")
def evaluate(adapter: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run the task with a model that plays the cases, one sample each; returns the log."""
    from inspect_ai import eval

    def run(cases: dict[str, list[Call]], **options: Any) -> Any:
        task = adapter.variance_dropout(samples=len(cases), sandbox="local")
        logs = str(tmp_path_factory.mktemp("logs"))
        with warnings.catch_warnings():
            # Of Inspect's own doing: streams left to the garbage collector, a retired argument.
            warnings.filterwarnings("ignore", "Unclosed <MemoryObject", ResourceWarning)
            warnings.filterwarnings("ignore", "The 'initial' parameter", DeprecationWarning)
            log = eval(task, model=scripted(cases), display="none", log_dir=logs, **options)[0]
            gc.collect()
        return log

    return run


@pytest.fixture(scope="module")
def log(evaluate: Callable[..., Any]) -> Any:
    """All cases in one run."""
    return evaluate({name: calls for name, (calls, _) in CASES.items()})


def sample_of(log: Any, case: str) -> Any:
    return next(one for one in log.samples if one.output.completion.splitlines()[-1:] == [case])


def results(sample: Any) -> list[str]:
    """What the model was told by its tools."""
    told = [message for message in sample.messages if message.role == "tool"]
    return [message.error.message if message.error else message.text for message in told]


@pytest.mark.parametrize("case", CASES)
def test_score(case: str, log: Any) -> None:
    """What a model leaves behind gets the verdict that is true of it, and never an error."""
    sample, expected = sample_of(log, case), CASES[case][1]
    assert sample.error is None
    score = sample.scores["dropout_scorer"]
    assert score.value == ("C" if expected == ["pass"] else "I"), score.explanation
    assert (score.metadata["failure_mode"] or "pass") in expected, score.explanation
    assert score.explanation == score.metadata["output"]


def test_the_score_holds_what_was_graded(log: Any) -> None:
    """The final source and its hash are in the log; the bytes are those of the sandbox."""
    score = sample_of(log, "solved").scores["dropout_scorer"]
    assert score.answer == REFERENCE
    latin = sample_of(log, "latin").scores["dropout_scorer"]
    assert latin.metadata["source_sha256"] == hashlib.sha256(LATIN).hexdigest()


def test_accuracy_and_standard_error(log: Any) -> None:
    """They are those of the pass rate over all samples."""
    passes = [float(expected == ["pass"]) for _, expected in CASES.values()]
    rate, n = sum(passes) / len(passes), len(passes)
    metrics = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert metrics["accuracy"] == pytest.approx(rate)
    assert metrics["stderr"] == pytest.approx(math.sqrt(rate * (1 - rate) / (n - 1)))
    assert metrics["stderr"] > 0


def test_the_tools_work(log: Any) -> None:
    """They read the starting file, run programs in the workspace and write."""
    read, ran, wrote, failed = results(sample_of(log, "solved"))
    assert read == task.BUGGY_IMPLEMENTATION
    assert ran == "exit code 0\n0.25\n"
    assert wrote == f"wrote {len(REFERENCE)} bytes to dropout.py"
    assert failed == "exit code 3\nto stderr\n"


def test_the_mistakes_of_the_model_are_told_to_it(log: Any) -> None:
    """A path that no file can have ends no sample; nor does a pipe or a wrong encoding."""
    *mistakes, wrote = results(sample_of(log, "awkward"))
    assert len(mistakes) == 5
    assert not any(told.startswith("wrote") for told in mistakes)
    assert wrote.startswith("wrote")  # the control
    assert "not a regular file" in results(sample_of(log, "pipe"))[1]
    assert "utf-8" in results(sample_of(log, "latin"))[1]


def test_the_model_sees_what_the_projects_own_measurement_shows(adapter: Any, log: Any) -> None:
    """The prompt, and the three tools in the same words."""
    from validate_task import TOOLS

    sample = sample_of(log, "solved")
    assert sample.input == task.TASK_PROMPT
    event = next(event for event in sample.events if event.event == "model")
    assert {tool.name for tool in event.tools} == {*TOOLS, "submit"}
    told = {one.name: (one.description, (*one.parameters.properties,)) for one in adapter.tools("")}
    assert told == {name: (tool.description, tool.arguments) for name, tool in TOOLS.items()}


def test_a_file_outside_is_not_written_through_a_link(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    """write_file replaces a link, and leaves alone what it points to."""
    outside = tmp_path / "outside"
    outside.write_text("kept")
    link = execute(f"import os\nos.symlink({str(outside)!r}, 'link')\n")
    log = evaluate({"link": [link, write("new", "link"), ("read_file", {"path": "link"})]})
    assert results(log.samples[0])[2] == "new"
    assert outside.read_text() == "kept"


def test_a_loop_is_ended(
    adapter: Any, evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is told so, and goes on."""
    monkeypatch.setattr(adapter, "TOOL_SECONDS", 2.0)
    log = evaluate({"loop": [execute("while True: pass"), write(REFERENCE)]})
    assert "timed out" in results(log.samples[0])[0]
    assert log.samples[0].scores["dropout_scorer"].value == "C"


def test_what_cannot_be_graded_is_an_error_and_no_score(
    adapter: Any, evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GradingError: the sample has no score, and the rate is that of the others."""
    real = adapter.grader()

    class Grader:
        def grade_solution(self, workspace: str) -> task.Verdict:
            if "cannot be graded" in Path(workspace, "dropout.py").read_text():
                raise task.GradingError("out of memory")
            return real.grade_solution(workspace)

    monkeypatch.setattr(adapter, "grader", Grader)
    cases = {"lost": [write("# cannot be graded")], "solved": [write(REFERENCE)]}
    log = evaluate(cases, fail_on_error=False)
    (lost,) = [sample for sample in log.samples if sample.error]
    assert "out of memory" in lost.error.message
    assert not lost.scores
    assert log.results.scores[0].scored_samples == 1
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    assert evaluate(cases).status == "error"  # Inspect's default: it ends the run


def test_a_sandbox_that_fails_is_an_error_and_no_score(
    adapter: Any, evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be looked for is not a missing one."""
    from inspect_ai.util import ExecResult

    async def killed(*_: str, **__: Any) -> ExecResult[str]:
        return ExecResult(success=False, returncode=137, stdout="", stderr="Killed")

    with monkeypatch.context() as patched:
        patched.setattr(adapter, "run", killed)
        sample = evaluate({"lost": []}, fail_on_error=False).samples[0]
    assert "137" in sample.error.message
    assert not sample.scores


def test_grading_does_not_block_and_shares_one_grader(
    adapter: Any, evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two samples are inside the same grader at once: the event loop goes on meanwhile."""
    real, both, made = adapter.grader(), threading.Barrier(2), []

    class Grader:
        def __init__(self) -> None:
            made.append(self)

        def grade_solution(self, workspace: str) -> task.Verdict:
            both.wait(timeout=60)
            return real.grade_solution(workspace)

    monkeypatch.setattr(adapter, "Grader", Grader)
    monkeypatch.setattr(adapter, "grader", functools.cache(adapter.grader.__wrapped__))
    log = evaluate({"one": [], "other": []})
    assert (log.status, len(made)) == ("success", 1), log.error


def test_the_container(adapter: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default: an image with NumPy, no network, no root, at the same place in every run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sandbox = adapter.variance_dropout(samples=1).sandbox
    assert sandbox.type == "docker"
    assert adapter.variance_dropout(samples=1).sandbox == sandbox
    service = sandbox.config.services["default"]
    assert service.network_mode == "none"
    dockerfile = Path(service.build, "Dockerfile").read_text()
    assert dockerfile == adapter.DOCKERFILE
    assert "numpy" in dockerfile
    assert dockerfile.index("RUN pip") < dockerfile.index("USER nobody")


SOLVER = f"""
from inspect_ai.solver import solver
from inspect_ai.util import sandbox

@solver
def reference():
    async def solve(state, generate):
        await sandbox().write_file("dropout.py", {REFERENCE!r})
        return state
    return solve
"""

# In place of the real one, which downloads its encodings.
TIKTOKEN = """
class Encoding:
    def encode(self, text, **_):
        return text.split()

def get_encoding(name):
    return Encoding()
"""


@pytest.mark.parametrize(("own_solver", "accuracy"), [(True, 1.0), (False, 0.0)])
def test_command_line(adapter: Any, tmp_path: Path, own_solver: bool, accuracy: float) -> None:
    """`inspect eval` runs the file, with its own agent or another solver."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    (tmp_path / "tiktoken.py").write_text(TIKTOKEN)
    (tmp_path / "solver.py").write_text(SOLVER)
    command = [sys.executable, "-m", "inspect_ai", "eval", FILE, "--model", "mockllm/model",
               "-T", "sandbox=local", "-T", "samples=2", "--log-dir", str(tmp_path / "logs")]
    command += ["--solver", str(tmp_path / "solver.py")] if own_solver else []
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (where,) = list_eval_logs(str(tmp_path / "logs"))
    log = read_eval_log(where)
    assert log.status == "success", log.error
    assert log.results.scores[0].scored_samples == 2
    assert log.results.scores[0].metrics["accuracy"].value == accuracy
    ended_by = {sample.limit.type if sample.limit else None for sample in log.samples}
    assert ended_by == {None if own_solver else "turn"}


def test_without_inspect() -> None:
    """One sentence that says what to install, and no traceback."""
    code = f"import sys, runpy\nsys.modules['inspect_ai'] = None\nrunpy.run_path({FILE!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "expected inspect-ai>=" in done.stderr
    assert "pip install -r integrations/requirements/inspect.txt" in done.stderr
    assert done.stderr.count("\n") == 1
