"""What the service, the network and this machine can do wrong: never the model's failure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_api import (
    FAULTS,
    KEY,
    PASSING,
    FakeAPI,
    Json,
    Reply,
    always,
    call,
    call_command,
    first,
    one_in_three,
    run_command,
    script,
    solver,
)

import validate_task as v
import variance_dropout_task as task

RIGHT = solver(task.REFERENCE_IMPLEMENTATION)
WRITE = call("write_file", path="dropout.py", content=task.REFERENCE_IMPLEMENTATION)
QUICK = script(Reply([WRITE], "tool_use"))  # right too, in two requests


def attempt_under(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], str | None], **settings: Any
) -> Json:
    """The record of an attempt with a right fix against a faulty service."""
    with FakeAPI(RIGHT, fault) as api:
        for name, value in api.environment().items():
            monkeypatch.setenv(name, value)
        return asyncio.run(v.attempt(1, v.Settings(model="m", **settings)))


@pytest.mark.parametrize("fault", [*PASSING, "429", "502 html", "null content"])
def test_a_passing_fault_is_retried_and_named(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """One failed request costs a retry; the attempt is graded and its record names the fault."""
    record = attempt_under(monkeypatch, first(fault))
    assert (record["result"], record["error"]) == ("PASS", None)
    assert len(record["faults"]) == 1
    named = {"reset": "Connection", "truncated": "Connection"}.get(fault, str(FAULTS[fault].status))
    assert named in record["faults"][0]


@pytest.mark.parametrize("fault", [*PASSING, "413", "null content"])
def test_a_lasting_fault_is_an_error_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """When the retries are used up the attempt is ERROR with a cause, and is not graded."""
    monkeypatch.setattr(v, "RETRIES", 1)
    record = attempt_under(monkeypatch, always(fault))
    assert (record["result"], record["ending"], record["failure_mode"]) == ("ERROR", "error", None)
    assert record["verdict"] is None
    assert record["error"]
    assert len(record["faults"]) == (1 if fault == "413" else 2)


def test_a_fault_after_the_fix_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model might still have changed its mind: a half conversation is not graded."""
    monkeypatch.setattr(v, "RETRIES", 0)
    record = attempt_under(monkeypatch, first("", "", "", "500"))
    assert record["submission"]["dropout.py"] == task.REFERENCE_IMPLEMENTATION
    assert record["result"] == "ERROR"


def test_an_hour_of_waiting_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry-after beyond the attempt's time limit ends it at once; the SDK would sleep it."""
    start = time.monotonic()
    record = attempt_under(monkeypatch, always("429 hour"))
    assert time.monotonic() - start < 30
    assert record["result"] == "ERROR"
    assert "retry-after 3600" in record["error"]
    assert "429 rate_limit_error" in record["faults"][0]


def test_a_hanging_response_ends_with_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that never answers is an error of that name, not a failure."""
    record = attempt_under(monkeypatch, always("hang"), max_seconds=1)
    assert record["result"] == "ERROR"
    assert "no answer before the time limit of 1 s" in record["error"]


def test_a_hanging_response_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that, a request has its own time limit, and the retry can succeed."""
    monkeypatch.setattr(v, "REQUEST_SECONDS", 0.5)
    record = attempt_under(monkeypatch, first("hang"))
    assert record["result"] == "PASS"
    assert "APITimeoutError" in record["faults"][0]


@pytest.mark.parametrize("broken", ["grade_solution", "run_sandboxed"])
def test_a_grader_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """GradingError means "not graded": the attempt is ERROR, never a reward of 0."""

    def fail(*arguments: object, **named: object) -> None:
        raise task.GradingError("the sandbox cannot start")

    monkeypatch.setattr(task, broken, fail)
    record = attempt_under(monkeypatch, first())
    assert record["result"] == "ERROR"
    assert record["error"] == "GradingError: the sandbox cannot start"
    assert record["ending"] == ("end_turn" if broken == "grade_solution" else "error")


def test_an_error_is_told_in_one_line_with_its_cause() -> None:
    """The SDK says "Connection error." and hides the reason; line breaks would break the report."""
    problem = RuntimeError("Connection error.")
    problem.__cause__ = OSError("no\n  route")
    assert v.describe(problem) == "RuntimeError: Connection error.; OSError: no route"


# --- The whole command


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("400", "--portable"),
        ("401", "ANTHROPIC_API_KEY"),
        ("402", "Billing"),
        ("403", "another key"),
        ("404", "ANTHROPIC_BASE_URL"),
        ("429 spend limit", "spend limit"),
    ],
)
def test_a_configuration_error_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, advice: str
) -> None:
    """The first one ends all attempts, with a sentence that names the next step."""
    with FakeAPI(RIGHT, always(fault)) as api:
        for name, value in api.environment().items():
            monkeypatch.setenv(name, value)
        results = v.validate(v.Run(tmp_path, v.Settings(model="m"), runs=15, concurrency=2))
    assert results["status"] == "stopped"
    assert results["statistics"]["verdict"] == "none"
    assert results["reason"].startswith(fault[:3])
    assert advice in results["reason"]
    assert len(api.requests) <= 2


