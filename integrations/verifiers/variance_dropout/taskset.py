"""Variance-Stabilized Dropout for verifiers (v1 API): repair a NumPy dropout layer.

    pip install integrations/verifiers
    vf-validate variance-dropout --runtime.type subprocess

The model works in the runtime with the harness's own tools. When it is done, the texts of its two
files leave the runtime; the grader, which runs beside verifiers, runs the layer in a sandbox of
its own. Nothing that the model left in the runtime takes part.

Not protected: the runtime. With `--runtime.type subprocess` the harness runs the model's commands
on this machine, as you. Take that for scripted policies, and a container for a model.
"""

import asyncio
import atexit
import contextlib
import functools
import tempfile
from pathlib import Path
from typing import Literal

import verifiers.v1 as vf

import variance_dropout_task as core

FILES = {"dropout.py": core.BUGGY_IMPLEMENTATION, "test_dropout.py": core.TEST_SCRIPT}

# More than the grader takes, so that it is the grader who says "too large".
READ_LIMIT_BYTES = 1 << 20


class VarianceDropoutTaskConfig(vf.TaskConfig):
    """Knobs of grading, under `--env.taskset.task.*`."""

    sandbox: Literal["auto", "bubblewrap", "process"] = "auto"
    """Where submissions run: auto is bubblewrap where it is usable, else a plain process."""


class VarianceDropoutTask(vf.Task[vf.TaskData, vf.State, VarianceDropoutTaskConfig]):
    """Lays out the workspace, takes the two files out again, and has them graded."""

    async def setup(self, runtime: vf.Runtime) -> None:
        await _require_numpy(runtime)
        for name, text in FILES.items():
            await runtime.write(name, text.encode())

    async def finalize(self, trace: vf.Trace, runtime: vf.Runtime) -> None:
        # Not in the reward: if this fails or runs out of time there is no verdict, the rollout is
        # an error, and no reward of 0 is recorded.
        trace.info["verdict"] = await self._grade(runtime)

    @vf.reward
    async def solved(self, trace: vf.Trace) -> float:
        return trace.info["verdict"]["reward"]

    @vf.metric
    async def checks_passed(self, trace: vf.Trace) -> float:
        checks = trace.info["verdict"]["checks"]
        return sum(check["passed"] for check in checks) / len(checks)

    @vf.metric
    async def variance_error(self, trace: vf.Trace) -> dict[str, float]:
        error = trace.info["verdict"]["variance_error"]
        return {} if error is None else {"variance_error": error}  # nothing ran: no number

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the reference solution, put into the workspace, passes."""
        await runtime.write("dropout.py", core.REFERENCE_IMPLEMENTATION.encode())
        return (await self._grade(runtime))["passed"]

    async def _grade(self, runtime: vf.Runtime) -> core.Verdict:
        with tempfile.TemporaryDirectory() as workspace:
            for name in FILES:
                if (data := await _take(runtime, name)) is not None:
                    Path(workspace, name).write_bytes(data)
            grader = _grader(self.config.sandbox)
            return await asyncio.to_thread(grader.grade_solution, workspace)


class VarianceDropoutConfig(vf.TasksetConfig):
    task: VarianceDropoutTaskConfig = VarianceDropoutTaskConfig()


class VarianceDropoutTaskset(vf.Taskset[VarianceDropoutTask, VarianceDropoutConfig]):
    """One task; take several rollouts of it (`-r`)."""

    def load(self) -> list[VarianceDropoutTask]:
        data = vf.TaskData(
            id="variance-dropout",
            name="variance-dropout",
            prompt=core.TASK_PROMPT,
            timeout=vf.TaskTimeout(finalize=300),
        )
        return [VarianceDropoutTask(data, self.config.task)]


async def _require_numpy(runtime: vf.Runtime) -> None:
    """The model runs `python test_dropout.py`; where it cannot, the box would be measured."""
    command = "python -c 'import numpy'"
    if runtime.type != "subprocess":  # a box of its own: the default images lack NumPy
        command += " 2>/dev/null || python -m pip install -q --root-user-action=ignore numpy"
    done = await runtime.run(["sh", "-c", command], {})
    if done.exit_code:
        raise RuntimeError(
            f"expected `python` with NumPy in the runtime, got: {done.stderr.strip()[-500:]}; put "
            "such a python on PATH (subprocess), or choose an image that has it (--runtime.image)"
        )


async def _take(runtime: vf.Runtime, name: str) -> bytes | None:
    """A file of the workspace; None where the model left nothing that can be read.

    Raises if it is the runtime that is lost: nothing is known about the submission then.
    """
    # A link could point out of the workspace, and nobody may ever write to a FIFO.
    is_file = ["sh", "-c", f"test -f {name} && ! test -L {name}"]
    try:
        with contextlib.suppress(vf.SandboxError):  # too large, not readable, or no runtime
            if (await runtime.run(is_file, {})).exit_code == 0:
                return await runtime.read(name, max_bytes=READ_LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # a subprocess, and the model removed its own workspace
    if not await runtime.alive():
        raise RuntimeError(f"expected to read {name}, but the runtime is gone")
    return None


@functools.cache
def _grader(sandbox: str) -> core.Grader:
    """One warm grader for all rollouts of this process."""
    grader = core.Grader(sandbox=sandbox)
    atexit.register(grader.close)
    return grader
