"""The embedded endpoint with faults on order, and a book of what it was asked."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from reviosa_core.annotation.server import Server, answered, failed

LONG = "This model's maximum context length is 8192 tokens; your messages resulted in 9000"
UNKNOWN = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
ONE = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."


class Faulty(Server):
    """`faults` are taken by the next requests, one each: a status, "cut", "empty", "long", "filter", or the content of
    an answer after "say "; `requests` are the bodies received; `key`, if any, is asked for; `reasoning` models know
    neither max_tokens nor a temperature."""

    def __init__(
        self, *about: Any, key: str | None = None, retry_after: str | None = None, reasoning: bool = False, **more: Any
    ) -> None:
        super().__init__(*about, **more)
        self.key, self.retry_after, self.reasoning = key, retry_after, reasoning
        self.faults: deque[str] = deque()
        self.requests: list[dict[str, Any]] = []
        self.busiest = self._now = 0
        self._lock = threading.Lock()

    def respond(self, body: dict[str, Any], authorization: str) -> tuple[int, bytes, dict[str, str]]:
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.busiest = max(self.busiest, self._now)
            fault = self.faults.popleft() if self.faults else ""
        try:
            return self._faulty(body, authorization, fault)
        finally:
            with self._lock:
                self._now -= 1

    def _faulty(self, body: dict[str, Any], authorization: str, fault: str) -> tuple[int, bytes, dict[str, str]]:
        if fault == "401" or (self.key and authorization != f"Bearer {self.key}"):
            said = authorization.removeprefix("Bearer ")  # as hosted endpoints do
            return failed(401, f"Incorrect API key provided: {said}", "invalid_api_key")
        if self.reasoning and "max_tokens" in body:
            return failed(400, UNKNOWN, "unsupported_parameter")
        if self.reasoning and "temperature" in body:
            return failed(400, ONE, "unsupported_value")
        if fault in ("429", "500", "503"):
            status, raw, _ = failed(int(fault), "try later")
            return status, raw, {"Retry-After": self.retry_after} if self.retry_after else {}
        if fault.isdigit():
            return failed(int(fault), LONG)
        if fault == "filter":
            return failed(400, "filtered", "content_filter")
        if fault == "empty":
            return 200, b'{"choices": []}', {}
        if fault.startswith("say "):
            said = fault.removeprefix("say ").replace("KEY", authorization)
            return answered({"role": "assistant", "content": said}, 1)
        if fault == "long":
            return answered(*self.answers.message(body), "length")
        status, raw, headers = super().respond(body, authorization)
        if fault == "cut":
            return status, raw[: len(raw) // 2], {"Content-Length": str(len(raw)), "Connection": "close"}
        return status, raw, headers
