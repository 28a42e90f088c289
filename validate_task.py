"""Measure a model on the dropout task: run attempts, grade them, say what was really learned.

    fresh workspace -> turns of the model with its tools -> grade -> one file an attempt
    all files -> counts -> interval and verdict -> validation_results.json -> VALIDATION_RESULTS.md

An attempt ends as PASS, FAIL or ERROR. ERROR means that the service, the network or this machine
failed: it says nothing of the model, stays out of the rate, and `--resume` runs it again.

The sections, in reading order (`grep '^# ---'` lists them):

    The run                  validate: attempts at once, resume, interruption
    One attempt              from a fresh workspace to a record; the loop of turns
    The tools                what the model can do, inside its workspace
    Requests and faults      one request, what may go wrong with it, and whose fault that is
    Scripted attempts        --offline: answers from inside the process
    Statistics               counts -> numbers
    The results              records -> validation_results.json; --regrade
    The report               validation_results.json -> VALIDATION_RESULTS.md
    The command line         flags, progress, exit codes
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

# anthropic and the task (and with it NumPy) are imported where they are used: --help, --report
# and a wrong flag answer at once.
if TYPE_CHECKING:
    import anthropic
    from anthropic.types import Message

Json = dict[str, Any]

SCHEMA_VERSION = 1
RUNS = 15
CONCURRENCY = 4
RETRIES = 8  # about 35 s of the SDK's own backoff
REQUEST_SECONDS = 600.0
TOOL_SECONDS = 30.0
NAMED_RATES = ("0.3", "0.5", "0.7")
TARGET = (0.10, 0.40)  # the pass rates that the task claims
RESULTS_FILE = "validation_results.json"
REPORT_FILE = "VALIDATION_RESULTS.md"
PICTURE_FILE = "variance_errors.svg"
MISSING = {"result": "ERROR"}  # an attempt not yet made is run like one that has no verdict


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a result. `--resume` refuses a directory made with other settings.

    There is no seed and no temperature: the API has neither any more. Attempts differ because
    the model samples.
    """

    model: str = "claude-opus-5-5"
    effort: str = "medium"
    tools: tuple[str, ...] = ("read_file", "write_file", "execute_code")
    max_turns: int = 20
    max_tokens: int = 16_000
    max_total_tokens: int = 500_000
    max_seconds: int = 1800
    portable: bool = False
    base_url: str = "https://api.anthropic.com"
    scripted: bool = False


class RunStopped(Exception):
    """No attempt can succeed: wrong key, wrong model, no money left. Says what to do next."""


class AttemptError(Exception):
    """This attempt cannot be judged, through no fault of the model."""


# --- The run --------------------------------------------------------------------------------------


@dataclass
class Run:
    """A run and its directory; everything of it that is worth keeping is in files at any moment."""

    directory: Path
    settings: Settings
    runs: int
    concurrency: int = CONCURRENCY
    show: Callable[[Json, Json], None] = lambda row, results: None
    rows: dict[int, Json] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def todo(self) -> list[int]:
        """The attempts that have no verdict yet."""
        numbers = range(1, self.runs + 1)
        return [n for n in numbers if self.rows.get(n, MISSING)["result"] == "ERROR"]

    def keep(self, record: Json) -> None:
        """One attempt has ended: its file, the new results, a line on the terminal."""
        write_json(attempt_path(self.directory, record["number"]), record)
        row = self.rows[record["number"]] = row_of(record)
        self.show(row, self.publish("running"))

    def publish(self, status: str, reason: str | None = None) -> Json:
        """Write the results and the report as they stand now."""
        facts = {
            "scripted": self.settings.scripted, "status": status, "reason": reason,
            "started": iso(self.started), "wall_seconds": round(time.time() - self.started, 1),
            "runs": self.runs, "concurrency": self.concurrency,
            "fingerprint": fingerprint(self.settings), "versions": versions(),
        }
        results = summarise(facts, list(self.rows.values()))
        publish(self.directory, results)
        return results


def validate(run: Run) -> Json:
    """Run the attempts that have no verdict yet; returns the results, which are also in files."""
    run.publish("running")
    reason = None
    try:
        status = asyncio.run(attempt_all(run))
    except KeyboardInterrupt:  # before the signal handlers of attempt_all stand
        status = "interrupted"
    except (RunStopped, OSError) as problem:
        status, reason = "stopped", str(problem)
    return run.publish(status, reason)


async def attempt_all(run: Run) -> str:
    """Attempts at once, until all have ended, one finds that none can succeed, or a signal."""
    loop = asyncio.get_running_loop()
    # A thread for each attempt: one that grades never waits for another one's tool.
    loop.set_default_executor(ThreadPoolExecutor(run.concurrency))
    numbers = iter(run.todo())

    async def worker() -> None:
        for number in numbers:
            run.keep(await attempt(number, run.settings))

    workers = [asyncio.create_task(worker()) for _ in range(run.concurrency)]
    everything = asyncio.gather(*workers)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, everything.cancel)
    try:
        await everything
        return "finished"
    except asyncio.CancelledError:
        return "interrupted"
    finally:
        await abandon(workers)


async def abandon(workers: list[asyncio.Task[None]]) -> None:
    """End whatever still runs: requests by cancelling, tools and graders by killing them.

    A thread cannot be cancelled. Once its processes are dead it returns by itself, and Python
    can exit without waiting for the time limit of a tool.
    """
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    threads = asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor())
    while not (await asyncio.wait({threads}, timeout=0.05))[0]:
        kill_descendants()


def kill_descendants() -> None:
    """Kill every process below this one, each sandbox with all that it holds."""
    children: dict[int, list[int]] = {}
    for pid, parent in process_table():
        children.setdefault(parent, []).append(pid)
    doomed = children.get(os.getpid(), [])
    while doomed:
        pid = doomed.pop()
        doomed += children.get(pid, [])
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def process_table() -> Iterator[tuple[int, int]]:
    """Each process with its parent: from /proc, or from ps where there is none (macOS)."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-Ao", "pid=,ppid="], capture_output=True, text=True)
        for line in listing.stdout.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)
        return
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state ppid ...": the name may hold anything, parentheses included
            yield int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1])


def resume(directory: Path, settings: Settings) -> dict[int, Json]:
    """The rows of the attempts in `directory`, all of which must come from the same experiment."""
    rows = {}
    for record in recorded_attempts(directory):
        refuse_another(f"attempt {record['number']} in {directory}", record, settings)
        rows[record["number"]] = row_of(record)
    if (directory / RESULTS_FILE).exists():  # it may have ended before its first attempt
        refuse_another(f"the run in {directory}", read_json(directory / RESULTS_FILE), settings)
    return rows


def refuse_another(which: str, document: Json, settings: Settings) -> None:
    """Refuse to count together what does not come from the same experiment."""
    if changes := differences(document["fingerprint"], fingerprint(settings)):
        raise RunStopped(
            f"{which} is from another experiment: {'; '.join(changes)}. Give the same flags, or "
            "start a new --output-dir; where only the grader differs, --regrade DIR brings the old "
            "attempts up to date."
        )


def runs_to_resume(directory: Path, rows: dict[int, Json], asked: int | None) -> int:
    """How many attempts the run in `directory` is to have: as many as before, unless more are
    asked for. With fewer, those that happened to end first would get a verdict."""
    document = directory / RESULTS_FILE
    if document.exists():
        before = int(read_json(document)["runs"])
    elif not rows:
        raise RunStopped(f"{directory} holds no run to go on with: leave --resume out to start one")
    elif asked is None:
        raise RunStopped(f"{document} is lost: say with --runs how many attempts were asked for")
    else:
        before = max(rows)
    if asked is not None and asked < before:
        raise RunStopped(
            f"--runs {asked} would judge a part of the run of {count_attempts(before)} in "
            f"{directory}: leave --runs out, or ask for more"
        )
    return asked or before


def differences(then: Json, now: Json) -> list[str]:
    """What two fingerprints disagree about, in words."""
    named = [f"{key} (its hash)" for key in now if key != "settings" and then.get(key) != now[key]]
    old, new = then.get("settings", {}), now["settings"]
    changed = [key for key in new if old.get(key) != new[key]]
    return named + [f"{key} (then {old.get(key)!r}, now {new[key]!r})" for key in changed]


# --- One attempt ----------------------------------------------------------------------------------


@dataclass
class Attempt:
    """One conversation while it lasts. Messages are only ever appended: the API binds a model's
    thinking to the exact history that it was shown."""

    number: int
    settings: Settings
    workspace: Path
    deadline: float
    messages: list[Json] = field(default_factory=list)
    turns: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    refusal: str | None = None

    @contextlib.contextmanager
    def timed(self, activity: str) -> Iterator[None]:
        """Add the seconds spent inside to `activity`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[activity] += time.monotonic() - start

    def left(self) -> float:
        """Seconds until the time limit of the attempt."""
        return self.deadline - time.monotonic()

    def add(self, message: Message) -> None:
        """Append the model's turn exactly as it came, and count it."""
        blocks = [
            block.model_dump(mode="json", exclude_unset=True, warnings=False)
            for block in message.content
        ]
        self.messages.append({"role": "assistant", "content": blocks})
        self.turns += 1
        self.request_ids.append(message._request_id or "")
        self.models = sorted({*self.models, message.model})
        usage = message.usage
        self.tokens["input"] += usage.input_tokens or 0
        self.tokens["cache_write"] += usage.cache_creation_input_tokens or 0
        self.tokens["cache_read"] += usage.cache_read_input_tokens or 0
        self.tokens["output"] += usage.output_tokens or 0
        if message.stop_reason == "refusal":
            self.refusal = getattr(message.stop_details, "category", None) or "no category"


