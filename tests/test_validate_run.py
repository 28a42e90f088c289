"""The run as a command: its files, resuming, killing at any moment, re-grading."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_api import (
    FakeAPI,
    Json,
    Reply,
    always,
    call,
    call_command,
    command,
    run_command,
    script,
    solver,
    started_command,
)

import validate_task as v
import variance_dropout_task as task

SCRIPTED = v.Settings(model="scripted", effort="none", base_url="inside the process", scripted=True)

def results_in(directory: Path) -> Json:
    return v.read_json(directory / v.RESULTS_FILE)


def offline_run(directory: Path, *numbers: int) -> Json:
    """The results of these scripted attempts, made in this process."""
    run = v.Run(directory, SCRIPTED, max(numbers))
    for number in numbers:
        run.keep(asyncio.run(v.attempt(number, SCRIPTED)))
    return run.publish("finished")


def edit_attempt(directory: Path, number: int, change: Callable[[Json], object]) -> None:
    """Change the file of an attempt as if another run had written it."""
    path = v.attempt_path(directory, number)
    record = v.read_json(path)
    change(record)
    v.write_json(path, record)


# --- The files


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The newcomer's command and what it printed; made once, read by several tests."""
    directory = tmp_path_factory.mktemp("offline") / "new" / "results"
    done = run_command("--offline", "--runs", 15, "--output-dir", directory,
                       env={"PATH": os.environ["PATH"], "HOME": str(directory.parent)})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return directory, done.stdout


def test_offline_needs_no_key_and_gives_everything(offline: tuple[Path, str]) -> None:
    """Without key or network: both documents, one file an attempt, the headline on the terminal."""
    directory, shown = offline
    files = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.*"))
    attempts = [f"attempts/{number:03d}.json" for number in range(1, 16)]
    assert sorted([v.REPORT_FILE, *attempts, v.RESULTS_FILE]) == [
        name for name in files if name != v.PICTURE_FILE]
    assert "Success Rate: 26.7% (4/15)" in shown
    assert str(directory / v.REPORT_FILE) in shown


def test_offline_results_are_stamped(offline: tuple[Path, str]) -> None:
    """Nobody can take scripted figures for a measurement: terminal, report and JSON say so."""
    directory, shown = offline
    assert v.SCRIPTED in shown
    assert v.SCRIPTED in (directory / v.REPORT_FILE).read_text()
    assert results_in(directory)["scripted"] is True
    assert results_in(directory)["fingerprint"]["settings"]["scripted"] is True


def test_terminal_lines_fit_80_columns(offline: tuple[Path, str]) -> None:
    """One line an attempt, with the tally, and none wider than 80 columns."""
    lines = offline[1].splitlines()
    assert sum(line.lstrip().startswith("#") for line in lines) == 15
    assert sum(line.endswith(" 4/15") for line in lines) == 1
    assert [line for line in lines if len(line) > 80 and str(offline[0]) not in line] == []


def test_a_record_holds_what_a_reader_needs(offline: tuple[Path, str]) -> None:
    """Transcript, final source, verdict, usage, timings and the fingerprint are in the file, and
    the results hold the row without the transcript."""
    directory, _ = offline
    record = v.read_json(v.attempt_path(directory, 2))
    assert record["messages"][0]["content"] == task.TASK_PROMPT
    assert record["submission"]["dropout.py"] == task.REFERENCE_IMPLEMENTATION
    assert record["verdict"]["passed"] is True
    assert record["tokens"]["output"] > 0
    assert set(record["seconds"]) == {"model", "tools", "grading", "total"}
    assert set(record["fingerprint"]) == {"prompt", "task", "grader", "settings"}
    row = results_in(directory)["attempts"][1]
    assert row == v.row_of(record)
    assert "messages" not in row


def test_a_used_directory_is_not_overwritten(offline: tuple[Path, str]) -> None:
    """A second run into the same directory is refused with the two ways on."""
    done = call_command("--offline", "--output-dir", offline[0])
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert "--output-dir" in done.stderr


