"""Asking an OpenAI-compatible endpoint: every question once, every answer checked, every answer kept.

The only file that speaks to the network. What ends a run is an `EndpointError`: nothing is lost, since all answers so
far are in the cache. What does not end it is an abstention: a refusal, three answers in a row that are not usable, or
a status that is about this question, as of one that is too long.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable
from urllib.parse import urlsplit

import openai
from pydantic import ValidationError
from tqdm import tqdm

from reviosa_core import outputs
from reviosa_core.annotation.questions import Question, Reply
from reviosa_core.annotation.records import Asked, explain
from reviosa_core.data.jsonfile import to_json

TRIES = 3  # of a question: the first, and two with what was wrong
CALLS = 6  # of one try, while the endpoint is busy or down
WAIT = 120.0  # seconds: an endpoint that asks for more is not waited for
SECONDS = 300.0  # for an answer
HERE = ("localhost", "127.0.0.1", "::1")
REFUSED = ("content_filter", "content_policy_violation")  # codes of errors that are about the question, not about us
NOT_TAKEN = (400, 413, 422)  # statuses that are about the question: too long, too large, not understood
IN_A_ROW = 8  # questions not taken before one was: it is none of them, then, but the model or the form
INSTEAD = {"max_tokens": "max_completion_tokens", "temperature": ""}  # reasoning models want the one, not the other


class EndpointError(ValueError):
    """The endpoint does not answer, or not to us. The message holds no key."""


class NotTakenError(Exception):
    """The endpoint does not take this question. The message holds no key."""


class Answer(NamedTuple):
    """`value` is None for an abstention, and `reason` says why."""

    value: Any
    reason: str
    asked: Asked


@runtime_checkable
class Asking(Protocol):
    """What the stages need: somebody who answers."""

    def ask(self, question: Question) -> Answer: ...


@dataclass
class Usage:
    """Counts of one stage. `calls` went over the network; what the cache answered is not among them."""

    questions: int = 0
    cached: int = 0
    calls: int = 0
    images: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    abstained: int = 0


class Endpoint:
    """`url` is the base, up to and including /v1; `key` goes into the Authorization header and nowhere else.

    `again`: abstentions in the cache are asked for once more. `trace(name, facts, answer, about)` is called for each
    question that went over the network. ValueError for a url that is none or holds a
    password, and for a key that cannot be sent.
    """

    def __init__(
        self,
        url: str,
        model: str,
        cache: Path,
        key: str | None = None,
        tokens: int = 2000,
        seed: int = 0,
        trace: Callable[[str, dict[str, Any], Any, dict[str, Any]], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        again: bool = False,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint {_host(url)!r} is no http(s) address")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                f"endpoint {_host(url)!r}: the address holds more than a place; keys go by the environment"
            )
        if key and not (key.isascii() and key.isprintable()):  # the client's own message would hold it
            raise ValueError("the key has characters that no header can have, as a line's end or an umlaut")
        self.model, self.cache, self.tokens, self.seed = model, Path(cache), tokens, seed
        self.usage: dict[str, Usage] = defaultdict(Usage)
        self._again = again
        self._key, self._url, self._trace, self._sleep = key, url.rstrip("/"), trace, sleep
        # Our own loop waits and tries again; a redirect would carry pictures to somebody who was not named; this
        # machine's own servers are never behind the environment's proxy.
        http = openai.DefaultHttpxClient(
            timeout=openai.Timeout(SECONDS, connect=10.0), follow_redirects=False, trust_env=parts.hostname not in HERE
        )
        self._client = openai.OpenAI(api_key=key or "none", base_url=self._url, max_retries=0, http_client=http)
        self._lock, self._locks = threading.Lock(), dict[str, threading.Lock]()
        self._said: set[str] = set()
        self._instead: dict[str, str] = {}  # parameters that the model does not know: what they are called, if anything
        self._taken, self._not_taken = False, 0
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a call would drown the progress bars

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, question: Question) -> Answer:
        """From the cache, or from the endpoint and into the cache; a question that is not taken is no answer, and not
        kept. EndpointError."""
        key = question.key(self.model, self.seed)
        asked = Asked(question=key, model=self.model, prompt=question.prompt_hash, images=question.images_hash)
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        with own:  # of two who ask the same at once, the second finds the answer
            kept = self._kept(key, question)
            if kept is None:
                try:
                    kept = self._ask(question, key)
                except NotTakenError as error:
                    kept = {"answer": None, "reason": str(error)}
            else:
                self._count(question.name, cached=1)
        value = None if kept["answer"] is None else _parse(kept["answer"], question)
        self._count(question.name, questions=1, abstained=int(value is None))
        return Answer(value, kept["reason"], asked)

    def _file(self, key: str) -> Path:
        return self.cache / key[:2] / f"{key}.json"

    def _kept(self, key: str, question: Question) -> dict[str, Any] | None:
        try:
            kept = json.loads(self._file(key).read_text(encoding="utf-8"))
            if kept["answer"] is not None:
                _parse(kept["answer"], question)
            elif self._again or kept.get("tokens", self.tokens) < self.tokens:  # it may have been cut
                return None
            return kept
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, cut off, or of an older form of the answer

    def _ask(self, question: Question, key: str) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": question.content()}]
        kept: dict[str, Any] = {"name": question.name, "model": self.model, "facts": dict(question.facts)}
        kept |= {"prompt": question.prompt_hash, "images": question.images_hash, "answer": None, "tries": []}
        kept |= {"shown": len(question.images), "tokens": self.tokens}
        for _ in range(TRIES):
            text, refused, used = self._call(question, messages)
            kept["tries"].append(used)
            if refused:
                kept["reason"] = f"refused: {text}"[:300]
                break  # a refusal is an answer: asking again would be pressing
            try:
                _parse(text, question)
                kept |= {"answer": text, "reason": ""}
                break
            except ValueError as error:
                kept["reason"] = f"no usable answer in {len(kept['tries'])} tries: {error}"
                wrong = f"This answer cannot be used: {error}\nAnswer again, in full, in the form that was asked for."
                messages += [{"role": "assistant", "content": text[:4000]}, {"role": "user", "content": wrong}]
        outputs.text(self._file(key), to_json(kept, ascii=False))
        if self._trace:
            about = {"question": key} | {k: kept[k] for k in ("model", "prompt", "images", "tries", "reason")}
            self._trace(question.name, dict(question.facts), kept["answer"], about)
        return kept

    def _call(self, question: Question, messages: list[dict[str, Any]]) -> tuple[str, bool, dict[str, int]]:
        """The answer's text, whether it is a refusal, tokens in and out."""
        body = {"model": self.model, "messages": messages, "temperature": 0, "seed": self.seed}
        body |= {"max_tokens": self.tokens, "response_format": question.format()}
        raw = self._post(body, question)
        self._taken = True
        usage = raw.get("usage") or {}
        counted = [usage.get(key) if isinstance(usage, dict) else 0 for key in ("prompt_tokens", "completion_tokens")]
        used = {what: n if isinstance(n, int) else 0 for what, n in zip(("in", "out"), counted, strict=True)}
        self._count(question.name, tokens_in=used["in"], tokens_out=used["out"])
        choice = raw["choices"][0]
        message = choice["message"]
        if message.get("refusal") or choice.get("finish_reason") == "content_filter":
            return self._clean(str(message.get("refusal") or "content filter")), True, used
        text = self._clean(_text(message.get("content")))
        return text + ("…" if choice.get("finish_reason") == "length" else ""), False, used  # cut: never whole JSON

    def _post(self, body: dict[str, Any], question: Question) -> dict[str, Any]:
        """The endpoint's answer. Busy, down and cut off are waited for and asked again; EndpointError then, and for
        whatever asking again will not change; NotTakenError where another question may be taken."""
        pause = 1.0
        for call in range(1, CALLS + 1):
            self._count(question.name, calls=1, images=len(question.images))
            wait = pause
            try:
                said = {self._instead.get(name, name): value for name, value in body.items()}
                said.pop("", None)
                got = self._client.chat.completions.with_raw_response.create(**said)
                if found := _choices(got.text):
                    return found
                reason = "an answer without choices, or cut off"
            except openai.APIConnectionError as error:
                cause = error.__cause__ or error
                reason = type(cause).__name__ + (f": {cause}" if str(cause) else "")
            except openai.APIStatusError as error:
                if self._says_otherwise(error, said):
                    continue
                if error.status_code != 429 and error.status_code < 500:
                    return self._final(error)
                reason = f"status {error.status_code}"
                wait = max(pause, _retry_after(error.response.headers.get("Retry-After"), pause))
            reason = self._clean(reason)
            if wait > WAIT:
                raise EndpointError(f"{_host(self._url)}: {reason}, and asks to wait {wait:.0f} s; over {WAIT:.0f}")
            if call < CALLS:
                self._wait_is_said(reason)
                self._sleep(wait)
                pause *= 2
        raise EndpointError(f"{_host(self._url)}: {reason}, {CALLS} times; answers so far are kept, run it again")

    def _wait_is_said(self, reason: str) -> None:
        """Once for each reason: a misspelt port is not to be waited for in silence."""
        with self._lock:
            new = reason not in self._said
            self._said.add(reason)
        if new:
            tqdm.write(f"{_host(self._url)}: {reason}; waiting, and asking again up to {CALLS - 1} times", sys.stderr)

    def _says_otherwise(self, error: openai.APIStatusError, said: dict[str, Any]) -> bool:
        """Whether a parameter is not known to the model, and is from now on called otherwise, or left out."""
        message = self._message(error)
        named = [name for name in INSTEAD if name in said and re.search(rf"\b{name}\b", message)]
        if error.status_code != 400 or not named or not re.search("unsupported|not support", message, re.IGNORECASE):
            return False
        self._instead |= {name: INSTEAD[name] for name in named}
        return True

    def _final(self, error: openai.APIStatusError) -> dict[str, Any]:
        """A status that stays: a refusal where its code says so."""
        message = self._message(error)
        if isinstance(error.body, dict) and error.body.get("code") in REFUSED:
            return {"choices": [{"message": {"refusal": message}}]}
        said = f"status {error.status_code}: {' '.join(message.split())[:300]}"
        if error.status_code not in NOT_TAKEN:
            raise EndpointError(f"{_host(self._url)}: {said}")
        with self._lock:
            self._not_taken += 1
        if not self._taken and self._not_taken >= IN_A_ROW:
            raise EndpointError(f"{_host(self._url)}: none of {self._not_taken} questions was taken: {said}")
        raise NotTakenError(said)

    def _message(self, error: openai.APIStatusError) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        return self._clean(str(body.get("message") or error.response.text))

    def _clean(self, text: str) -> str:
        """Without the key, which some endpoints repeat in what they say, and without half characters, which JSON may
        hold and no file can."""
        text = text.encode(errors="replace").decode()
        return text.replace(self._key, "***") if self._key else text

    def _count(self, name: str, **more: int) -> None:
        with self._lock:
            for what, number in more.items():
                setattr(self.usage[name], what, getattr(self.usage[name], what) + number)


def _parse(text: str, question: Question) -> Reply:
    """ValueError in one line that can be sent back."""
    try:
        value = question.reply.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    question.check(value)
    return value


def _choices(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
        return found if isinstance(found["choices"][0]["message"], dict) else None
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _text(content: Any) -> str:
    """Of an answer: a text, or a list of parts that have one. Nothing of whatever else: no usable answer."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _retry_after(value: str | None, default: float) -> float:
    """Seconds, of a number or a date; the default where it is neither."""
    try:
        return max(0.0, float(value or ""))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return default


def _host(url: str) -> str:
    """An address without whatever else it holds."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}" if host else url.partition("?")[0][:80]