async def attempt(number: int, settings: Settings) -> Json:
    """One attempt from a fresh workspace to its record. Every way to end gives a record."""
    from variance_dropout_task import grade_solution, setup_task_files

    started = time.monotonic()
    # Not everything that a model can make in a directory can be removed again.
    with tempfile.TemporaryDirectory(prefix="dropout-", ignore_cleanup_errors=True) as place:
        workspace = setup_task_files(Path(place).resolve() / "workspace")
        current = Attempt(number, settings, workspace, started + settings.max_seconds)
        ending, error, verdict = "error", None, None
        try:
            ending = await converse(current)
            if ending != "refusal":
                with current.timed("grading"):
                    verdict = dict(await asyncio.to_thread(grade_solution, workspace))
        except RunStopped:
            raise
        except Exception as problem:  # whatever it is, it is not the model's failure
            error = describe(problem)
        submission = read_submission(workspace)
        current.seconds["total"] = time.monotonic() - started
    return make_record(current, ending, error, verdict, submission)


async def converse(current: Attempt) -> str:
    """Turns until the model stops or a limit is met; returns the name of the ending."""
    from variance_dropout_task import TASK_PROMPT

    current.messages.append({"role": "user", "content": TASK_PROMPT})
    async with connect(current) as client:
        while True:
            message = await request(client, current)
            current.add(message)
            calls = [block for block in message.content if block.type == "tool_use"]
            if message.stop_reason == "tool_use" and calls:
                with current.timed("tools"):
                    results = [await answer(current, call) for call in calls]
                current.messages.append({"role": "user", "content": results})
            elif message.stop_reason != "pause_turn":  # a paused turn is sent back as it is
                # Finished, truncated or refused. The calls of a truncated turn are never run:
                # their input may be cut. An unknown reason ends the attempt under its own name.
                return str(message.stop_reason)
            limit = limit_reached(current)
            if limit:
                return limit


def limit_reached(current: Attempt) -> str | None:
    """The limit that ends the attempt here, if one does; the files are graded as they are."""
    settings = current.settings
    if current.turns >= settings.max_turns:
        return "turn_limit"
    if sum(current.tokens.values()) >= settings.max_total_tokens:
        return "token_limit"
    return "time_limit" if current.left() <= 0 else None


def make_record(
    current: Attempt, ending: str, error: str | None, verdict: Json | None, submission: Json
) -> Json:
    """What the file of an attempt holds; `row_of` takes the results' row from it."""
    return {
        "schema_version": SCHEMA_VERSION, "number": current.number, "ended": iso(time.time()),
        "script": script(current.number).name if current.settings.scripted else None,
        "ending": ending, "error": error, "refusal": current.refusal,
        **judged(ending, error, verdict),
        "turns": current.turns, "tokens": dict(current.tokens),
        "seconds": {key: round(value, 3) for key, value in current.seconds.items()},
        "faults": current.faults, "models": current.models, "request_ids": current.request_ids,
        "submission": submission, "messages": current.messages,
        "fingerprint": fingerprint(current.settings),
    }


def judged(ending: str, error: str | None, verdict: Json | None) -> Json:
    """The part of a record that re-grading replaces. A refusal fails: the task was not done."""
    if error is not None:
        result, mode = "ERROR", None
    elif ending == "refusal" or verdict is None:
        result, mode = "FAIL", "refusal"
    else:
        result, mode = "PASS" if verdict["passed"] else "FAIL", verdict["failure_mode"]
    # Only these rates are the same for all submissions; the grader draws the others for each.
    errors = verdict["variance_errors"] if verdict else {}
    named = [errors[rate] for rate in NAMED_RATES if rate in errors]
    worst = max(named, default=None)
    return {"result": result, "failure_mode": mode, "variance_error": worst, "verdict": verdict}


# --- The tools ------------------------------------------------------------------------------------

FILE_LIMIT = 256 << 10  # as the task's own limit on a source
OUTPUT_LIMIT = 20_000


class ToolError(Exception):
    """The model's mistake, told to the model."""


class Tool(NamedTuple):
    """A tool's function takes the attempt and the named strings; returns what the model reads."""

    description: str
    arguments: tuple[str, ...]
    function: Callable[..., str]


def read_file(current: Attempt, path: str) -> str:
    """The text of a file in the workspace."""
    data = read_regular(inside(current.workspace, path), FILE_LIMIT)
    if data is None:
        raise ToolError(f"{path!r} is not a regular file of at most {FILE_LIMIT} bytes")
    return data.decode("utf-8")