def test_a_configuration_error_is_a_sentence_on_the_terminal(tmp_path: Path) -> None:
    """The command ends with exit code 2 and says what to do."""
    with FakeAPI(RIGHT, always("401")) as api:
        done = run_command("--output-dir", tmp_path / "out", env=api.environment())
    assert done.returncode == 2
    assert "401" in done.stderr
    assert "Set ANTHROPIC_API_KEY" in done.stderr


def test_verdicts_before_a_configuration_error_are_kept(tmp_path: Path) -> None:
    """Money that runs out in the middle loses only the attempts in flight."""
    with FakeAPI(QUICK, lambda number: "402" if number >= 4 else None) as api:
        done = call_command("--runs", 4, "--concurrency", 1, "--output-dir", tmp_path,
                           env=api.environment())
    assert done.returncode == 2
    results = json.loads((tmp_path / v.RESULTS_FILE).read_text())
    assert [row["result"] for row in results["attempts"]] == ["PASS", "PASS"]


def test_with_a_third_of_all_requests_failing_every_attempt_is_graded(tmp_path: Path) -> None:
    """15 of 15 attempts get their verdict, and it is the right one."""
    with FakeAPI(RIGHT, one_in_three(seed=7)) as api:
        done = call_command("--runs", 15, "--concurrency", 8, "--output-dir", tmp_path,
                           env=api.environment())
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / v.RESULTS_FILE).read_text())
    assert (results["statistics"]["passes"], results["errors"]) == (15, 0)
    faults = sum(len(row["faults"]) for row in results["attempts"])
    assert faults == len(api.requests) - 15 * 4
    assert faults > 15


def test_errors_stay_out_of_the_rate(tmp_path: Path) -> None:
    """Two attempts pass, two meet a lasting fault: 2/2, two without verdict, exit code 1; and a
    resumed run asks again for those two only."""
    out = tmp_path / "out"
    flags = ("--runs", 4, "--concurrency", 1, "--output-dir", out)
    with FakeAPI(QUICK, lambda number: "413" if number in (4, 5) else None) as api:
        done = call_command(*flags, env=api.environment())
        assert done.returncode == 1
        assert "Success Rate: 100.0% (2/2)" in done.stdout
        assert "errors: `--resume` runs 2 attempts again" in done.stderr
        kept = [path.read_bytes() for path in sorted((out / "attempts").iterdir())]
        done = call_command(*flags, "--resume", env=api.environment())
    assert done.returncode == 0, done.stderr
    assert "(4/4)" in done.stdout
    assert len(api.requests) == 2 * 2 + 2 + 2 * 2
    assert [path.read_bytes() for path in sorted((out / "attempts").iterdir())][:2] == kept[:2]


def test_the_key_is_in_no_file_and_no_output(tmp_path: Path) -> None:
    """Also where a server quotes it in an error message; the server itself did get it."""
    with FakeAPI(script(), lambda number: "quotes the key" if number % 2 else None) as api:
        done = run_command("--runs", 4, "--concurrency", 1, "--output-dir", tmp_path,
                           env=api.environment())
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 6  # a picture, too, where matplotlib is installed
    assert any(KEY in value for value in api.headers[0].values())
    assert "[redacted]" in "".join(written)
    assert not [text for text in [*written, done.stdout, done.stderr] if KEY in text]


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_keys_of_any_form_are_redacted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy's key does not look like one of Anthropic's; custom headers may hold one too."""
    monkeypatch.setenv(name, "plain-proxy-key")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: other-secret")
    assert v.redact("a plain-proxy-key b other-secret c") == "a [redacted] b [redacted] c"


def test_missing_credentials_are_a_sentence(tmp_path: Path) -> None:
    """No key at all: one sentence with the next step, exit code 2, no request, no directory."""
    with FakeAPI(RIGHT) as api:
        env = {**api.environment(), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        del env["ANTHROPIC_API_KEY"]
        done = call_command("--runs", 2, "--output-dir", tmp_path / "out", env=env)
    assert done.returncode == 2
    assert "Set ANTHROPIC_API_KEY" in done.stderr
    assert api.requests == []
    assert not (tmp_path / "out").exists()


def test_a_header_may_be_the_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a gateway takes a header of its own no key is needed; without both it is refused."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(v.RunStopped, match="Set ANTHROPIC_API_KEY"):
        v.settings_from({"tools": ("write_file",)})
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer gateway-secret")
    assert v.settings_from({"tools": ("write_file",)}).tools == ("write_file",)
