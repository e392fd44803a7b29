"""The embedded endpoint: an OpenAI-compatible server on this machine that answers from the truth, with errors on order.

It sees what a model would see, the pictures and the facts of a request, and nothing else: which clip it is, and which
object has which number, it finds in the pictures. So a drawing that shows too little gives wrong answers here, too.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reviosa_core.annotation.answers import Answers, Errors
from reviosa_core.annotation.truth import Truth
from reviosa_core.schema import Clip


class Server:
    """`with Server(clips, truths) as server: ... server.url`. Loopback only.

    For tests: `faults` are taken by the next requests, one each ("429", "500", "cut", "empty", "401", or the content
    of an answer after "say "); `requests` are the bodies received; `key`, if any, is asked for.
    """

    def __init__(
        self,
        clips: Iterable[Clip] = (),
        truths: Mapping[str, Truth] | None = None,
        errors: Errors | None = None,
        key: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        self.answers = Answers(clips, truths or {}, errors or Errors())
        self.key, self.retry_after = key, retry_after
        self.faults: deque[str] = deque()
        self.requests: list[dict[str, Any]] = []
        self.busiest = self._now = 0
        self._lock = threading.Lock()

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
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.busiest = max(self.busiest, self._now)
            fault = self.faults.popleft() if self.faults else ""
        try:
            status, raw, headers = self._answer(handler, body, fault)
        finally:
            with self._lock:
                self._now -= 1
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw[: len(raw) // 2] if fault == "cut" else raw)
        if fault == "cut":
            handler.close_connection = True

    def _answer(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: str
    ) -> tuple[int, bytes, dict[str, str]]:
        given = handler.headers.get("Authorization") or ""
        if fault == "401" or (self.key and given != f"Bearer {self.key}"):
            said = f"Incorrect API key provided: {given.removeprefix('Bearer ')}"  # as hosted endpoints do
            return 401, _json({"error": {"message": said, "code": "invalid_api_key"}}), {}
        if fault in ("429", "500", "503"):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return int(fault), _json({"error": {"message": "try later", "code": None}}), headers
        if fault == "filter":
            return 400, _json({"error": {"message": "filtered", "code": "content_filter"}}), {}
        if fault == "empty":
            return 200, _json({"choices": []}), {}
        try:
            if fault.startswith("say "):
                said = fault.removeprefix("say ").replace("KEY", given)
                message, tokens = {"role": "assistant", "content": said}, 1
            else:
                message, tokens = self.answers.message(body)
        except (KeyError, TypeError, ValueError, StopIteration, OSError) as error:
            return 400, _json({"error": {"message": f"not a question of the pipeline: {error!r}", "code": None}}), {}
        time.sleep(self.answers.errors.delay)
        finish = "length" if fault == "long" else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": tokens, "completion_tokens": len(json.dumps(message)) // 4}
        return 200, _json({"object": "chat.completion", "choices": [choice], "usage": usage}), {}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