def write_file(current: Attempt, path: str, content: str) -> str:
    """A new file in the workspace, in place of one of that name."""
    data = content.encode("utf-8")
    if len(data) > FILE_LIMIT:
        raise ToolError(f"content has {len(data)} bytes, more than the limit of {FILE_LIMIT}")
    target = inside(current.workspace, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Removed and made anew: a link, a pipe or a second name of another file is never written to.
    target.unlink(missing_ok=True)
    with target.open("xb") as file:
        file.write(data)
    return f"wrote {len(data)} bytes to {path}"


def execute_code(current: Attempt, code: str) -> str:
    """The output of a Python program in the task's sandbox."""
    from variance_dropout_task import run_sandboxed

    if len(code.encode("utf-8")) > FILE_LIMIT:
        raise ToolError(f"code is longer than the limit of {FILE_LIMIT} bytes")
    limit = max(1.0, min(TOOL_SECONDS, current.left()))
    done = run_sandboxed(code, current.workspace, time_limit=limit, output_limit=OUTPUT_LIMIT)
    ending = f"stopped after {limit:.0f} s" if done.timed_out else f"exit code {done.exit_code}"
    return f"{ending}\n{done.output}"


TOOLS = {
    "read_file": Tool("Read a UTF-8 text file of the workspace.", ("path",), read_file),
    "write_file": Tool(
        "Write a UTF-8 text file of the workspace, replacing what it held.",
        ("path", "content"), write_file,
    ),
    "execute_code": Tool(
        "Run Python code in a new process whose working directory is the workspace, without "
        "network. Returns the exit code and what was printed.", ("code",), execute_code,
    ),
}


def tool_definition(name: str, strict: bool) -> Json:
    """A tool as the API takes it. Strict: the service keeps the input to the schema."""
    arguments = TOOLS[name].arguments
    schema = {
        "type": "object", "properties": {argument: {"type": "string"} for argument in arguments},
        "required": list(arguments), "additionalProperties": False,
    }
    tool = {"name": name, "description": TOOLS[name].description, "input_schema": schema}
    return {**tool, "strict": True} if strict else tool


async def answer(current: Attempt, call: Any) -> Json:
    """Run one tool call; what the model did wrong goes back to the model."""
    try:
        tool = checked_call(current.settings, call.name, call.input)
        text, failed = await asyncio.to_thread(tool.function, current, **call.input), False
    except ToolError as mistake:
        text, failed = str(mistake), True
    except OSError as mistake:  # its own text would name directories of this machine
        text, failed = f"{call.name}: {mistake.strerror}", True
    except ValueError as mistake:  # not UTF-8, a NUL in a path
        text, failed = f"{call.name}: {mistake}", True
    return {"type": "tool_result", "tool_use_id": call.id, "content": text, "is_error": failed}


def checked_call(settings: Settings, name: str, arguments: object) -> Tool:
    """The tool that is called, if it exists and the arguments fit."""
    if name not in settings.tools:
        raise ToolError(f"no tool {str(name)[:80]!r}; there are: {', '.join(settings.tools)}")
    tool = TOOLS[name]
    if not isinstance(arguments, dict) or set(arguments) != set(tool.arguments):
        raise ToolError(f"{name} takes exactly these arguments: {', '.join(tool.arguments)}")
    for key, value in arguments.items():
        if not isinstance(value, str):
            raise ToolError(f"{name}: {key} must be a string, got {type(value).__name__}")
    return tool


def inside(workspace: Path, path: str) -> Path:
    """`path` in the workspace, with links followed except in its last part."""
    if not path or Path(path).is_absolute() or ".." in Path(path).parts:
        raise ToolError(f"{path[:200]!r}: give a path relative to the workspace, without '..'")
    target = workspace / path
    if not target.resolve().is_relative_to(workspace):
        raise ToolError(f"{path[:200]!r} leads out of the workspace")
    return target


def read_regular(path: Path, limit: int) -> bytes | None:
    """The bytes of a regular file of at most `limit`, else None. Follows no link, waits for no
    pipe: the model chose what lies there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


# --- Requests and faults --------------------------------------------------------------------------

# Statuses that no later attempt would escape, with the next step.
CONFIGURATION = {
    400: "The server does not take this request. Check --model; with a model or server that does "
    "not know effort, thinking, caching or strict tools, add --portable.",
    401: "The key was not accepted. Set ANTHROPIC_API_KEY to a valid key.",
    402: "The account cannot pay. See Billing in the Console.",
    403: "This key may not use this model or workspace. Use another key or another --model.",
    404: "There is no such model or address. Check --model and ANTHROPIC_BASE_URL (no /v1 at its "
    "end).",
}
NO_CREDENTIALS = "No credentials found. Set ANTHROPIC_API_KEY, or use --offline to try without."


def connect(current: Attempt) -> anthropic.AsyncAnthropic:
    """A client for one attempt; scripted attempts differ in its transport and in nothing else."""
    import anthropic
    import httpx2

    settings = current.settings
    offline: Json = {}
    if settings.scripted:
        transport = httpx2.MockTransport(functools.partial(scripted_response, current.number))
        http_client = httpx2.AsyncClient(transport=transport)
        offline = {"api_key": "scripted", "http_client": http_client}
    return anthropic.AsyncAnthropic(
        max_retries=RETRIES,
        timeout=REQUEST_SECONDS,
        middleware=[functools.partial(watch, current)],
        **offline,
    )


def request_options(settings: Settings) -> Json:
    """What every request of an attempt says, messages aside."""
    tools = [tool_definition(name, strict=not settings.portable) for name in settings.tools]
    basic = {"model": settings.model, "max_tokens": settings.max_tokens, "tools": tools}
    if settings.portable:
        return basic
    return {
        **basic,
        # sent even where it is the default: defaults differ between models
        "output_config": {"effort": settings.effort},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "cache_control": {"type": "ephemeral"},
    }


async def request(client: anthropic.AsyncAnthropic, current: Attempt) -> Message:
    """One turn of the model. The SDK retries; the attempt's time limit ends all waiting."""
    creation = client.messages.create(
        **request_options(current.settings), messages=cast(Any, current.messages)
    )
    try:
        with current.timed("model"):
            return cast("Message", await asyncio.wait_for(creation, current.left()))
    except asyncio.TimeoutError:
        # A hanging service and a slow model look the same from here: no verdict, rather than
        # a failure that the model may not have earned.
        limit = f"no answer before the time limit of {current.settings.max_seconds:g} s"
        raise AttemptError("; ".join([limit, *current.faults[-1:]])) from None
    except TypeError as problem:  # what the SDK raises where it finds no credentials
        if "authentication method" in str(problem):
            raise RunStopped(NO_CREDENTIALS) from None
        raise


async def watch(current: Attempt, request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """Sees every HTTP attempt inside the SDK's retries: names faults, decides what no retry heals.

    The SDK would hand on a 200 with a broken body, and would sleep as long as it is told.
    """
    import anthropic

    try:
        response = await call_next(request)
    except anthropic.APIConnectionError as problem:
        current.faults.append(describe(problem))
        raise
    http = response.http_response
    fault = not_a_message(http) if http.is_success else http_fault(http)
    if fault is None:
        return response
    current.faults.append(fault)
    stop_if_hopeless(http.status_code, fault)
    if http.is_success:
        raise anthropic.RetryableError(fault)
    if seconds_to_wait(http.headers.get("retry-after")) > current.left():
        raise AttemptError(f"{fault}: longer than the time left")
    return response


def stop_if_hopeless(status: int, fault: str) -> None:
    """Raise RunStopped for a fault that every attempt would meet."""
    if status in CONFIGURATION:
        raise RunStopped(f"{fault}. {CONFIGURATION[status]}")
    if "spend_limit" in fault:
        raise RunStopped(f"{fault}. Raise the spend limit in the Console or wait, then --resume.")


def not_a_message(http: Any) -> str | None:
    """What is wrong with the body of a 200, if anything is."""
    try:
        body = json.loads(http.content)
    except ValueError:
        kind = http.headers.get("content-type", "no content type")
        return f"200 with a body that is not JSON ({kind}, {len(http.content)} bytes)"
    body = body if isinstance(body, dict) else {}
    content, usage = body.get("content"), body.get("usage")
    blocks = content if isinstance(content, list) else [None]
    sound = all(isinstance(block, dict) and "type" in block for block in blocks)
    if not sound or not isinstance(usage, dict) or not isinstance(body.get("stop_reason"), str):
        return "200 with JSON that is not a message"
    return None


def http_fault(http: Any) -> str:
    """An error response in one line: status, type, code, waiting time, message, request id."""
    try:
        error = json.loads(http.content)["error"]
        details = error.get("details") or {}
        words = [error.get("type"), details.get("error_code"), str(error.get("message"))[:300]]
    except (ValueError, KeyError, TypeError, AttributeError):
        words = [http.headers.get("content-type")]
    wait, request_id = http.headers.get("retry-after"), http.headers.get("request-id")
    words += [f"retry-after {wait}" if wait else None, request_id]
    return one_line(" ".join([str(http.status_code), *(str(word) for word in words if word)]))


def seconds_to_wait(retry_after: str | None) -> float:
    """The seconds of a retry-after header; its rarer form, a date, is left to the SDK."""
    try:
        return float(retry_after or 0)
    except ValueError:
        return 0.0


def describe(problem: BaseException) -> str:
    """An exception in one line, with the cause that the SDK hides behind 'Connection error.'"""
    chain = [problem, problem.__cause__] if problem.__cause__ else [problem]
    return one_line("; ".join(f"{type(link).__name__}: {link}" for link in chain))


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


# --- Scripted attempts ----------------------------------------------------------------------------


class Script(NamedTuple):
    """What a scripted model does: the tool calls of each turn, and how it stops."""

    name: str
    turns: list[list[tuple[str, Json]]]
    stop: str = "end_turn"


READ = [("read_file", {"path": "dropout.py"}), ("read_file", {"path": "test_dropout.py"})]
RUN_TESTS = ("execute_code", {"code": "import test_dropout\ntest_dropout.main()"})
SCALE = "1.0 / keep_prob"
RIGHT = (SCALE, "1.0 / np.sqrt(keep_prob)")
DRAW = "np.random.random_sample(x.shape) < keep_prob"
EARLY = "if not self.training or self.dropout_rate == 0.0:"


def repair(name: str, *edits: tuple[str, str]) -> Script:
    """Reads, makes the edits one after another, tests after the last one and stops."""
    from variance_dropout_task import BUGGY_IMPLEMENTATION

    source = BUGGY_IMPLEMENTATION
    for old, new in edits:
        if old not in source:
            raise LookupError(f"script {name!r}: the starting file has no {old!r} any more")
        source = source.replace(old, new)
    return Script(name, [READ, [writes("dropout.py", source)], [RUN_TESTS]])


def writes(path: str, content: str) -> tuple[str, Json]:
    return ("write_file", {"path": path, "content": content})


@functools.cache
def scripts() -> tuple[Script, ...]:
    """Right fixes, every way to fail that the grader names, and every way to end."""
    unchanged = Script("declares the layer correct", [READ])
    right = repair("right: 1 / sqrt(q)", RIGHT)
    by_data = "np.sqrt((np.var(x) + 1e-9) / (np.var(x * mask) + 1e-9)) if x.size else 1.0"
    mistakes = [
        [("read_file", {"path": "../secret"}), ("search", {"query": "dropout"})],
        [("write_file", {"path": "dropout.py"}), ("execute_code", {"code": "raise SystemExit(3)"})],
    ]
    remove = ("execute_code", {"code": "import os\nos.remove('dropout.py')"})
    return (
        repair("another mean-preserving factor", (SCALE, "1.0 / (1.0 - self.dropout_rate)")),
        right,
        repair("factor sqrt(q)", (SCALE, "np.sqrt(keep_prob)")),
        unchanged,
        repair("crashes: forgot an import", (SCALE, "1.0 / math.sqrt(keep_prob)")),
        Script("right after mistakes with the tools", [*mistakes, *right.turns]),
        repair("rescales to the variance of the data", (SCALE, by_data)),
        repair("factor 1 / sqrt(p)", (SCALE, "1.0 / np.sqrt(self.dropout_rate)")),
        repair("right: q ** -0.5", (SCALE, "keep_prob ** -0.5")),
        Script("refuses", [], "refusal"),
        repair("forgets eval mode", RIGHT, (EARLY, "if self.dropout_rate == 0.0:")),
        repair("wrong drop rate", RIGHT, (DRAW, DRAW.replace("keep_prob", "self.dropout_rate"))),
        Script("cut off in the middle of a call", [READ], "max_tokens"),
        Script("right after a wrong one", [*unchanged.turns, [RUN_TESTS], *right.turns[1:]]),
        repair("same mask at every call", RIGHT,
               ("np.random.random_sample(x.shape)", "np.random.default_rng(0).random(x.shape)")),
        repair("rate 0 drops units", RIGHT, (EARLY, "if not self.training:"),
               ("1.0 - self.dropout_rate", "1.0 - (self.dropout_rate or 0.02)")),
        repair("returns another dtype", RIGHT, ("astype(x.dtype)", "astype(np.float16)")),
        repair("syntax error", (SCALE, "1.0 / np.sqrt(keep_prob")),
        repair("exponential in place of a root", (SCALE, "np.exp(-0.5 * np.log(keep_prob))")),
        repair("a factor from nowhere", (SCALE, "1.17 / keep_prob ** 0.83")),
        Script("never comes back", [READ, [writes("dropout.py", "import time; time.sleep(3600)")]]),
        Script("removes the file", [READ, [remove]]),
        Script("forges the test", [READ, [writes("test_dropout.py", "print('all passed')\n")]]),
        Script("never stops", [READ] * 1000),
    )


def script(number: int) -> Script:
    """The script of an attempt: by its number, so that a resumed run continues the same."""
    return scripts()[(number - 1) % len(scripts())]


def scripted_response(number: int, http_request: Any) -> Any:
    """The next turn of a script, as the Messages API would answer."""
    import httpx2

    body = json.loads(http_request.content)
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    name, turns, stop = script(number)
    calls = turns[turn] if turn < len(turns) else []
    if stop == "max_tokens" and turn == len(turns):  # the last call is cut and must not be run
        calls = [writes("dropout.py", "import num")]
    content = [{"type": "text", "text": f"[scripted: {name}]"}] + [
        {"type": "tool_use", "id": f"toolu_{turn}_{index}", "name": tool, "input": arguments}
        for index, (tool, arguments) in enumerate(calls)
    ]
    asked, said = len(http_request.content) // 4, len(str(content)) // 4
    return httpx2.Response(200, json={
        "id": f"msg_{turn}", "type": "message", "role": "assistant", "model": body["model"],
        "content": content, "stop_reason": "tool_use" if turn < len(turns) else stop,
        "stop_sequence": None, "usage": {"input_tokens": asked, "output_tokens": said},
    })


# --- Statistics -----------------------------------------------------------------------------------

Z95 = 1.959963984540054  # two-sided 95 %
POWER = 0.8
SETTLE_LIMIT = 1000


def wilson(passes: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % interval of a pass rate; (0, 1) where nothing was measured."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = passes / n, Z95**2 / n
    centre = (rate + z2 / 2) / (1 + z2)
    half = Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n)) / (1 + z2)
    # At 0 and n passes an end is exactly 0 or 1, which rounding would miss.
    low = 0.0 if passes == 0 else centre - half
    return low, 1.0 if passes == n else centre + half


def verdict_on(interval: tuple[float, float]) -> str:
    """Three values: wholly inside the target range, wholly outside it, or not known."""
    low, high = interval
    if low >= TARGET[0] and high <= TARGET[1]:
        return "in range"
    return "outside" if high < TARGET[0] or low > TARGET[1] else "inconclusive"


def range_of(rate: float) -> str:
    """Where a rate lies: the status of the point estimate, which knows no uncertainty."""
    return "below" if rate < TARGET[0] else "above" if rate > TARGET[1] else "in range"


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p), through logarithms: large n would overflow a float."""
    if k <= 0 or k > n or p in (0.0, 1.0):
        return float(k <= 0 or (p == 1.0 and k <= n))
    log_n = math.lgamma(n + 1)

    def mass(j: int) -> float:
        log_ways = log_n - math.lgamma(j + 1) - math.lgamma(n - j + 1)
        return math.exp(log_ways + j * math.log(p) + (n - j) * math.log1p(-p))

    if k > n * p:  # the smaller of the two tails is the exact one
        return math.fsum(map(mass, range(k, n + 1)))
    return 1.0 - math.fsum(map(mass, range(k)))


def probability_in_range(passes: int, n: int) -> float:
    """P(true rate in the target range | data), with a uniform prior.

    The posterior is Beta(1 + passes, 1 + n - passes), whose distribution function at x is
    P(X >= passes + 1) for X ~ Binomial(n + 1, x).
    """
    low, high = (at_least(passes + 1, n + 1, edge) for edge in TARGET)
    return high - low


def chance_of_verdict(rate: float, n: int) -> float:
    """The chance that n attempts at a true rate end in a verdict that is not 'inconclusive'."""

    def first(holds: Callable[[float, float], bool]) -> int:
        """The smallest number of passes whose interval lies high enough; both ends grow with it."""
        low, high = 0, n + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(*wilson(middle, n)) else (middle + 1, high)
        return low

    not_below = first(lambda low, high: high >= TARGET[0])
    inside_from = first(lambda low, high: low >= TARGET[0])
    inside_to = first(lambda low, high: high > TARGET[1])
    above = first(lambda low, high: low > TARGET[1])
    outside = 1 - at_least(not_below, n, rate) + at_least(above, n, rate)
    within = at_least(inside_from, n, rate) - at_least(inside_to, n, rate)
    return outside + max(0.0, within)


def attempts_to_settle(rate: float) -> int | None:
    """About how many attempts give a conclusive verdict with 80 % chance, if `rate` is the truth.

    The chance rises in a sawtooth, so it must hold for ten sizes in a row. None: over 1000.
    """
    streak = 0
    for n in range(5, SETTLE_LIMIT + 10):
        streak = streak + 1 if chance_of_verdict(rate, n) >= POWER else 0
        if streak == 10:
            return n - 9
    return None


def pass_at_k(passes: int, n: int, k: int) -> float:
    """The unbiased chance that at least one of k attempts passes: 1 - C(n-c, k) / C(n, k)."""
    return 1.0 - math.comb(n - passes, k) / math.comb(n, k)


def statistics(passes: int, n: int, complete: bool) -> Json:
    """Every figure about the rate. An incomplete run has no verdict: the short attempts end
    first, and they are not like the long ones."""
    interval = wilson(passes, n)
    verdict = verdict_on(interval) if complete and n else "none"
    # With k over n / 2 nearly every choice of k attempts holds the same ones.
    at_k = {str(k): pass_at_k(passes, n, k) for k in (1, 3, 5, 10) if 2 * k <= n}
    return {
        "graded": n, "passes": passes, "success_rate": passes / n if n else None,
        "interval_95": list(interval) if n else None, "interval_method": "Wilson",
        "target": list(TARGET),
        "point_estimate": range_of(passes / n) if n else None, "verdict": verdict,
        "probability_in_range": probability_in_range(passes, n) if n else None,
        "attempts_to_settle": attempts_to_settle(passes / n) if verdict == "inconclusive" else None,
        "pass_at_k": at_k,
    }


# --- The results ----------------------------------------------------------------------------------

ROW_KEYS = (
    "number", "result", "failure_mode", "variance_error", "ending", "error", "refusal",
    "turns", "tokens", "seconds", "faults",
)


def summarise(facts: Json, rows: list[Json]) -> Json:
    """The results document: facts of the run, statistics, counts, one row an attempt."""
    rows = sorted(rows, key=lambda row: int(row["number"]))
    graded = [row for row in rows if row["result"] != "ERROR"]
    passes = sum(row["result"] == "PASS" for row in rows)
    failures = [row["failure_mode"] for row in graded if row["result"] == "FAIL"]
    tokens: Counter[str] = Counter()
    for row in rows:
        tokens.update(row["tokens"])
    return {
        **facts,
        "schema_version": SCHEMA_VERSION,
        "statistics": statistics(passes, len(graded), facts["status"] == "finished"),
        "errors": len(rows) - len(graded),
        "failure_modes": dict(Counter(failures).most_common()),
        "endings": dict(Counter(row["ending"] for row in rows).most_common()),
        "tokens": dict(tokens),
        "attempts": rows,
    }


def row_of(record: Json) -> Json:
    """What the results keep of an attempt; its file holds the rest."""
    path = attempt_path(Path(), record["number"]).as_posix()
    return {key: record[key] for key in ROW_KEYS} | {"file": path}


def regrade(directory: Path) -> Json:
    """Grade every recorded submission with today's grader; no request is made."""
    results = read_json(directory / RESULTS_FILE)
    paths = [attempt_path(directory, row["number"]) for row in results["attempts"]]
    if lost := [path for path in paths if not path.exists()]:
        raise RunStopped(f"{lost[0]} is lost ({count_attempts(len(lost))} in all): put it back, or "
                         "run with --resume what is lost")
    grader = fingerprint(Settings())["grader"]
    rows, changes, graded = [], [], 0
    for record in recorded_attempts(directory):
        before = [record["result"], record["failure_mode"]]
        if record["ending"] not in ("error", "refusal"):  # those have nothing to grade
            regrade_record(record)
            graded += 1
        record["fingerprint"]["grader"] = grader
        write_json(attempt_path(directory, record["number"]), record)
        after = [record["result"], record["failure_mode"]]
        if before != after:
            changes.append({"number": record["number"], "before": before, "after": after})
        rows.append(row_of(record))
    results["fingerprint"]["grader"] = grader
    results["regraded"] = {"at": iso(time.time()), "graded": graded, "changes": changes}
    results = summarise(results, rows)
    publish(directory, results)
    return results


