"""One attempt: the loop of turns, every stop reason, the limits, the tools."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import types
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeAPI, Json, Model, Reply, call, script, solver, text, turn_of

import validate_task as v
import variance_dropout_task as task

WRITE = call("write_file", path="dropout.py", content=task.REFERENCE_IMPLEMENTATION)


def make_attempt(
    monkeypatch: pytest.MonkeyPatch, model: Model, settings: v.Settings | None = None
) -> tuple[Json, FakeAPI]:
    """An attempt of `model` over loopback; its record, and the server with what it was sent."""
    with FakeAPI(model) as api:
        for name, value in api.environment().items():
            monkeypatch.setenv(name, value)
        return asyncio.run(v.attempt(1, settings or v.Settings(model="m"))), api


def tool_results(record: Json) -> list[Json]:
    """All tool results of an attempt, in order."""
    return [block for message in record["messages"][1:] if message["role"] == "user"
            for block in message["content"]]


# --- The loop


def test_a_right_fix_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that repairs the layer with its tools gets PASS, and the record says how."""
    record, _ = make_attempt(monkeypatch, solver(task.REFERENCE_IMPLEMENTATION))
    assert (record["result"], record["failure_mode"], record["error"]) == ("PASS", None, None)
    assert record["ending"] == "end_turn"
    assert record["turns"] == 4
    assert record["verdict"]["passed"] is True
    assert record["submission"]["dropout.py"] == task.REFERENCE_IMPLEMENTATION
    assert record["variance_error"] < 0.1
    assert "all passed" in tool_results(record)[-1]["content"]


def test_no_change_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that only talks has failed, by the name that an untouched file gets."""
    record, _ = make_attempt(monkeypatch, script())
    assert (record["result"], record["failure_mode"]) == (
        "FAIL", "mean_preserving_scaling_unchanged")
    assert record["variance_error"] == pytest.approx(7 / 3, abs=0.01)  # 1 / 0.3 - 1 at rate 0.7


def test_all_calls_of_a_turn_are_answered_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel calls run in order, and one user message holds all results and nothing else."""
    first = Reply([text("Both."), WRITE, call("read_file", path="dropout.py")], "tool_use")
    record, _ = make_attempt(monkeypatch, script(first))
    answers = record["messages"][2]
    assert answers["role"] == "user"
    assert [block["type"] for block in answers["content"]] == ["tool_result", "tool_result"]
    assert [block["tool_use_id"] for block in answers["content"]] == [
        block["id"] for block in first.content[1:]]
    assert answers["content"][1]["content"] == task.REFERENCE_IMPLEMENTATION


def test_history_is_append_only_and_echoed_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinking, redacted thinking and unknown blocks go back to the API exactly as they came."""
    blocks: list[Json] = [
        {"type": "thinking", "thinking": "", "signature": "abc=="},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "hologram", "depth": 3, "nested": {"a": [None, 1.5]}},
        call("read_file", path="dropout.py"),
    ]
    model = script(Reply(blocks, "tool_use"), Reply([WRITE], "tool_use"))
    _, api = make_attempt(monkeypatch, model)
    histories = [body["messages"] for body in api.requests]
    assert len(histories) == 3
    assert histories[1][1] == {"role": "assistant", "content": blocks}
    for earlier, later in itertools.pairwise(histories):
        assert later[: len(earlier)] == earlier


def test_the_request_says_all_that_shapes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is the task's, effort is always sent, and no sampling knob is."""
    _, api = make_attempt(monkeypatch, script())
    body = api.requests[0]
    assert body["messages"] == [{"role": "user", "content": task.TASK_PROMPT}]
    assert body["output_config"] == {"effort": "medium"}
    assert [tool["name"] for tool in body["tools"]] == list(v.TOOLS)
    assert all(tool["strict"] for tool in body["tools"])
    assert not {"temperature", "top_p", "top_k", "tool_choice", "system"} & set(body)


def test_a_portable_request_holds_only_what_every_server_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--portable leaves out effort, thinking, caching and strict tools; --tools chooses."""
    settings = v.Settings(model="m", portable=True, tools=("write_file",))
    _, api = make_attempt(monkeypatch, script(), settings)
    assert set(api.requests[0]) == {"model", "max_tokens", "messages", "tools"}
    assert [set(tool) for tool in api.requests[0]["tools"]] == [
        {"name", "description", "input_schema"}]


def test_usage_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are those that the API reports, summed over the turns; absent counts are 0."""
    record, _ = make_attempt(monkeypatch, solver(task.REFERENCE_IMPLEMENTATION))
    assert record["tokens"]["output"] == 4 * 17
    assert record["tokens"]["cache_read"] == 4 * 3
    assert record["tokens"]["cache_write"] == 0
    assert record["request_ids"] == ["req_1"] * 4


