"""The embedded endpoint: an OpenAI-compatible server on this machine that answers from the truth, with errors on order.

It sees what a model would see, the pictures and the facts of a request, and nothing else: which clip it is, and which
object has which number, it finds in the pictures. So a drawing that shows too little gives wrong answers here, too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reviosa_core.annotation.answers import Answers, Errors
from reviosa_core.annotation.truth import Truth
from reviosa_core.schema import Clip


class Server:
    """`with Server(clips, truths) as server: ... server.url`. Loopback only."""

    def __init__(
        self,
        clips: Iterable[Clip] = (),
        truths: Mapping[str, Truth] | None = None,
        errors: Errors | None = None,
    ) -> None:
        self.answers = Answers(clips, truths or {}, errors or Errors())

    def __enter__(self) -> Server:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        status, raw, more = self.respond(body, handler.headers.get("Authorization") or "")
        handler.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(raw))} | more).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    def respond(self, body: dict[str, Any], authorization: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and further headers. Whoever asks needs no key."""
        try:
            message, tokens = self.answers.message(body)
        except (KeyError, TypeError, ValueError, StopIteration, OSError) as error:
            return failed(400, f"not a question of the pipeline: {error!r}")
        time.sleep(self.answers.errors.delay)
        return answered(message, tokens)


def answered(message: dict[str, Any], tokens: int, finish: str = "stop") -> tuple[int, bytes, dict[str, str]]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": tokens, "completion_tokens": len(json.dumps(message)) // 4}
    return 200, _json({"object": "chat.completion", "choices": [choice], "usage": usage}), {}


def failed(status: int, message: str, code: str | None = None) -> tuple[int, bytes, dict[str, str]]:
    return status, _json({"error": {"message": message, "code": code}}), {}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
