"""An OpenAI-compatible chat endpoint on loopback that plays scripted policies with a bash tool.

Each new conversation gets the next script: shell commands, one a turn, and then a last word. The
ids of the tool calls carry the script's name, so that a trace tells which policy made it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def serve(scripts: dict[str, list[str]]) -> Iterator[str]:
    """Play the scripts, by name; yields the base URL."""
    names = itertools.cycle(scripts)
    lock = threading.Lock()

    def next_message(messages: list[dict[str, Any]]) -> dict[str, Any]:
        turns = [message for message in messages if message["role"] == "assistant"]
        if turns:
            name = turns[0]["tool_calls"][0]["id"].split("-")[0]
        else:
            with lock:
                name = next(names)
        if len(turns) == len(scripts[name]):
            return {"role": "assistant", "content": "Done."}
        arguments = json.dumps({"command": scripts[name][len(turns)]})
        call = {"name": "bash", "arguments": arguments}
        identity = {"index": 0, "id": f"{name}-{len(turns)}", "type": "function"}
        return {"role": "assistant", "content": None, "tool_calls": [identity | {"function": call}]}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            model = {"id": "scripted", "object": "model"}
            self.answer("application/json", json.dumps({"object": "list", "data": [model]}))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = next_message(request["messages"])
            reason = "tool_calls" if message.get("tool_calls") else "stop"
            choice = {"index": 0, "finish_reason": reason}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            head = {"id": "scripted", "created": 0, "model": request["model"], "usage": usage}
            if request.get("stream"):
                chunk = head | {"object": "chat.completion.chunk"}
                chunk["choices"] = [choice | {"delta": message}]
                text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
                self.answer("text/event-stream", text)
            else:
                whole = head | {"object": "chat.completion"}
                whole["choices"] = [choice | {"message": message}]
                self.answer("application/json", json.dumps(whole))

        def answer(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
