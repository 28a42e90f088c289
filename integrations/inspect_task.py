"""The task for Inspect (https://inspect.aisi.org.uk).

    pip install -r integrations/requirements/inspect.txt
    inspect eval integrations/inspect_task.py --model anthropic/claude-opus-5-5

Every sample is one attempt at the same task, so that Inspect's standard error, which is over
samples, is that of the pass rate; `-T samples=50` asks for more. Leave Inspect's model cache off,
or all samples get one answer. The tools work in a Docker container without network, whose image is
built at the first run; `-T sandbox=local` tries things out without Docker. `--solver`,
`--turn-limit` and the like are Inspect's own.

The scorer takes two files out of the sandbox as bytes and grades them on this machine, in the
grader's sandbox. What cannot be graded is an error of its sample, never a score of 0;
`--no-fail-on-error` goes on without it.

What it does not protect against: in the local sandbox, the model's programs run as your user, with
your network, files and keys. A model that breaks its own container gets an error in place of a
score, which leaves the pass rate: look at the errors, too.
"""

from __future__ import annotations

import base64
import errno
import functools
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import anyio
    import platformdirs
    from inspect_ai import Task, task
    from inspect_ai.agent import react
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import (
        CORRECT,
        INCORRECT,
        Score,
        Scorer,
        Target,
        accuracy,
        scorer,
        stderr,
    )
    from inspect_ai.solver import TaskState
    from inspect_ai.tool import ToolDef, ToolError
    from inspect_ai.util import ComposeConfig, ExecResult, SandboxEnvironmentSpec, sandbox

    from validate_task import FILE_LIMIT, TOOL_SECONDS, TOOLS, Settings
    from variance_dropout_task import BUGGY_IMPLEMENTATION, TASK_PROMPT, TEST_SCRIPT, Grader
except ImportError as problem:
    sys.exit(f"inspect_task.py: expected inspect-ai>=0.3.285,<0.4 and NumPy, got: {problem}; "
             "run pip install -r integrations/requirements/inspect.txt")

FILES = {"dropout.py": BUGGY_IMPLEMENTATION, "test_dropout.py": TEST_SCRIPT}

DOCKERFILE = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir "numpy>=2,<3" && install -d -o nobody -g nogroup /workspace
USER nobody
WORKDIR /workspace
"""


@task
def variance_dropout(samples: int = 15, sandbox: str = "docker") -> Task:
    """Repair a dropout layer so that it preserves the variance of zero-mean activations.

    Args:
        samples: How many attempts; each is a sample of its own.
        sandbox: "docker", or the name of another sandbox that has Python with NumPy ("local").
    """
    return Task(
        dataset=[Sample(TASK_PROMPT, id=n + 1, files=FILES) for n in range(samples)],
        solver=react(tools=tools(sys.executable if sandbox == "local" else "python3")),
        scorer=dropout_scorer(),
        sandbox=container() if sandbox == "docker" else sandbox,
        # the limits of the project's own measurement
        turn_limit=Settings.max_turns,
        token_limit=Settings.max_total_tokens,
        time_limit=Settings.max_seconds,
    )


def container() -> SandboxEnvironmentSpec:
    """Python with NumPy and nothing else: no network, no root, limits on memory and processes."""
    # A lasting place: `inspect eval-retry` builds from where the log says that it was.
    context = platformdirs.user_cache_path("variance_dropout_task") / "inspect"
    context.mkdir(parents=True, exist_ok=True)
    (context / "Dockerfile").write_text(DOCKERFILE)
    service = {
        "build": str(context), "command": "tail -f /dev/null", "init": True,
        "network_mode": "none", "mem_limit": "2g", "pids_limit": 256, "stop_grace_period": "1s",
    }
    config = ComposeConfig.model_validate({"services": {"default": service}})
    return SandboxEnvironmentSpec("docker", config)


@scorer(metrics=[accuracy(), stderr()])
def dropout_scorer() -> Scorer:
    """Grades the files in the sandbox with the core's grader, and with nothing else."""

    async def score(state: TaskState, target: Target) -> Score:
        pulled = {name: await pull(name) for name in FILES}
        with tempfile.TemporaryDirectory(prefix="dropout-") as workspace:
            for name, data in pulled.items():
                if data is not None:
                    Path(workspace, name).write_bytes(data)
            verdict = await anyio.to_thread.run_sync(grader().grade_solution, workspace)
        return Score(
            value=CORRECT if verdict["passed"] else INCORRECT,
            answer=(pulled["dropout.py"] or b"").decode("utf-8", "replace"),
            explanation=verdict["output"],
            metadata=dict(verdict),
        )

    return score


@functools.cache
def grader() -> Grader:
    """One for all samples and tasks of this process: its workers stay warm."""
    return Grader()


def tools(python: str) -> list[ToolDef]:
    """The tools of validate_task.py, in the sandbox of the sample. python: the interpreter there.
    """

    async def read_file(path: str) -> str:
        data = await pull(path)
        if data is None or len(data) > FILE_LIMIT:
            raise ToolError(f"{path!r} is not a regular file of at most {FILE_LIMIT} bytes")
        return data.decode("utf-8")  # where it is not UTF-8, Inspect tells the model so

    async def write_file(path: str, content: str) -> str:
        # Removed and made anew: a link or a pipe is never written to.
        script = 'mkdir -p -- "$(dirname -- "$1")" && rm -f -- "$1" && cat > "$1"'
        done = await run("sh", "-c", script, "sh", path, text=content)
        if not done.success:
            raise ToolError(done.stderr)
        return f"wrote {len(content.encode())} bytes to {path}"

    async def execute_code(code: str) -> str:
        done = await run(python, "-", text=code)
        return f"exit code {done.returncode}\n{done.stdout}{done.stderr}"

    told = {"path": "Relative to the workspace.", "content": "All of it.", "code": "A program."}

    def defined(function: Callable[..., Awaitable[str]]) -> ToolDef:
        tool = TOOLS[function.__name__]
        meaning = {key: told[key] for key in tool.arguments}
        return ToolDef(function, function.__name__, tool.description, meaning)

    return [defined(function) for function in (read_file, write_file, execute_code)]


async def pull(path: str) -> bytes | None:
    """The bytes of a regular file in the sandbox, cut one past the limit; None if there is none.

    Not by `sandbox().read_file`: in some sandboxes it follows links and waits for pipes.
    """
    script = 'test -f "$1" && test ! -L "$1" && head -c "$2" -- "$1" | base64'
    done = await run("sh", "-c", script, "sh", path, str(FILE_LIMIT + 1))
    if done.returncode > 1:  # not the answer of `test`: nothing is known of the file
        raise ToolError(f"reading {path!r} ended with exit code {done.returncode}: {done.stderr}")
    return base64.b64decode(done.stdout) if done.success else None


async def run(*command: str, text: str | None = None) -> ExecResult[str]:
    """Run a command in the sandbox of the sample."""
    try:
        return await sandbox().exec(list(command), input=text, timeout=int(TOOL_SECONDS))
    except OSError as mistake:
        if mistake.errno != errno.E2BIG:
            raise
        raise ToolError("the path is too long") from None  # or it would end the sample


if __name__ == "__main__":
    print(__doc__)
