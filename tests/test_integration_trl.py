"""integrations/trl_env.py: by itself, with NumPy alone, and in TRL where that is installed."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, attempts

import variance_dropout_task as task
from integrations import trl_env
from integrations.trl_env import VarianceDropoutEnv, code_of, reward_func
from validate_task import TOOLS, ToolError

REFERENCE = task.REFERENCE_IMPLEMENTATION
LIMIT = 256 << 10
HOSTILE = [
    one
    for one in attempts("hostile")
    if one.path.stem in ("builtin_all_and_any_patched", "json_verdict_on_every_descriptor")
]


@pytest.fixture(scope="module", autouse=True)
def warm() -> Iterator[None]:
    """The grader of the module, ended with it."""
    yield
    trl_env.grader().close()


@pytest.fixture
def env() -> VarianceDropoutEnv:
    return VarianceDropoutEnv(allow_unsandboxed_tools=True)


def fenced(source: str) -> str:
    return f"Here it is:\n\n```python\n{source}```\n"


def test_a_rollout_with_tools(env: VarianceDropoutEnv) -> None:
    """The tools work on the workspace that is graded: 0 as it starts, 1 when repaired."""
    env.reset(prompt="the columns of the row")
    assert env.read_file("dropout.py") == task.BUGGY_IMPLEMENTATION
    assert env.get_reward() == 0.0
    code = "import dropout\nprint(dropout.VarianceStabilizedDropout(0.25).dropout_rate)"
    assert env.execute_code(code) == "exit code 0\n0.25\n"
    env.write_file("dropout.py", REFERENCE)
    assert env.get_reward() == 1.0


def test_reset_leaves_nothing_behind(env: VarianceDropoutEnv) -> None:
    """A pooled environment starts anew; two environments share nothing."""
    other = VarianceDropoutEnv(allow_unsandboxed_tools=True)
    for one in (env, other):
        one.write_file("dropout.py", REFERENCE)
        one.write_file("notes/formula.txt", "the square root")
    env.reset()
    assert env.get_reward() == 0.0
    with pytest.raises(ToolError, match="No such file"):
        env.read_file("notes/formula.txt")
    assert other.get_reward() == 1.0
    assert other.read_file("notes/formula.txt") == "the square root"


def test_the_directory_is_removed_with_the_environment() -> None:
    """Nothing is left on the disk, nor by the rollouts before."""
    env = VarianceDropoutEnv(allow_unsandboxed_tools=True)
    first = env._attempt.workspace.parent
    assert first.is_dir()
    env.reset()
    assert not first.exists()
    second = env._attempt.workspace.parent
    assert second.is_dir()
    del env
    assert not second.exists()


def test_tools_are_described_as_in_the_projects_own_measurement() -> None:
    """TRL makes a tool of each public method, from its types and its Google docstring."""
    public = dict(inspect.getmembers(VarianceDropoutEnv, inspect.isfunction))
    names = {name for name in public if not name.startswith("_")}
    assert names == {*TOOLS, "reset", "get_reward"}
    for name, tool in TOOLS.items():
        about, arguments = re.split(r"\n\nArgs:\n", inspect.getdoc(public[name]) or "")
        assert " ".join(about.split()) == tool.description
        signature = inspect.signature(public[name], eval_str=True)
        assert signature.return_annotation is str
        parameters = list(signature.parameters.values())[1:]
        assert tuple(parameter.name for parameter in parameters) == tool.arguments
        assert all(parameter.annotation is str for parameter in parameters)
        assert all(f"{argument}: " in arguments for argument in tool.arguments)


LEFT_BEHIND = {
    "nothing": ("os.remove('dropout.py')", 0.0),
    "link": ("os.rename('dropout.py', 'x'); os.symlink('x', 'dropout.py')", 0.0),
    "pipe": ("os.remove('dropout.py'); os.mkfifo('dropout.py')", 0.0),
    "directory": ("os.remove('dropout.py'); os.mkdir('dropout.py')", 0.0),
    "binary": ("open('dropout.py', 'wb').write(bytes(range(256)))", 0.0),
    "huge": (f"open('dropout.py', 'a').write('#' * ({LIMIT + 1} - {len(REFERENCE)}))", 0.0),
    "as large as allowed": (
        f"open('dropout.py', 'a').write('#' * ({LIMIT} - {len(REFERENCE)}))", 1.0
    ),
    "test file modified": ("open('test_dropout.py', 'a').write(' ')", 0.0),
    "test file read": ("open('test_dropout.py').read()", 1.0),
}


@pytest.mark.parametrize(("code", "reward"), LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_whatever_is_left_behind(code: str, reward: float, env: VarianceDropoutEnv) -> None:
    """After the repair: what is no submission has a reward of 0, and none ends the training."""
    env.write_file("dropout.py", REFERENCE)
    assert env.execute_code(f"import os\n{code}").startswith("exit code 0")
    assert env.get_reward() == reward


@pytest.mark.parametrize("attempt", HOSTILE, ids=lambda one: one.path.stem)
def test_hostile(attempt: Any, env: VarianceDropoutEnv) -> None:
    """No reward for an attack, on either way; the same code without the malice has one."""
    source, control = attempt.source.decode(), attempt.control.decode()
    assert reward_func([fenced(source), fenced(control)]) == [0.0, 1.0]
    env.write_file("dropout.py", source)
    assert env.get_reward() == 0.0
    env.write_file("dropout.py", control)
    assert env.get_reward() == 1.0


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret", "link", "", "a\0b", "dropout.py/x"])
def test_no_path_leads_out_of_the_workspace(path: str, env: VarianceDropoutEnv) -> None:
    """Neither to read nor to write; what the policy is told names no directory of the machine."""
    outside = env._attempt.workspace.parent / "secret"
    outside.write_text("secret")
    (env._attempt.workspace / "link").symlink_to(outside)
    for use in (env.read_file, functools.partial(env.write_file, content="mine")):
        with pytest.raises((ToolError, ValueError)) as told:
            use(path)
        assert str(outside.parent) not in str(told.value)
    assert outside.read_text() == "secret"
    env.write_file("sub/inside", "mine")  # the control
    assert env.read_file("sub/inside") == "mine"


def test_no_tools_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused where the trainer is made, unless it is allowed."""
    monkeypatch.setattr(task, "available_sandbox", lambda: "process")
    with pytest.raises(RuntimeError, match="allow_unsandboxed_tools=True"):
        VarianceDropoutEnv()
    functools.partial(VarianceDropoutEnv, allow_unsandboxed_tools=True)()
    monkeypatch.setattr(task, "available_sandbox", lambda: "bubblewrap")
    VarianceDropoutEnv()