# --- How attempts end


@pytest.mark.parametrize(
    "reason",
    ["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "a_new_reason"],
)
def test_every_stop_reason_ends_in_a_grade(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Finished, truncated or unknown: the files are graded, the reason is kept by name, and the
    calls of that turn are not run, since a truncated one may be cut."""
    spoil = call("write_file", path="dropout.py", content="import num")
    model = script(Reply([WRITE], "tool_use"), Reply([text("So"), spoil], reason))
    record, _ = make_attempt(monkeypatch, model)
    assert (record["result"], record["ending"]) == ("PASS", reason)


def test_a_refusal_fails_and_keeps_its_category(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is a failure even over right files, named apart, with what was refused."""
    details = {"type": "refusal", "category": "frontier_llm", "explanation": None}
    refusal = Reply([], "refusal", {"stop_details": details})
    record, _ = make_attempt(monkeypatch, script(Reply([WRITE], "tool_use"), refusal))
    assert (record["result"], record["failure_mode"]) == ("FAIL", "refusal")
    assert record["refusal"] == "frontier_llm"


def test_a_paused_turn_is_sent_back_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """pause_turn: the next request ends with the paused turn, and the loop goes on."""
    record, api = make_attempt(
        monkeypatch, script(Reply([text("Wait.")], "pause_turn"), Reply([WRITE], "tool_use"))
    )
    assert api.requests[1]["messages"][-1]["role"] == "assistant"
    assert (record["result"], record["turns"]) == ("PASS", 3)


@pytest.mark.parametrize("reason", ["end_turn", "tool_use"])
def test_an_empty_turn_ends_the_attempt(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Empty content, also where tools are announced, is an end and no crash."""
    record, api = make_attempt(monkeypatch, script(Reply([], reason)))
    assert (record["result"], record["ending"]) == ("FAIL", reason)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("limit", "ending"),
    [({"max_turns": 3}, "turn_limit"), ({"max_total_tokens": 5_000}, "token_limit")],
)
def test_limits_end_the_attempt_and_the_files_are_graded(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any], ending: str
) -> None:
    """A model that never stops ends by the limit's name; what it wrote before counts."""
    endless: Model = lambda body: Reply(  # noqa: E731
        [WRITE if turn_of(body) == 0 else call("read_file", path="dropout.py")], "tool_use")
    record, api = make_attempt(monkeypatch, endless, v.Settings(model="m", **limit))
    assert (record["result"], record["ending"]) == ("PASS", ending)
    assert len(api.requests) == record["turns"] < 10
    assert len(tool_results(record)) == record["turns"]


def test_the_time_limit_ends_an_attempt_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that the model's own programs use up ends the attempt with a grade."""
    sleep = call("execute_code", code="import time; time.sleep(60)")
    model = script(Reply([WRITE, sleep], "tool_use"), Reply([text("never asked")]))
    record, api = make_attempt(monkeypatch, model, v.Settings(model="m", max_seconds=2))
    assert (record["result"], record["ending"]) == ("PASS", "time_limit")
    assert "stopped after" in tool_results(record)[1]["content"]
    assert len(api.requests) == 1


# --- The tools


@pytest.fixture
def place(tmp_path: Path) -> v.Attempt:
    """An attempt whose workspace the test can prepare; beside it lies a secret."""
    (tmp_path / "secret").write_text("secret")
    workspace = task.setup_task_files(tmp_path.resolve() / "workspace")
    return v.Attempt(1, v.Settings(), workspace, deadline=1e12)


def use_tool(place: v.Attempt, block: Json) -> Json:
    """The tool_result block for a tool_use block."""
    return asyncio.run(v.answer(place, types.SimpleNamespace(**block)))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "", "a/../../secret", "\0", "x" * 300,
                                  ".", "missing.py"])
@pytest.mark.parametrize("tool", ["read_file", "write_file"])
def test_paths_stay_inside_the_workspace(place: v.Attempt, tool: str, path: str) -> None:
    """A path that leads out, or to nothing readable, is told to the model as its mistake."""
    content = {"content": "x"} if tool == "write_file" else {}
    result = use_tool(place, call(tool, path=path, **content))
    assert result["is_error"] is not (tool == "write_file" and path == "missing.py")
    assert "/tmp" not in result["content"]


def test_files_can_be_written_and_read(place: v.Attempt) -> None:
    """The control for the blocked paths: files below the workspace work, subdirectories too."""
    calls = [call("write_file", path="notes/é.txt", content="ü\n"),
             call("read_file", path="notes/é.txt")]
    results = [use_tool(place, block) for block in calls]
    assert [result["is_error"] for result in results] == [False, False]
    assert results[1]["content"] == "ü\n"


@pytest.mark.parametrize("target", ["../secret", ".."])
def test_links_out_are_not_followed(place: v.Attempt, target: str) -> None:
    """Neither a link to a file outside nor one to a directory outside is read through."""
    (place.workspace / "link").symlink_to(target)
    for path in ("link", "link/secret"):
        with pytest.raises((v.ToolError, OSError)):
            v.read_file(place, path)


def test_a_link_inside_is_not_an_attack(place: v.Attempt) -> None:
    """The control: a directory that is linked within the workspace can be used."""
    (place.workspace / "real").mkdir()
    (place.workspace / "real" / "a.txt").write_text("a")
    (place.workspace / "linked").symlink_to("real")
    assert v.read_file(place, "linked/a.txt") == "a"


def test_writing_never_goes_through_a_link(place: v.Attempt, tmp_path: Path) -> None:
    """Writing to a name that is a link, or a second name of a file outside, leaves that file."""
    (place.workspace / "inner").symlink_to("dropout.py")
    os.link(tmp_path / "secret", place.workspace / "twin")
    for name in ("inner", "twin"):
        v.write_file(place, name, "overwritten")
        assert (place.workspace / name).read_text() == "overwritten"
    assert (tmp_path / "secret").read_text() == "secret"
    assert (place.workspace / "dropout.py").read_text() == task.BUGGY_IMPLEMENTATION


def test_a_pipe_does_not_block(place: v.Attempt) -> None:
    """A FIFO under a file's name is an error at once for the tool, and no submission."""
    (place.workspace / "dropout.py").unlink()
    os.mkfifo(place.workspace / "dropout.py")
    with pytest.raises(v.ToolError):
        v.read_file(place, "dropout.py")
    assert v.read_submission(place.workspace)["dropout.py"] is None
    v.write_file(place, "dropout.py", "replaced")
    assert v.read_file(place, "dropout.py") == "replaced"


def test_a_link_is_no_submission(place: v.Attempt, tmp_path: Path) -> None:
    """What a link named dropout.py points to is never copied into the record."""
    (place.workspace / "dropout.py").unlink()
    (place.workspace / "dropout.py").symlink_to(tmp_path / "secret")
    assert v.read_submission(place.workspace)["dropout.py"] is None


def test_size_limits(place: v.Attempt) -> None:
    """A file at the limit can be written and read, one byte more cannot be either."""
    v.write_file(place, "big", "x" * v.FILE_LIMIT)
    assert len(v.read_file(place, "big")) == v.FILE_LIMIT
    with pytest.raises(v.ToolError, match="limit"):
        v.write_file(place, "bigger", "x" * (v.FILE_LIMIT + 1))
    (place.workspace / "bigger").write_bytes(b"x" * (v.FILE_LIMIT + 1))
    with pytest.raises(v.ToolError):
        v.read_file(place, "bigger")


@pytest.mark.parametrize(
    ("tool", "arguments", "complaint"),
    [
        ("search", {"query": "x"}, "no tool 'search'"),
        ("read_file", {}, "exactly these arguments: path"),
        ("read_file", {"path": "dropout.py", "mode": "rb"}, "exactly these arguments"),
        ("read_file", {"path": 3}, "path must be a string, got int"),
        ("write_file", {"path": "a", "content": ["x"]}, "content must be a string, got list"),
        ("write_file", {"path": "a", "content": "x" * 1_000_000}, "more than the limit"),
        ("write_file", {"path": "dropout.py/a", "content": "x"}, "write_file: "),
        ("execute_code", {"code": "#" * 1_000_000}, "longer than the limit"),
        ("execute_code", {"code": None}, "code must be a string, got NoneType"),
    ],
)
def test_mistakes_go_back_to_the_model(
    place: v.Attempt, tool: str, arguments: Json, complaint: str
) -> None:
    """Unknown tools, wrong arguments and too much input are is_error results."""
    result = use_tool(place, call(tool, **arguments))
    assert result["is_error"] is True
    assert complaint in result["content"]


def test_mistakes_do_not_end_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a turn of nothing but mistakes, 1 MB and an input that is no object among them, the
    model goes on and its work is graded."""
    odd = {"type": "tool_use", "id": "toolu_odd", "name": "read_file", "input": "dropout.py"}
    mistakes = [odd, call("search"), call("write_file", path="a", content="x" * 1_000_000)]
    model = script(Reply(mistakes, "tool_use"), Reply([WRITE], "tool_use"))
    record, _ = make_attempt(monkeypatch, model)
    assert [result["is_error"] for result in tool_results(record)] == [True, True, True, False]
    assert record["result"] == "PASS"


def test_a_tool_that_was_not_given_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """--tools takes a tool away also where the model calls it unasked."""
    settings = v.Settings(model="m", tools=("read_file", "write_file"))
    model = script(Reply([call("execute_code", code="print(1)")], "tool_use"))
    record, _ = make_attempt(monkeypatch, model, settings)
    assert "no tool 'execute_code'" in tool_results(record)[0]["content"]


def test_binary_files_are_the_models_mistake(place: v.Attempt) -> None:
    """A file that is not UTF-8 raises what `answer` turns into an is_error result."""
    (place.workspace / "data").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        v.read_file(place, "data")


def test_execute_code_runs_in_the_workspace(place: v.Attempt) -> None:
    """The program sees the workspace, can write there, and its failure is its output."""
    code = "import dropout; open('new.txt', 'w').write('hello'); raise SystemExit(3)"
    assert v.execute_code(place, code).startswith("exit code 3\n")
    assert v.read_file(place, "new.txt") == "hello"
    assert "ZeroDivisionError" in v.execute_code(place, "1 / 0")


def test_execute_code_sees_no_key_and_no_project(
    place: v.Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the command, and with it the key, does not reach the model's program;
    neither does the grader's source."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret-secret")
    looks = "import os; print(os.environ); print(os.path.exists(%r))" % task.__file__  # noqa: UP031
    output = v.execute_code(place, looks)
    assert "sk-ant" not in output
    assert output.startswith("exit code 0\n")
    if task.available_sandbox() == "bubblewrap":
        assert output.rstrip().endswith("False")


def test_execute_code_is_limited(place: v.Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs is stopped and the model is told; endless output is cut."""
    monkeypatch.setattr(v, "TOOL_SECONDS", 1.5)
    assert "stopped after" in v.execute_code(place, "import time; time.sleep(60)")
    assert len(v.execute_code(place, "print('x' * 1_000_000)")) < v.OUTPUT_LIMIT + 1_000


# --- Scripted attempts


@pytest.mark.parametrize("number", range(1, len(v.scripts()) + 1))
def test_scripts_end_as_they_say(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scripted attempt runs without a network and ends as its place in the table says."""
    expected = {
        "another mean-preserving factor": "mean_preserving_scaling",
        "declares the layer correct": "mean_preserving_scaling_unchanged",
        "factor sqrt(q)": "wrong_factor: sqrt(q)",
        "factor 1 / sqrt(p)": "wrong_factor: 1/sqrt(p)",
        "a factor from nowhere": "wrong_factor",
        "crashes: forgot an import": "crash",
        "rescales to the variance of the data": "data_dependent_scaling",
        "refuses": "refusal",
        "forgets eval mode": "eval_mode",
        "wrong drop rate": "wrong_drop_rate",
        "cut off in the middle of a call": "mean_preserving_scaling_unchanged",
        "same mask at every call": "mask_not_random",
        "rate 0 drops units": "zero_rate",
        "returns another dtype": "interface",
        "syntax error": "syntax_error",
        "exponential in place of a root": "no_sqrt_or_power",
        "never comes back": "timeout",
        "removes the file": "no_submission",
        "forges the test": "test_file_modified",
        "never stops": "mean_preserving_scaling_unchanged",
    }
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")  # the discard port: no server
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    brief = functools.partial(task.grade_solution, time_limit=3.0)
    monkeypatch.setattr(task, "grade_solution", brief)
    record = asyncio.run(v.attempt(number, v.Settings(model="scripted", scripted=True)))
    mode = None if record["script"].startswith("right") else expected[record["script"]]
    assert (record["error"], record["failure_mode"]) == (None, mode)


def test_scripts_end_in_every_way_that_a_model_can() -> None:
    """The first fifteen, which a newcomer sees, hold 4 right fixes; stops of other kinds occur."""
    names = [script.name for script in v.scripts()[:15]]
    assert sum(name.startswith("right") for name in names) == 4
    assert {script.stop for script in v.scripts()} == {"end_turn", "refusal", "max_tokens"}