def regrade_record(record: Json) -> None:
    """Put a recorded submission back into a workspace and grade it there."""
    from variance_dropout_task import GradingError, grade_solution, setup_task_files

    verdict, error = None, None
    with tempfile.TemporaryDirectory(prefix="dropout-") as place:
        workspace = setup_task_files(Path(place) / "workspace")
        for name, text in record["submission"].items():
            (workspace / name).unlink()
            if text is not None:
                (workspace / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            verdict = dict(grade_solution(workspace))
        except GradingError as problem:
            error = describe(problem)
    record.update(judged(record["ending"], error, verdict), error=error)


def read_submission(workspace: Path) -> dict[str, str | None]:
    """The files as the attempt left them, the test only where it was changed; None where there
    is no regular file. Of a source over the limit, as much as is judged the same."""
    from variance_dropout_task import TEST_SCRIPT

    texts: dict[str, str | None] = {}
    for name in ("dropout.py", "test_dropout.py"):
        texts[name] = None
        with contextlib.suppress(OSError):
            data = read_regular(workspace / name, 16 << 20)
            if data is not None:  # JSON brings even bytes that are not UTF-8 back as they were
                texts[name] = data[: FILE_LIMIT + 1].decode("utf-8", "surrogateescape")
    if texts["test_dropout.py"] == TEST_SCRIPT:
        del texts["test_dropout.py"]  # re-graded beside whatever test is current then
    return texts


@functools.cache  # as it was when the module was loaded, whatever happens to the file since
def fingerprint(settings: Settings) -> Json:
    """What must be equal for attempts to be counted together."""
    import variance_dropout_task as task

    asked = json.dumps([task.TASK_PROMPT, {name: tool.description for name, tool in TOOLS.items()}])
    return {
        "prompt": sha256(asked.encode()),
        "task": sha256((task.BUGGY_IMPLEMENTATION + task.TEST_SCRIPT).encode()),
        "grader": sha256(Path(task.__file__).read_bytes()),
        "settings": asdict(settings) | {"tools": list(settings.tools)},  # as JSON gives it back
    }


@functools.cache
def versions() -> Json:
    """What else a reader needs to repeat the run."""
    from variance_dropout_task import available_sandbox

    return {
        "validate_task.py": sha256(Path(__file__).read_bytes()),
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "anthropic": importlib.metadata.version("anthropic"),
        "platform": platform.platform(),
        "sandbox": available_sandbox(),
    }


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def attempt_path(directory: Path, number: int) -> Path:
    return directory / "attempts" / f"{number:03d}.json"


def recorded_attempts(directory: Path) -> Iterator[Json]:
    """The attempts in a directory, one in memory at a time: transcripts can be long."""
    for path in sorted((directory / "attempts").glob("*.json")):
        yield read_json(path)


def read_json(path: Path) -> Json:
    """A document of this program; RunStopped where it is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
        known = document["schema_version"] == SCHEMA_VERSION
    except FileNotFoundError:
        raise RunStopped(f"{path} does not exist: give a directory that a run has made") from None
    except (ValueError, KeyError, TypeError):
        raise RunStopped(f"{path} is damaged: remove it, and --resume runs what is lost") from None
    if not known:
        raise RunStopped(f"{path}: expected schema version {SCHEMA_VERSION}")
    return cast(Json, document)


def write_json(path: Path, document: Json) -> None:
    write_whole(path, json.dumps(document, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, secrets removed: a reader or a kill never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(redact(text), "utf-8")
    os.replace(scratch, path)


def redact(text: str) -> str:
    """The text without credentials: a server's error message may quote what it was sent."""
    names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_IDENTITY_TOKEN")
    headers = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()
    secrets = [os.environ.get(name, "") for name in names]
    secrets += [header.partition(":")[2] for header in headers]
    for secret in map(str.strip, secrets):
        if len(secret) >= 12:  # local servers take keys like "none", which are no secrets
            text = text.replace(secret, "[redacted]")
    return re.sub(r"sk-ant-[\w-]{8,}", "[redacted]", text)


# --- The report -----------------------------------------------------------------------------------

SCRIPTED = "SCRIPTED (--offline): this is not a measurement of any model."
BINS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, math.inf))


