"""The task for TRL's GRPOTrainer: an environment with tools, and a reward function without.

    python integrations/trl_env.py    # shows rollouts and their rewards; needs NumPy alone
    pip install -r integrations/requirements/trl.txt

    from integrations.trl_env import PROMPT, SINGLE_TURN_PROMPT, VarianceDropoutEnv, reward_func

    GRPOTrainer(model, environment_factory=VarianceDropoutEnv, args=...,
                train_dataset=Dataset.from_list([{"prompt": PROMPT}] * 256))
    GRPOTrainer(model, reward_func, args=...,
                train_dataset=Dataset.from_list([{"prompt": SINGLE_TURN_PROMPT}] * 256))

With the first, the policy works with tools in a workspace of its own. The second takes one reply
and grades the last Python block in it. Both share one warm grader.

The reward of a rollout that could not be graded is None, and TRL leaves it out of its group. That
holds where there is no other reward: beside one, TRL would count None as 0.

What it does not protect against: without bubblewrap the tools would run the policy's programs as
your user, which is refused unless you allow it. TRL calls `get_reward` for one rollout after the
other; `reward_func` grades as many at once as there are cores.
"""

from __future__ import annotations

import functools
import logging
import math
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import variance_dropout_task as task
from validate_task import TOOLS, Attempt, Settings, ToolError

PROMPT = [{"role": "user", "content": task.TASK_PROMPT}]
SINGLE_TURN_PROMPT = [{"role": "user", "content": f"""\
{task.TASK_PROMPT}
You have no tools. This is dropout.py:

```python
{task.BUGGY_IMPLEMENTATION}```

Answer with the whole repaired file in one Python code block.
"""}]

log = logging.getLogger(__name__)


class VarianceDropoutEnv:
    """A workspace with the task's files; its public methods are the tools of validate_task.py."""

    def __init__(self, *, allow_unsandboxed_tools: bool = False) -> None:
        if not allow_unsandboxed_tools and task.available_sandbox() != "bubblewrap":
            raise RuntimeError(
                "execute_code would run the policy's programs as your user: bubblewrap is missing "
                "or not usable here. Install it, or accept the risk with environment_factory="
                "functools.partial(VarianceDropoutEnv, allow_unsandboxed_tools=True)."
            )
        self._remove: Callable[[], object] = lambda: None
        self.reset()

    def reset(self, **row: Any) -> None:
        """A fresh workspace for the next rollout: TRL uses one environment for many."""
        self._remove()
        place = Path(tempfile.mkdtemp(prefix="dropout-")).resolve()
        # Not everything that a program can make in a directory can be removed again.
        self._remove = weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        workspace = task.setup_task_files(place / "workspace")
        self._attempt = Attempt(0, Settings(), workspace, math.inf)
        self._fault: task.GradingError | None = None

    def read_file(self, path: str) -> str:
        """Read a UTF-8 text file of the workspace.

        Args:
            path: Path of the file, relative to the workspace.

        Returns:
            The text of the file.
        """
        return self._use("read_file", path)

    def write_file(self, path: str, content: str) -> str:
        """Write a UTF-8 text file of the workspace, replacing what it held.

        Args:
            path: Path of the file, relative to the workspace.
            content: All of the new text.

        Returns:
            How many bytes were written.
        """
        return self._use("write_file", path, content)

    def execute_code(self, code: str) -> str:
        """Run Python code in a new process whose working directory is the workspace, without
        network. Returns the exit code and what was printed.

        Args:
            code: The program.

        Returns:
            The exit code and what was printed.
        """
        return self._use("execute_code", code)

    def get_reward(self) -> float | None:
        """1.0 or 0.0 for the workspace as it stands; None if it could not be graded."""
        return reward(self._verdict)

    def _verdict(self) -> task.Verdict:
        if self._fault is not None:
            raise self._fault
        return grader().grade_solution(self._attempt.workspace)

    def _use(self, tool: str, *arguments: str) -> str:
        """Use a tool of validate_task.py; TRL tells the policy of what is raised."""
        try:
            return TOOLS[tool].function(self._attempt, *arguments)
        except task.GradingError as fault:  # of this machine: the rollout was not given its tools
            self._fault = fault
            raise
        except OSError as mistake:  # its own text would name directories of this machine
            raise ToolError(f"{tool}: {mistake.strerror}") from None


def reward_func(completions: list[Any], **_: Any) -> list[float | None]:
    """The rewards of single replies, by their last Python block; None: could not be graded."""
    grades = [functools.partial(grader().grade_source, code_of(reply)) for reply in completions]
    with ThreadPoolExecutor(grader().workers) as pool:
        return list(pool.map(reward, grades))


def reward(grade: Callable[[], task.Verdict]) -> float | None:
    """The reward, or None where there is no verdict: TRL's word for "not applicable"."""
    try:
        return grade()["reward"]
    except task.GradingError as fault:
        log.warning("not graded, left out of its group: %s", fault)
        return None


def code_of(completion: Any) -> str:
    """The last closed Python block of a reply, plain or conversational; else the whole reply."""
    text: Any = completion
    if not isinstance(completion, str):
        text = (completion or [{}])[-1].get("content") or ""
    if isinstance(text, list):  # parts, as multimodal models have them
        text = "".join(part.get("text") or "" for part in text)
    code: str = text
    block: str | None = None
    pieces = re.split(r"(?m)^```(.*)\n?", text)  # text, fence, text, fence, text ...
    for fence, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if block is None or fence.strip():  # it opens a block, named or not
            block = body if fence.lower().split()[:1] in ([], ["python"], ["py"]) else ""
        else:
            code, block = block or code, None
    return code


@functools.cache
def grader() -> task.Grader:
    """One for this process: its workers stay warm."""
    return task.Grader()


def main() -> None:
    """Two scripted rollouts and two replies."""
    env = VarianceDropoutEnv(allow_unsandboxed_tools=True)  # nothing that a model wrote runs here
    repaired = task.REFERENCE_IMPLEMENTATION
    for name, source in (("starting", task.BUGGY_IMPLEMENTATION), ("repaired", repaired)):
        env.reset()
        env.write_file("dropout.py", source)
        shown = env.execute_code("import test_dropout\ntest_dropout.main()").splitlines()[-1]
        print(f"tools, {name} file: test_dropout.py says {shown!r}, reward {env.get_reward()}")
    for name, reply in (("prose", "I give up."), ("repaired", f"So:\n```python\n{repaired}```")):
        print(f"one reply, {name}: reward {reward_func([reply])[0]}")


if __name__ == "__main__":
    main()
