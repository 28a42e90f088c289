"""A loopback server that speaks the Messages API, with faults on demand; standard library only.

    with FakeAPI(solver(source)) as api:                      # a model that writes `source`
        subprocess.run([...], env=api.environment())
    api.requests                                              # the bodies, in order of arrival

A model is a function of the request body that returns a Reply; it keeps no state, since the
history tells which turn it is. A fault chooser is a function of the number of the request
(counted from 0) that returns the name of a fault, or None for a sound answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk-ant-api03-THIS-KEY-MUST-APPEAR-NOWHERE"
Json = dict[str, Any]


# --- Models


class Reply(NamedTuple):
    """What the model answers: content blocks and why it stopped."""

    content: Sequence[Json]
    stop_reason: str = "end_turn"
    extra: Json | None = None


Model = Callable[[Json], Reply]


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def call(name: str, **arguments: Any) -> Json:
    """A tool_use block; its id is unique within a turn and the same in every run."""
    return {"type": "tool_use", "id": f"toolu_{name}_{len(str(arguments))}", "name": name,
            "input": arguments}


def turn_of(body: Json) -> int:
    """How often the model has answered already in this conversation."""
    return sum(message["role"] == "assistant" for message in body["messages"])


def script(*replies: Reply) -> Model:
    """A model that gives these replies, one a turn, and then stops."""
    return lambda body: dict(enumerate(replies)).get(turn_of(body), Reply([text("Done.")]))


def solver(source: str) -> Model:
    """A model that reads, writes `source`, runs the tests and stops."""
    return script(
        Reply([text("Reading."), call("read_file", path="dropout.py")], "tool_use"),
        Reply([call("write_file", path="dropout.py", content=source)], "tool_use"),
        Reply([call("execute_code", code="import test_dropout\ntest_dropout.main()")], "tool_use"),
    )


# --- Faults


class Fault(NamedTuple):
    """An answer that is not a message; `kind` names what cannot be said with bytes alone."""

    status: int = 200
    body: bytes = b""
    headers: Json | None = None
    kind: str = "answer"


def error(status: int, name: str, details: Json | None = None, **headers: str) -> Fault:
    """An error response as the service writes it."""
    content: Json = {"type": name, "message": f"injected {status}"}
    if details:
        content["details"] = details
    body = json.dumps({"type": "error", "error": content, "request_id": "req_body"})
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Fault(status, body.encode(), {"content-type": "application/json", **named})


FAULTS = {
    "429": error(429, "rate_limit_error"),
    "429 soon": error(429, "rate_limit_error", retry_after_ms="5"),
    "429 hour": error(429, "rate_limit_error", retry_after="3600"),
    "429 spend limit": error(
        429, "rate_limit_error", {"error_code": "enforced_spend_limit_reached"}
    ),
    "500": error(500, "api_error", retry_after_ms="5"),
    "529": error(529, "overloaded_error", retry_after_ms="5"),
    "400": error(400, "invalid_request_error"),
    "401": error(401, "authentication_error"),
    "402": error(402, "billing_error"),
    "403": error(403, "permission_error"),
    "404": error(404, "not_found_error"),
    "413": error(413, "request_too_large"),
    "502 html": Fault(502, b"<html>bad gateway</html>", {"content-type": "text/html"}),
    "reset": Fault(kind="reset"),
    "truncated": Fault(200, b'{"id":', kind="truncated"),
    "hang": Fault(kind="hang"),
    "broken json": Fault(200, b'{"id": "msg_1", "conte', {"content-type": "application/json"}),
    "html": Fault(200, b"<html>captive portal</html>", {"content-type": "text/html"}),
    "empty object": Fault(200, b"{}", {"content-type": "application/json"}),
    "null content": Fault(
        200, b'{"type":"message","content":null,"usage":{},"stop_reason":"end_turn"}'
    ),
    "quotes the key": error(413, f"request_too_large {KEY}"),
}
PASSING = ("429 soon", "500", "529", "reset", "truncated", "broken json", "html", "empty object")


def first(*names: str) -> Callable[[int], str | None]:
    """These faults for the first requests, none later."""
    return lambda number: names[number] if number < len(names) else None


def always(name: str) -> Callable[[int], str | None]:
    return lambda number: name


def one_in_three(seed: int) -> Callable[[int], str | None]:
    """A third of all requests fail, each in a way drawn at random."""
    draw = random.Random(seed)
    return lambda number: draw.choice(PASSING) if draw.random() < 1 / 3 else None


# --- The server


class FakeAPI:
    """The server, as a context manager; `requests` and `headers` are what it was sent."""

    def __init__(self, model: Model, fault: Callable[[int], str | None] = lambda number: None):
        self.model, self.fault = model, fault
        self.requests: list[Json] = []
        self.headers: list[Json] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def __enter__(self) -> FakeAPI:
        handler = type("BoundHandler", (Handler,), {"api": self})
        self.server = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def take(self, body: Json, headers: Json) -> Fault | None:
        """Record a request; the fault that it meets."""
        with self.lock:
            name = self.fault(len(self.requests))
            self.requests.append(body)
            self.headers.append(headers)
        return FAULTS[name] if name else None

    def environment(self) -> dict[str, str]:
        """The environment in which a command finds this server and nothing else."""
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith("ANTHROPIC_") and not key.lower().endswith("_proxy")}
        return {**kept, "ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": KEY,
                "NO_PROXY": "127.0.0.1"}


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    api: FakeAPI
    protocol_version = "HTTP/1.1"
    # Else every answer waits 40 ms for an acknowledgement: headers and body are two packets.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests look at `api.requests`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fault = self.api.take(body, dict(self.headers))
        if fault is None:
            self.reply(body)
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)  # close with RST in place of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
        elif fault.kind == "hang":
            self.api.closing.wait(60)
            self.close_connection = True
        else:
            missing = 1000 if fault.kind == "truncated" else 0
            self.send(fault.status, fault.body, fault.headers or {}, missing)

    def reply(self, body: Json) -> None:
        answer = self.api.model(body)
        usage = {"input_tokens": len(json.dumps(body)) // 4, "output_tokens": 17,
                 "cache_creation_input_tokens": None, "cache_read_input_tokens": 3}
        message = {
            "id": f"msg_{turn_of(body)}", "type": "message", "role": "assistant",
            "model": body["model"], "content": list(answer.content),
            "stop_reason": answer.stop_reason, "stop_sequence": None, "usage": usage,
            **(answer.extra or {}),
        }
        self.send(200, json.dumps(message).encode(), {"content-type": "application/json"})

    def send(self, status: int, body: bytes, headers: Json, missing: int = 0) -> None:
        self.send_response(status)
        length = str(len(body) + missing)
        for key, value in {**headers, "request-id": "req_1", "content-length": length}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or missing > 0


# --- The command under test


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "validate_task.py"), *map(str, arguments)]


def run_command(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run validate_task.py to its end. No command may ever show a traceback."""
    done = subprocess.run(
        command(*arguments), env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def call_command(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported the SDK already: ten times as fast."""
    import validate_task

    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    environment = mock.patch.dict(os.environ, env or {}, clear=env is not None)
    with environment, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = validate_task.main([str(argument) for argument in arguments])
        except SystemExit as ending:  # argparse
            code = int(ending.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(command(*arguments), code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def started_command(
    *arguments: object, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run validate_task.py and end it at the latest when the test ends."""
    process = subprocess.Popen(
        command(*arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