def test_resuming_a_finished_run_asks_nothing(offline: tuple[Path, str]) -> None:
    """There is nothing left to do, and the results stay as they are."""
    before = results_in(offline[0])["attempts"]
    done = call_command("--offline", "--resume", "--output-dir", offline[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing missing: 15 attempts, all with a verdict\n\nSuccess")
    assert results_in(offline[0])["attempts"] == before


# --- Resuming


def test_resume_goes_on_to_the_number_that_was_asked_for(tmp_path: Path) -> None:
    """Without --runs a run of 20 that was interrupted at 1 is one of 20, not one of 15."""
    offline_run(tmp_path, 1)
    rows = v.resume(tmp_path, SCRIPTED)
    v.Run(tmp_path, SCRIPTED, 20, rows=rows).publish("interrupted")
    assert v.runs_to_resume(tmp_path, rows, None) == 20
    assert v.runs_to_resume(tmp_path, rows, 30) == 30
    done = call_command("--offline", "--resume", "--runs", 2, "--output-dir", tmp_path)
    assert done.returncode == 2
    assert "--runs 2 would judge a part of the run of 20 attempts" in done.stderr


def test_resume_needs_something_to_go_on_with(tmp_path: Path) -> None:
    """An empty directory is refused; where the results are lost, --runs must say the number."""
    done = call_command("--offline", "--resume", "--output-dir", tmp_path)
    assert done.returncode == 2
    assert "holds no run to go on with" in done.stderr
    offline_run(tmp_path, 1, 2)
    (tmp_path / v.RESULTS_FILE).unlink()
    rows = v.resume(tmp_path, SCRIPTED)
    with pytest.raises(v.RunStopped, match="say with --runs"):
        v.runs_to_resume(tmp_path, rows, None)
    with pytest.raises(v.RunStopped, match="a part of the run of 2"):
        v.runs_to_resume(tmp_path, rows, 1)
    assert v.runs_to_resume(tmp_path, rows, 4) == 4


@pytest.mark.parametrize("key", ["prompt", "task", "grader"])
def test_resume_names_the_hash_that_differs(tmp_path: Path, key: str) -> None:
    """Attempts of another prompt, task or grader are not counted together with new ones."""
    offline_run(tmp_path, 10)
    edit_attempt(tmp_path, 10, lambda record: record["fingerprint"].update({key: "other"}))
    with pytest.raises(v.RunStopped, match=f"attempt 10 .*{key} .its hash.*--output-dir"):
        v.resume(tmp_path, SCRIPTED)


def test_resume_names_the_settings_that_differ(tmp_path: Path) -> None:
    """Another model or effort is another experiment; both values are told."""
    offline_run(tmp_path, 10)
    with pytest.raises(v.RunStopped) as refusal:
        v.resume(tmp_path, dataclasses.replace(SCRIPTED, model="other", effort="low"))
    assert "model (then 'scripted', now 'other')" in str(refusal.value)
    assert "effort (then 'none', now 'low')" in str(refusal.value)
    assert "max_turns" not in str(refusal.value)


def test_resume_knows_a_run_that_has_no_attempt_yet(tmp_path: Path) -> None:
    """One that was interrupted before its first attempt ended has settings all the same."""
    v.Run(tmp_path, SCRIPTED, 2).publish("interrupted")
    assert v.resume(tmp_path, SCRIPTED) == {}
    with pytest.raises(v.RunStopped, match=r"the run in .* is from another experiment: model"):
        v.resume(tmp_path, dataclasses.replace(SCRIPTED, model="other"))


def test_resume_with_the_same_settings_is_accepted(tmp_path: Path) -> None:
    """The control: the rows come back as they were."""
    results = offline_run(tmp_path, 4, 10)
    rows = v.resume(tmp_path, SCRIPTED)
    assert [rows[4], rows[10]] == results["attempts"]


def test_regrading_refuses_what_is_not_all_there(tmp_path: Path) -> None:
    """A lost record must not become a smaller experiment, nor its results be overwritten."""
    before = offline_run(tmp_path, 4, 10)
    v.attempt_path(tmp_path, 10).unlink()
    with pytest.raises(v.RunStopped, match=r"010\.json is lost \(1 attempt in all\)"):
        v.regrade(tmp_path)
    assert results_in(tmp_path) == json.loads(json.dumps(before))


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    """A file that lost its content (a full disk, a power cut) is named, with the way on."""
    offline_run(tmp_path, 10)
    v.attempt_path(tmp_path, 10).write_text("")
    done = call_command("--offline", "--resume", "--output-dir", tmp_path)
    assert done.returncode == 2
    assert "010.json is damaged: remove it" in done.stderr


# --- Killing


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_killed_at_random_moments_nothing_that_ended_is_lost(tmp_path: Path, name: str) -> None:
    """Whatever the moment: every file is whole, no finished attempt is lost or made again, and
    --resume goes on to the end."""
    flags = ("--offline", "--runs", 8, "--concurrency", 3, "--output-dir", tmp_path)
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # kill -9 leaves workspaces behind
    kept: dict[str, bytes] = {}
    for _ in range(2):
        more = ["--resume"] if (tmp_path / v.RESULTS_FILE).exists() else []
        with started_command(*flags, *more, env=env) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the head of the table: now it begins
            time.sleep(random.uniform(0.0, 1.2))
            process.send_signal(getattr(signal, name))
            _, complaint = process.communicate(timeout=30)
        # TERM ends it plainly in the moment after the last attempt, when the loop has gone
        assert process.returncode in (0, 130, -getattr(signal, name)), complaint
        assert "Traceback" not in complaint
        now = {path.name: path.read_bytes() for path in (tmp_path / "attempts").glob("*.json")}
        assert now.items() >= kept.items()
        assert all(json.loads(content)["result"] for content in now.values())
        kept = now
    more = ["--resume"] if (tmp_path / v.RESULTS_FILE).exists() else []
    done = run_command(*flags, *more)
    assert done.returncode == 0, done.stderr
    assert results_in(tmp_path)["statistics"]["graded"] == 8
    for path_name, content in kept.items():
        assert (tmp_path / "attempts" / path_name).read_bytes() == content


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    table = list(v.process_table())
    found = {pid}
    while more := {child for child, parent in table if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie that nobody has waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def interrupt(process: subprocess.Popen[str], ready: Callable[[], object]) -> set[int]:
    """Send INT when `ready`; checks exit code and speed, returns what then still runs."""
    deadline = time.monotonic() + 30
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    below = descendants(process.pid)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - start < 5  # about 0.3 s on an idle machine
    return {pid for pid in below if alive(pid)}


HANGING_TOOL = script(Reply([call("execute_code", code="import time; time.sleep(50)")], "tool_use"))


@pytest.mark.parametrize("sandbox", ["bubblewrap", "process"])
def test_an_interrupt_leaves_no_process(tmp_path: Path, sandbox: str) -> None:
    """Ctrl-C while the model's programs run: a marked report, exit code 130, nothing left."""
    if sandbox == "bubblewrap" and task.available_sandbox() != "bubblewrap":
        pytest.skip("bubblewrap is not usable here")
    with FakeAPI(HANGING_TOOL) as api:
        env = api.environment() | {"TMPDIR": str(tmp_path)}
        env |= {"PATH": ""} if sandbox == "process" else {}
        flags = ("--runs", 4, "--output-dir", tmp_path / "out", "--allow-unsandboxed-tools")
        with started_command(*flags, env=env) as process:
            left = interrupt(process, lambda: len(descendants(process.pid)) >= 4)
    assert left == set()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    results = results_in(tmp_path / "out")
    assert (results["status"], results["statistics"]["verdict"]) == ("interrupted", "none")
    assert "interrupted" in (tmp_path / "out" / v.REPORT_FILE).read_text()


def test_an_interrupt_does_not_wait_for_the_service(tmp_path: Path) -> None:
    """Ctrl-C while requests hang ends as fast."""
    with FakeAPI(script(), always("hang")) as api, started_command(
        "--runs", 4, "--output-dir", tmp_path, env=api.environment()
    ) as process:
        interrupt(process, lambda: api.requests)
    assert results_in(tmp_path)["status"] == "interrupted"


@pytest.mark.parametrize("errors", [subprocess.PIPE, subprocess.STDOUT])
def test_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path, errors: int) -> None:
    """`| head -1`: the run goes on in silence, to its usual end and exit code."""
    flags = ("--offline", "--runs", 4, "--concurrency", 1, "--output-dir", tmp_path)
    with subprocess.Popen(command(*flags), stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read() if process.stderr else b""
    assert (process.returncode, complaint) == (0, b"")
    assert results_in(tmp_path)["statistics"]["graded"] == 4


def test_a_killed_run_has_a_report(tmp_path: Path) -> None:
    """After kill -9 the report says that the run did not end, and holds no verdict."""
    flags = ("--offline", "--runs", 200, "--output-dir", tmp_path)
    with started_command(*flags, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("attempts/*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    done = call_command("--report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "**No verdict**" in (tmp_path / v.REPORT_FILE).read_text()


def test_nothing_of_a_run_stays_in_memory() -> None:
    """500 rows of a run, which is all that it keeps in memory, are smaller than one transcript
    may be: they hold no messages, no source and no verdict."""
    assert not {"messages", "submission", "verdict", "fingerprint"} & set(v.ROW_KEYS)


# --- Re-grading


def test_regrading_changes_nothing_where_nothing_changed(tmp_path: Path) -> None:
    """Each submission comes back from its file as it was graded: same results, no change named.
    That includes a refusal, a removed file and a forged test."""
    results = offline_run(tmp_path, 10, 17, 22, 23)
    again = v.regrade(tmp_path)
    assert (again["regraded"]["graded"], again["regraded"]["changes"]) == (3, [])
    assert "re-graded: 3 graded again, 0 verdicts changed" in (
        tmp_path / v.REPORT_FILE).read_text()
    assert again["attempts"] == results["attempts"]
    assert set(again["failure_modes"]) == {
        "refusal", "interface", "no_submission", "test_file_modified"}


def test_regrading_names_changed_verdicts_and_makes_no_request(tmp_path: Path) -> None:
    """An attempt recorded as failed whose source is right becomes PASS, and that is said; there
    is no key and no server, so no request could be made."""
    offline_run(tmp_path, 2, 10)
    edit_attempt(tmp_path, 2, lambda record: record.update(result="FAIL", failure_mode="crash"))
    for number in (2, 10):  # 10 refuses: nothing to grade, but it must not block --resume
        edit_attempt(tmp_path, number, lambda record: record["fingerprint"].update(grader="older"))
    done = run_command("--regrade", tmp_path, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    assert "re-graded: 1 graded again, 1 verdict changed" in done.stdout
    assert "re-graded, changed: attempt 2: FAIL crash -> PASS" in done.stdout
    assert "re-graded, changed: attempt 2: FAIL crash -> PASS" in (
        tmp_path / v.REPORT_FILE).read_text()
    assert v.resume(tmp_path, SCRIPTED)[2]["result"] == "PASS"


def test_regrading_heals_what_could_not_be_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt whose grader broke gets its verdict; one whose conversation broke does not."""

    def broken(*arguments: object) -> None:
        raise task.GradingError("no sandbox")

    with monkeypatch.context() as patched:
        patched.setattr(task, "grade_solution", broken)
        assert offline_run(tmp_path, 1, 2)["errors"] == 2
    edit_attempt(tmp_path, 1, lambda record: record.update(ending="error"))
    rows = v.regrade(tmp_path)["attempts"]
    assert [row["result"] for row in rows] == ["ERROR", "PASS"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00caf\xe9", "# é\r\n".encode(), b"", None])
def test_submissions_survive_the_file(tmp_path: Path, content: bytes | None) -> None:
    """Any bytes, none, and a missing file come back from JSON as they were."""
    workspace = task.setup_task_files(tmp_path)
    (workspace / "dropout.py").unlink()
    if content is not None:
        (workspace / "dropout.py").write_bytes(content)
    stored: Any = json.loads(json.dumps(v.read_submission(workspace)))["dropout.py"]
    assert (None if stored is None else stored.encode("utf-8", "surrogateescape")) == content


def test_an_oversized_submission_is_kept_as_oversized(tmp_path: Path) -> None:
    """Only the beginning is kept, but it is still over the limit, so the verdict is the same."""
    workspace = task.setup_task_files(tmp_path)
    (workspace / "dropout.py").write_bytes(b"#" * 3_000_000)
    assert len(v.read_submission(workspace)["dropout.py"] or "") == v.FILE_LIMIT + 1


# --- Over the network


def test_the_command_over_loopback(tmp_path: Path) -> None:
    """The same command against a server: model and address recorded, a portable request sent."""
    with FakeAPI(solver(task.REFERENCE_IMPLEMENTATION)) as api:
        done = run_command("--runs", 2, "--portable", "--model", "local", "--tools",
                           "write_file,read_file,execute_code", "--output-dir", tmp_path,
                           env=api.environment())
    assert done.returncode == 0, done.stderr
    settings = results_in(tmp_path)["fingerprint"]["settings"]
    assert (settings["model"], settings["base_url"]) == ("local", api.url)
    assert "2 attempts of `local` (effort not sent)" in (tmp_path / v.REPORT_FILE).read_text()
    assert results_in(tmp_path)["scripted"] is False
    assert v.SCRIPTED not in (tmp_path / v.REPORT_FILE).read_text()
    assert {body["model"] for body in api.requests} == {"local"}
    assert "output_config" not in api.requests[0]