def publish(directory: Path, results: Json) -> None:
    """Write the JSON, and the report from that JSON alone."""
    write_json(directory / RESULTS_FILE, results)
    picture = results["status"] != "running" and draw_picture(directory, results)
    write_whole(directory / REPORT_FILE, render_report(results, bool(picture)))


def render_report(results: Json, picture: bool = False) -> str:
    """The report as Markdown."""
    parts = [
        ["# Validation results", "", *introduction(results)],
        ["```text", *headline(results), "```", "", verdict_sentence(results), ""],
        section("Recommendations", [f"- {advice}" for advice in recommendations(results)]),
        section("Variance error", histogram(results, picture)),
        section("How attempts ended", endings(results)),
        section("Attempts", attempt_table(results)),
        section("Settings", settings_table(results)),
    ]
    return "\n".join(line for part in parts for line in part)


def introduction(results: Json) -> list[str]:
    """What was measured, for a reader who meets the project here."""
    settings = results["fingerprint"]["settings"]
    stamp = [f"> **{SCRIPTED}**", ""] if results["scripted"] else []
    return [
        *stamp,
        f"{count_attempts(results['runs'])} of `{settings['model']}` (effort "
        f"{settings['effort']}) to repair a dropout layer that changes the variance of its input. "
        "An attempt passes if the grader accepts the repaired file.", "",
    ]