class Failing:
    """A grader that cannot grade one submission."""

    def __init__(self, real: task.Grader) -> None:
        self.real, self.workers = real, real.workers

    def grade_source(self, source: str) -> task.Verdict:
        if "cannot be graded" in source:
            raise task.GradingError("out of memory")
        return self.real.grade_source(source)

    def grade_solution(self, workspace: Path) -> task.Verdict:
        self.grade_source((workspace / "dropout.py").read_text())
        return self.real.grade_solution(workspace)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    grader = Failing(trl_env.grader())
    monkeypatch.setattr(trl_env, "grader", lambda: grader)


@pytest.mark.usefixtures("failing")
def test_what_cannot_be_graded_has_no_reward(
    env: VarianceDropoutEnv, caplog: pytest.LogCaptureFixture
) -> None:
    """None and a line in the log, never 0; the others of the batch are graded."""
    with caplog.at_level(logging.WARNING):
        rewards = reward_func([fenced(REFERENCE), "# cannot be graded", "nothing"])
        assert rewards == [1.0, None, 0.0]
        env.write_file("dropout.py", "# cannot be graded")
        assert env.get_reward() is None
    assert [record.message for record in caplog.records] == [
        "not graded, left out of its group: out of memory"
    ] * 2


def test_a_rollout_without_its_tools_has_no_reward(
    env: VarianceDropoutEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this machine could not run a program, the policy is not to blame, until the reset."""

    def broken(*_: object, **__: object) -> task.Execution:
        raise task.GradingError("no process to be had")

    with monkeypatch.context() as patched:
        patched.setattr(task, "run_sandboxed", broken)
        with pytest.raises(task.GradingError):
            env.execute_code("1")
    assert env.get_reward() is None
    env.reset()
    assert env.get_reward() == 0.0


def test_one_grader(env: VarianceDropoutEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reward comes from the same one, which is made when it is first needed."""
    made: list[task.Grader] = []
    real = task.Grader
    monkeypatch.setattr(task, "Grader", lambda: made.append(real()) or made[-1])
    monkeypatch.setattr(trl_env, "grader", functools.cache(trl_env.grader.__wrapped__))
    assert made == []
    env.get_reward()
    reward_func(["", ""])
    assert len(made) == 1
    made[0].close()


PYTHON = "```python\nx = 1\n```"
REPLIES: dict[str, tuple[Any, str]] = {
    "plain": (f"So:\n{PYTHON}\nDone.", "x = 1\n"),
    "conversational": ([{"role": "assistant", "content": PYTHON}], "x = 1\n"),
    "parts": ([{"role": "assistant", "content": [{"type": "text", "text": PYTHON}]}], "x = 1\n"),
    "the last one": (f"```python\nx = 0\n```\n{PYTHON}", "x = 1\n"),
    "without a language": ("```\nx = 1\n```", "x = 1\n"),
    "py": ("```py\nx = 1\n```", "x = 1\n"),
    "capital": ("```Python title=dropout.py\nx = 1\n```", "x = 1\n"),
    "after a shell": (f"```sh\npython t.py\n```\n{PYTHON}", "x = 1\n"),
    "before a shell": (f"{PYTHON}\n```sh\npython t.py\n```", "x = 1\n"),
    "before an open one": (f"{PYTHON}\n```python\nx = 2\n", "x = 1\n"),
    "in an open one": (f"```python\nx = 2\n{PYTHON}", "x = 1\n"),
    "no block": ("x = 1\n", "x = 1\n"),
    "no message": ([], ""),
    "no content": ([{"role": "assistant", "content": None}], ""),
    "cut off": ([{}], ""),
}


@pytest.mark.parametrize(("reply", "code"), REPLIES.values(), ids=REPLIES)
def test_code_of_a_reply(reply: Any, code: str) -> None:
    """The last closed Python block, in every form that TRL has for a completion."""
    assert code_of(reply) == code


def test_a_policy_that_repeats_itself_does_not_hold_up_the_training() -> None:
    """Finding the code takes time in proportion to the length of the reply."""
    started = time.perf_counter()
    code_of("```python\n" * 200_000)
    code_of("```" * 200_000)
    assert time.perf_counter() - started < 5


def test_prompts() -> None:
    """With tools, the task's own; without, the file that has to be repaired is in it."""
    assert trl_env.PROMPT == [{"role": "user", "content": task.TASK_PROMPT}]
    (message,) = trl_env.SINGLE_TURN_PROMPT
    assert message["content"].startswith(task.TASK_PROMPT)
    assert code_of([message]) == task.BUGGY_IMPLEMENTATION


def test_it_runs_with_numpy_alone() -> None:
    """`python integrations/trl_env.py` shows rewards of 0 and 1, without TRL and any key."""
    file = "integrations/trl_env.py"
    code = f"""
import runpy, sys
for name in ("trl", "torch", "datasets", "transformers", "anthropic"):
    sys.modules[name] = None
runpy.run_path({file!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rewards = [line.rpartition(" ")[2] for line in done.stdout.splitlines()]
    assert rewards == ["0.0", "1.0", "0.0", "1.0"], done.stdout


# --- In TRL ---------------------------------------------------------------------------------------

# What the policy does in each rollout of the group: tool calls, and a last word.
ROLLOUTS: list[list[tuple[str, dict[str, str]]]] = [
    [("read_file", {"path": "dropout.py"}), ("write_file", {"path": "dropout.py",
                                                           "content": REFERENCE})],
    [("execute_code", {"code": "print(1)"})],
    [("write_file", {"path": "dropout.py", "content": "# cannot be graded"})],
    [],
]
EXPECTED = [1.0, 0.0, None, 0.0]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A random model of one layer with a tokenizer trained on the spot: nothing is downloaded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    trl = pytest.importorskip("trl", reason="pip install -r integrations/requirements/trl.txt")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator([task.TASK_PROMPT, REFERENCE], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    template = Path(trl.__file__).parent / "chat_templates/qwen3.jinja"
    tokenizer.chat_template = template.read_text()
    marks = ("tool_call", "think", "tool_response")
    tokenizer.add_tokens([f"<{slash}{mark}>" for mark in marks for slash in ("", "/")])
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=8192,
    )
    return Qwen3ForCausalLM(config), tokenizer


def scripted(tokenizer: Any) -> Callable[..., Any]:
    """In place of sampling: the next call of each rollout, which its id in the text names."""
    todo = [list(calls) for calls in ROLLOUTS]

    def generate(self: Any, prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        replies = []
        for position, ids in enumerate(prompt_ids):
            named = re.findall(r"rollout (\d)", tokenizer.decode(ids))
            rollout = int(named[-1]) if named else position
            text = f"rollout {rollout}"
            if todo[rollout]:
                name, arguments = todo[rollout].pop(0)
                call = json.dumps({"name": name, "arguments": arguments})
                text += f"\n<tool_call>\n{call}\n</tool_call>"
            replies.append(tokenizer(f"{text}<|im_end|>", add_special_tokens=False)["input_ids"])
        return replies, None

    return generate


# What TRL and its libraries warn of is theirs; ours would be errors in every other test.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("failing")
def test_a_step_of_grpo(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """A real step on the CPU: the tools are called, and what could not be graded counts as
    nothing, neither in the mean of the group nor as an advantage."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = tiny
    seen: dict[str, Any] = {}

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        _generate_single_turn = scripted(tokenizer)

        def _calculate_rewards(self, *arguments: Any) -> Any:
            seen["rewards"] = super()._calculate_rewards(*arguments)
            return seen["rewards"]

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            seen["batch"] = super()._generate_and_score_completions(inputs)
            return seen["batch"]

    trainer = Trainer(
        model=model,
        processing_class=tokenizer,
        environment_factory=functools.partial(VarianceDropoutEnv, allow_unsandboxed_tools=True),
        train_dataset=Dataset.from_list([{"prompt": trl_env.PROMPT}] * 4),
        args=GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, num_generations=4, logging_steps=1,
            per_device_train_batch_size=4, max_completion_length=2000, bf16=False, use_cpu=True,
            max_tool_calling_iterations=4, report_to=[], save_strategy="no", disable_tqdm=True,
        ),
    )
    trainer.train()
    rewards = [None if value != value else value for value in seen["rewards"][:, 0].tolist()]
    assert rewards == EXPECTED
    logged = trainer.state.log_history[0]
    assert logged["reward"] == pytest.approx(1 / 3)
    assert logged["rewards/VarianceDropoutEnv/mean"] == pytest.approx(1 / 3)
    assert logged["tools/call_frequency"] == pytest.approx(4 / 4)
    assert logged["tools/failure_frequency"] == 0
    solved, *unsolved = (seen["batch"]["advantages"][n].item() for n in (0, 1, 3))
    assert solved > 0 > max(unsolved)
    assert seen["batch"]["advantages"][2].item() == 0