def count_attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"


def section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def headline(results: Json) -> list[str]:
    """The lines that a reader looks for first."""
    figures = results["statistics"]
    rate, n = figures["success_rate"], figures["graded"]
    seconds = [row["seconds"]["total"] for row in results["attempts"] if row["result"] != "ERROR"]
    if n == 0:
        return [f"Success Rate: not measured ({graded_so_far(results)})"]
    low, high = figures["interval_95"]
    at_k = ", ".join(f"@{k} {value:.1%}" for k, value in figures["pass_at_k"].items())
    pass_line = [f"Pass at k:    {at_k} (unbiased)"] if at_k else []
    return [
        f"Success Rate: {rate:.1%} ({figures['passes']}/{n})",
        f"Range Status: {range_status(results)}",
        f"Average Time: {sum(seconds) / n:.1f}s per attempt",
        f"95% Interval: {low:.1%} to {high:.1%} (Wilson)",
        f"P(in range):  {figures['probability_in_range']:.2f} (uniform prior)",
        *pass_line,
        f"No verdict:   {results['errors']} of {count_attempts(len(results['attempts']))} (errors, "
        "not in the rate)",
    ]


def range_status(results: Json) -> str:
    """The verdict, beside the status of the point estimate."""
    figures = results["statistics"]
    verdict = "no verdict" if figures["verdict"] == "none" else figures["verdict"].upper()
    point = figures["point_estimate"]
    where = point if point == "in range" else f"{point} the range"
    return f"{verdict} (point estimate {where}, target {percent_range(figures['target'])})"


def graded_so_far(results: Json) -> str:
    graded = results["statistics"]["graded"]
    return f"{graded} of {count_attempts(results['runs'])} graded"


UNFINISHED = {"running": "the run goes on, or was killed", "interrupted": "it was interrupted"}


def verdict_sentence(results: Json) -> str:
    """What was learned, and no more than that."""
    figures, n = results["statistics"], results["statistics"]["graded"]
    target = percent_range(figures["target"])
    if results["status"] != "finished":
        why = (results["reason"] or UNFINISHED[results["status"]]).rstrip(".")
        unfair = "What ends first is not a fair sample of all attempts. " if n else ""
        return f"**No verdict**: {graded_so_far(results)}; {why}. {unfair}`--resume` goes on."
    if n == 0:
        return "**No verdict**: nothing was graded, since all attempts ended in errors."
    low, high = (f"{edge:.1%}" for edge in figures["interval_95"])
    facts = (
        f"{figures['passes']} of {count_attempts(n)} passed; with 95% confidence the true pass "
        f"rate lies between {low} and {high}"
    )
    return {
        "in range": f"**In range**: {facts}, all of it inside the target of {target}.",
        "outside": f"**Outside**: {facts}, all of it {figures['point_estimate']} the target of "
        f"{target}.",
        "inconclusive": f"**Inconclusive**: {facts}, and that reaches over an edge of the target "
        f"of {target}. That does not tell whether the task is in range.",
    }[figures["verdict"]]


def recommendations(results: Json) -> list[str]:
    """What to do next, from what was seen, with the flag to turn."""
    figures, ends, n = results["statistics"], results["endings"], results["statistics"]["graded"]
    if results["scripted"]:
        return ["None, since no model was measured. After a real run this names the flag to turn, "
                "or about how many attempts would settle the verdict."]
    advice = []
    if results["errors"]:
        advice.append(f"No verdict in {results['errors']}: `--resume` runs what ended in an error.")
    for ending, flag in LIMIT_FLAGS.items():
        if ends.get(ending, 0) > n / 10:
            advice.append(
                f"{ends[ending]} {were(ends[ending])} ended by `{ending}`: that measures a setting "
                f"rather than difficulty. Raise `{flag}`."
            )
    if ends.get("refusal"):
        advice.append(f"{ends['refusal']} {were(ends['refusal'])} refused, which counts as a "
                      "failure: see the category in the table. Another `--model` may answer.")
    if figures["verdict"] == "inconclusive":
        advice.append(more_attempts(figures))
    if n and figures["verdict"] != "in range" and figures["point_estimate"] != "in range":
        advice.append(DIRECTIONS[figures["point_estimate"]])
    conclusive = "None: the verdict is conclusive and no limit stood in the way."
    return advice or [conclusive if figures["verdict"] != "none" else "Finish the run: `--resume`."]


def were(count: int) -> str:
    return "attempt was" if count == 1 else "attempts were"


LIMIT_FLAGS = {
    "turn_limit": "--max-turns",
    "max_tokens": "--max-tokens",
    "token_limit": "--max-total-tokens",
    "time_limit": "--max-seconds",
}
DIRECTIONS = {
    "above": "Too easy so far: lower `--effort`, allow fewer `--max-turns`, take a tool away "
    "(`--tools read_file,write_file`), or take a smaller `--model`. Use a new `--output-dir`.",
    "below": "Too hard so far: raise `--effort` or `--max-turns`, give all `--tools`, or take a "
    "larger `--model`. Use a new `--output-dir`.",
}


def more_attempts(figures: Json) -> str:
    """How many attempts would settle it, and how not to fool oneself on the way."""
    n = figures["attempts_to_settle"]
    rate = f"{figures['success_rate']:.1%}"
    if n is None:
        return (
            f"More attempts: over {SETTLE_LIMIT:,}. {rate} is so near an edge of the target that "
            "counting will hardly settle it; a changed setting will."
        )
    return (
        f"More attempts: about {n} in all (`--resume --runs {n}`) give an 80% chance of a "
        f"conclusive verdict, if the true rate is the {rate} seen here. Fix the number now and "
        "judge then: stopping as soon as the verdict pleases makes it wrong far more often than "
        "1 time in 20."
    )


def histogram(results: Json, picture: bool) -> list[str]:
    """The variance errors of the attempts, as text."""
    errors = [row["variance_error"] for row in results["attempts"]]
    if errors.count(None) == len(errors):
        return ["Nothing was measured."]
    counts = {bin_name(*edges): sum(e is not None and edges[0] <= e < edges[1] for e in errors)
              for edges in BINS}
    counts["not measured"] = errors.count(None)
    scale = min(1.0, 40 / max(1, *counts.values()))
    lines = [
        f"{name:>14}  {count:>4}  {'#' * math.ceil(count * scale)}".rstrip()
        for name, count in counts.items()
    ]
    image = ["", f"![Variance errors]({PICTURE_FILE})"] if picture else []
    return [
        "The worst `|Var(output) / Var(input) - 1|` of an attempt at the dropout rates "
        f"{', '.join(NAMED_RATES)}; the contract allows 10%.",
        "The first bar also holds the failed attempts whose variance is right.",
        "", "```text", *lines, "```", *image,
    ]


def bin_name(low: float, high: float) -> str:
    return f"over {low:.0%}" if math.isinf(high) else f"{low:.0%} to {high:.0%}"


def endings(results: Json) -> list[str]:
    """Failure modes and endings by count, and the faults that the retries got over."""
    faults = sum(len(row["faults"]) for row in results["attempts"])
    modes = [f"| {name} | {count} |" for name, count in results["failure_modes"].items()]
    ends = [f"| {name} | {count} |" for name, count in results["endings"].items()]
    return [
        "| failure mode (explained in FAQ.md) | attempts |", "|---|---:|",
        *(modes or ["| (no failures) | 0 |"]), "",
        "| how the conversation ended | attempts |", "|---|---:|", *ends, "",
        f"Failed requests on the way, retries included: {faults}.",
    ]


def attempt_table(results: Json) -> list[str]:
    """One row an attempt; below it in words what has no verdict, and what re-grading changed."""
    lines = [
        "| # | result | variance error | failure mode | ended by | turns | tokens | time | "
        "faults |",
        "|---:|---|---:|---|---|---:|---:|---:|---:|",
    ]
    for row in results["attempts"]:
        ending = f"refusal: {row['refusal']}" if row["refusal"] else row["ending"]
        lines.append(
            f"| [{row['number']}]({row['file']}) | {row['result']} "
            f"| {percent(row['variance_error'])} | {row['failure_mode'] or ''} | {ending} "
            f"| {row['turns']} | {sum(row['tokens'].values()):,} | {row['seconds']['total']:.1f} s "
            f"| {len(row['faults']) or ''} |"
        )
    errors = [(row["number"], row["error"]) for row in results["attempts"] if row["error"]]
    lines += ["", *(f"- attempt {number} has no verdict: `{error}`" for number, error in errors)]
    return lines + [f"- {line}" for line in regraded_in_words(results)]


def regraded_in_words(results: Json) -> list[str]:
    """What re-grading did, if it was done: how much, and each verdict that changed."""
    if "regraded" not in results:
        return []
    changes, graded = results["regraded"]["changes"], results["regraded"]["graded"]
    verdicts = "1 verdict" if len(changes) == 1 else f"{len(changes)} verdicts"
    lines = [f"re-graded: {graded} graded again, {verdicts} changed"]
    for change in changes:
        before, after = (" ".join(filter(None, change[key])) for key in ("before", "after"))
        lines.append(f"re-graded, changed: attempt {change['number']}: {before} -> {after}")
    return lines


def settings_table(results: Json) -> list[str]:
    """Everything that shaped the result, and what cannot be set."""
    tokens = ", ".join(f"{key} {count:,}" for key, count in results["tokens"].items())
    hashes = {key: results["fingerprint"][key] for key in ("prompt", "task", "grader")}
    versions = dict(results["versions"])
    hashes["validate_task.py"] = versions.pop("validate_task.py")
    facts = {
        **results["fingerprint"]["settings"],
        "attempts asked for": results["runs"],
        "at once": results["concurrency"],
        "tokens in all": tokens or "none",
        "started": results["started"],
        "wall time": f"{results['wall_seconds']} s",
        **versions,
        **{f"{key}, SHA-256 (its first 12 digits)": value[:12] for key, value in hashes.items()},
    }
    shown = [
        f"| {key} | {', '.join(value) if isinstance(value, (list, tuple)) else value} |"
        for key, value in facts.items()
    ]
    note = "Seed and temperature: the API has neither any more; attempts differ by sampling."
    return ["| | |", "|---|---|", *shown, "", note]


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}" if value < 1 else f"{value:.0%}"


def percent_range(edges: Iterable[float]) -> str:
    low, high = edges
    return f"{low * 100:.0f}-{high * 100:.0f}%"


def draw_picture(directory: Path, results: Json) -> bool:
    """The variance errors as a picture, where matplotlib is installed; whether there is one."""
    points = [(row["number"], row["variance_error"]) for row in results["attempts"]
              if row["variance_error"] is not None]
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return False
    if not points:
        return False
    figure = figures.Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    colours = ["tab:green" if error < 0.1 else "tab:red" for _, error in points]
    axes.bar([number for number, _ in points], [100 * e for _, e in points], color=colours)
    axes.axhline(10, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="attempt", ylabel="worst variance error, %",
             title="scripted, not a measurement" if results["scripted"] else None)
    figure.savefig(directory / PICTURE_FILE)
    return True


# --- The command line -----------------------------------------------------------------------------

EPILOG = """\
examples:
  python validate_task.py --offline                     see a report in seconds, without a key,
                                                        in demo_results
  python validate_task.py --runs 15 --output-dir out    15 attempts of the default model
  python validate_task.py --resume --output-dir out     go on after Ctrl-C, a crash, errors
  python validate_task.py --resume --runs 105 --output-dir out      more of the same
  python validate_task.py --report out                  write the report again from the JSON
  python validate_task.py --regrade out                 grade old submissions with today's grader
  ANTHROPIC_BASE_URL=http://127.0.0.1:8000 python validate_task.py --portable --model MODEL

It needs ANTHROPIC_API_KEY (or another credential that the SDK finds) and `pip install anthropic`.
The key is passed to the SDK and to nothing else: no file, log or tool sees it.

exit codes: 0 all attempts have a verdict; 1 some have none (errors: --resume); 2 wrong usage or
configuration, the run stopped; 130 interrupted (Ctrl-C or TERM), the report says so.
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags. One that is not given is absent: the defaults are those of Settings and Run."""
    parser = argparse.ArgumentParser(
        description="Measure how often a model solves the dropout task, and how sure that is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--runs", type=positive,
                     help=f"attempts in all ({RUNS}; with --resume as many as before)")
    run.add_argument("--output-dir", type=directory_name, metavar="DIR",
                     help="where files go (validation_results; with --offline demo_results)")
    run.add_argument("--concurrency", type=positive, help=f"attempts at once ({CONCURRENCY})")
    run.add_argument("--resume", action="store_true",
                     help="keep the verdicts in DIR, run what is missing or ended in an error")
    modes = parser.add_argument_group("other modes").add_mutually_exclusive_group()
    modes.add_argument("--offline", action="store_true",
                       help="scripted attempts in place of a model: no key, no network")
    modes.add_argument("--report", type=directory_name, metavar="DIR",
                       help="render the report in DIR again")
    modes.add_argument("--regrade", type=directory_name, metavar="DIR",
                       help="grade the submissions in DIR again; makes no request")
    add_model_flags(parser.add_argument_group("the model and its limits"))
    return parser


def add_model_flags(group: argparse._ArgumentGroup) -> None:
    """The flags that shape a result, with the names of the fields of Settings."""
    default = Settings()
    group.add_argument("--model", help=f"model id ({default.model})")
    group.add_argument("--effort", help=f"how hard it thinks ({default.effort})",
                       choices=("low", "medium", "high", "xhigh", "max"))
    group.add_argument("--tools", type=tool_names, metavar="A,B",
                       help=f"tools it has, comma-separated ({','.join(default.tools)})")
    for name, text in (
        ("max_turns", "turns of the model in an attempt"),
        ("max_tokens", "tokens of one answer, thinking included"),
        ("max_total_tokens", "tokens of an attempt, input and output of all turns"),
        ("max_seconds", "seconds of an attempt"),
    ):
        value = getattr(default, name)
        group.add_argument(flag(name), type=positive, metavar="N", help=f"{text} ({value})")
    group.add_argument("--portable", action="store_true",
                       help="send no effort, thinking, caching or strict tools, which servers of "
                       "other makers (and old models) may not know")
    group.add_argument("--allow-unsandboxed-tools", action="store_true",
                       help="let execute_code run the model's programs without bubblewrap: as "
                       "your user, with your files in reach")


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


IGNORED = {"offline": {"model", "effort"}, "portable": {"effort"}}


def parse(arguments: list[str] | None) -> Json:
    """The flags that were given; those that would change nothing are refused."""
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    for mode in set(given) & {"offline", "portable", "report", "regrade"}:
        useless = sorted(set(given) & IGNORED.get(mode, set(given) - {mode}))
        if useless:
            parser.error(f"{flag(mode)} takes no notice of {', '.join(map(flag, useless))}: "
                         "leave it out")
    return given


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def directory_name(text: str) -> Path:
    """A path that is not empty, as an unset variable of a shell is."""
    if not text:
        raise argparse.ArgumentTypeError("expected a directory, got an empty name")
    return Path(text)


def tool_names(text: str) -> tuple[str, ...]:
    """A choice of tools with which the file can be changed at all."""
    names = tuple(text.split(","))
    if not set(names) <= set(TOOLS) or not set(names) & {"write_file", "execute_code"}:
        raise argparse.ArgumentTypeError(
            f"expected some of {','.join(TOOLS)}, write_file or execute_code among them; "
            f"got {text!r}"
        )
    return names


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    given = parse(arguments)
    # A TERM while nothing runs yet ends like Ctrl-C; attempt_all has its own handlers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if "report" in given:
            return show_end(given["report"], report_again(given["report"]))
        if "regrade" in given:
            return show_end(given["regrade"], regrade(given["regrade"]))
        run = prepare(given)
        return show_end(run.directory, validate(run))
    except RunStopped as problem:
        say(redact(f"validate_task.py: {problem}"), sys.stderr)
        return 2
    except OSError as problem:  # without a name it is what is written to: the disk is full
        where = "" if problem.filename is None else f"{problem.filename}: "
        say(f"validate_task.py: {where}{problem.strerror}", sys.stderr)
        return 2
    except ModuleNotFoundError as problem:
        say(f"validate_task.py: {problem}; run python -m pip install -r requirements.txt",
            sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("validate_task.py: interrupted", sys.stderr)
        return 130


def report_again(directory: Path) -> Json:
    """Render the report from the results document, which stays as it is."""
    results = read_json(directory / RESULTS_FILE)
    publish(directory, results)
    return results


def prepare(given: Json) -> Run:
    """From flags to a run, refusing here what would only fail later."""
    settings = settings_from(given)
    usual = "demo_results" if settings.scripted else "validation_results"
    directory, runs = given.get("output_dir", Path(usual)), given.get("runs", RUNS)
    if "resume" in given:
        rows = resume(directory, settings)
        runs = runs_to_resume(directory, rows, given.get("runs"))
    elif any(recorded_attempts(directory)):
        raise RunStopped(f"{directory} already holds attempts: --resume goes on with them, another "
                         "--output-dir starts afresh.")
    else:
        rows = {}
    check_machine()
    run = Run(directory, settings, runs, given.get("concurrency", CONCURRENCY), rows=rows)
    run.show = Progress(run).show
    return run


def check_machine() -> None:
    """Refuse to spend money on attempts that could not be run or graded here."""
    import variance_dropout_task as task

    try:
        with tempfile.TemporaryDirectory(prefix="dropout-") as place:
            task.run_sandboxed("", place)
        passed = task.grade_source(task.REFERENCE_IMPLEMENTATION)["passed"]
    except task.GradingError as problem:
        raise RunStopped(f"attempts cannot be graded on this machine: {problem}") from None
    if not passed:
        raise RunStopped("the grader rejects its own reference solution on this machine")


def settings_from(given: Json) -> Settings:
    """The settings that the flags describe."""
    from variance_dropout_task import available_sandbox

    try:
        import anthropic
    except ImportError:
        raise RunStopped("the SDK is not installed: pip install 'anthropic>=2.0,<3'") from None
    chosen = Settings(**{key: value for key, value in given.items() if hasattr(Settings, key)})
    if "offline" in given:
        return replace(chosen, model="scripted", effort="none", base_url="inside the process",
                       scripted=True)
    if chosen.portable:
        chosen = replace(chosen, effort="not sent")
    unsafe = "execute_code" in chosen.tools and available_sandbox() != "bubblewrap"
    if unsafe and "allow_unsandboxed_tools" not in given:
        raise RunStopped(
            "execute_code would run the model's programs without a sandbox: bubblewrap is missing "
            "or not usable here. Install bubblewrap, leave the tool out (--tools "
            "read_file,write_file), or accept the risk with --allow-unsandboxed-tools."
        )
    try:
        with anthropic.Anthropic() as client:  # as the SDK finds it: environment or profile
            base_url = str(client.base_url.copy_with(userinfo=b"")).rstrip("/")
            headers = {name.lower() for name in client.default_headers}
            found = client.credentials or headers & {"authorization", "x-api-key"}
    except anthropic.AnthropicError as problem:
        raise RunStopped(f"{describe(problem)}. {NO_CREDENTIALS}") from None
    if not found:
        raise RunStopped(NO_CREDENTIALS)
    return replace(chosen, base_url=base_url)


class Progress:
    """A line as each attempt ends, with the tally; a bar below where tqdm is installed."""

    def __init__(self, run: Run) -> None:
        self.bar: Any = None
        if not run.todo():
            say(f"nothing missing: {count_attempts(run.runs)}, all with a verdict")
            return
        say(f"{count_attempts(run.runs)} of {run.settings.model}, {run.concurrency} at once, "
            f"into {run.directory}")
        if run.settings.scripted:
            say(paint(SCRIPTED, "33"))
        say(f"{'variance':>16} {'failure mode':<33} {'turns':>5} {'tokens':>6} "
            f"{'time':>7} {'passed':>7}")
        with contextlib.suppress(ImportError):
            tqdm = importlib.import_module("tqdm").tqdm
            kept = run.runs - len(run.todo())
            self.bar = tqdm(total=run.runs, initial=kept, disable=None, unit="attempt")

    def show(self, row: Json, results: Json) -> None:
        """An attempt has ended."""
        line = progress_line(row, results["statistics"])
        if self.bar is None:
            say(line)
            return
        with self.bar.external_write_mode():
            say(line)
        self.bar.update()
        if self.bar.n >= self.bar.total:
            self.bar.close()


def progress_line(row: Json, figures: Json) -> str:
    """Number, result, worst variance error, failure mode, turns, tokens, seconds, tally: at most
    80 columns. Below it what went wrong, where there is no verdict."""
    colour = {"PASS": "32", "FAIL": "31", "ERROR": "33"}[row["result"]]
    error = redact(f"\n     {row['error']}") if row["error"] else ""
    tokens = f"{sum(row['tokens'].values()) / 1000:.1f}k"
    tally = f"{figures['passes']}/{figures['graded']}"
    return (
        f"{'#' + str(row['number']):>4} {paint(format(row['result'], '<5'), colour)} "
        f"{percent(row['variance_error']):>5} {row['failure_mode'] or '':<33.33} {row['turns']:>5} "
        f"{tokens:>6} {row['seconds']['total']:>6.1f}s {tally:>7}{error}"
    )


def show_end(directory: Path, results: Json) -> int:
    """The headline and where the rest is; returns the exit code."""
    say("\n".join(["", *headline(results), ""]))
    if results["scripted"]:
        say(paint(SCRIPTED, "33"))
    for line in regraded_in_words(results):
        say(line)
    say(f"report: {directory / REPORT_FILE}")
    if results["status"] in ("interrupted", "stopped"):
        why = results["reason"] or f"{graded_so_far(results)}, `--resume` goes on"
        say(redact(f"{results['status']}: {why}"), sys.stderr)
        return {"interrupted": 130, "stopped": 2}[results["status"]]
    if results["errors"]:
        say(f"errors: `--resume` runs {count_attempts(results['errors'])} again", sys.stderr)
    return 1 if results["errors"] else 0


def say(text: str, stream: TextIO | None = None) -> None:
    """A line to whoever still reads. Where nobody does (`| head`) all goes on in silence: what
    matters is in the files."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:  # Python's own flush at the end must not fail
            os.dup2(nowhere.fileno(), stream.fileno())


def paint(text: str, colour: str) -> str:
    """Coloured on a terminal, plain elsewhere and under NO_COLOR."""
    plain = os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if plain else f"\033[{colour}m{text}\033[0m"


if __name__ == "__main__":
    sys.exit(main())
