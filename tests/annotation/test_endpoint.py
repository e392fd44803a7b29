"""The client against a real loopback server: every way in which an endpoint fails, and what becomes of it."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from faulty import Faulty

from reviosa_core.annotation.endpoint import CALLS, IN_A_ROW, Endpoint, EndpointError
from reviosa_core.annotation.pictures import jpeg
from reviosa_core.annotation.questions import Question, Reply, check_text, plain_schema
from reviosa_core.annotation.server import failed

KEY = "sk-very-secret-123456"


PICTURE = jpeg(np.zeros((8, 8, 3), np.uint8))


class Word(Reply):
    id: Literal["1", "2"]
    text: str


def check(found: Word) -> None:
    check_text(found.text, 5, "text")


def question(number: int = 0) -> Question:
    facts = {"number": number, "objects": [], "frames": [0]}
    return Question("expressions", "Say something.", facts, Word, (("frame 0", PICTURE),), check)


GOOD = 'say {"id": "1", "text": "a word"}'


class Setup:
    def __init__(self, cache: Path, **server) -> None:
        self.cache, self.slept = cache, list[float]()
        self.server = Faulty(**server)

    def ask(self, *faults: str, number: int = 0, key: str | None = None, **options):
        self.slept.clear()
        with self.server as server:
            server.faults.extend(faults)
            with Endpoint(server.url, "m", self.cache, key, sleep=self.slept.append, **options) as endpoint:
                try:
                    return endpoint.ask(question(number))
                finally:
                    self.usage = endpoint.usage["expressions"]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "cache")


def test_an_answer_is_kept_and_never_asked_for_again(setup: Setup):
    assert setup.ask(GOOD).value == Word(id="1", text="a word")
    assert setup.ask().value == Word(id="1", text="a word") and len(setup.server.requests) == 1
    assert (setup.usage.cached, setup.usage.calls, setup.usage.images) == (1, 0, 0)
    (file,) = setup.cache.rglob("*.json")
    kept = json.loads(file.read_text())
    assert kept["model"] == "m" and len(kept["prompt"]) == len(kept["images"]) == 16
    file.write_text(file.read_text()[:-20])
    assert setup.ask(GOOD).value and len(setup.server.requests) == 2, "half a file is no answer"
    assert setup.ask(GOOD, number=1).value and len(setup.server.requests) == 3, "another question"


def test_the_request_is_what_every_server_understands(setup: Setup):
    setup.ask(GOOD)
    (body,) = setup.server.requests
    assert body.keys() == {"model", "messages", "temperature", "seed", "max_tokens", "response_format"}
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"] == {
        "type": "object",
        "properties": {"id": {"type": "string", "enum": ["1", "2"]}, "text": {"type": "string"}},
        "required": ["id", "text"],
        "additionalProperties": False,
    }
    kinds = [part["type"] for part in body["messages"][0]["content"]]
    assert kinds == ["text", "text", "image_url", "text"]
    assert body["messages"][0]["content"][2]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert plain_schema(Word) == schema["schema"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "7", "text": "a word"}', "id: Input should be '1' or '2'"),
        ('{"id": "1", "text": " "}', "the text is empty"),
        ('{"id": "1", "text": "one two three four five six"}', "6 words; at most 5"),
        ('{"id": "1", "text": "the dog [2]"}', "plain words"),
        ('{"id": "1", "text": "object 2 runs"}', "by its number"),
        ('{"id": "1"}', "text: Field required"),
        ('{"id": "1", "text": "a", "why": "b"}', "why: Extra inputs"),
        ('Sure! {"id": "1", "text": "a word"}', "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[]", "object"),
    ],
)
def test_what_is_not_usable_goes_back_with_the_reason_twice_at_most(setup: Setup, bad: str, said: str):
    assert setup.ask(f"say {bad}", f"say {bad}", GOOD).value.text == "a word"
    first, second, third = (request["messages"] for request in setup.server.requests)
    assert [len(m) for m in (first, second, third)] == [1, 3, 5]
    assert said in third[2]["content"] and third[1]["content"] == bad[:4000]
    answer = setup.ask(*[f"say {bad}"] * 4, number=1)
    assert answer.value is None and answer.reason.startswith("no usable answer in 3 tries: ") and said in answer.reason
    assert len(setup.server.requests) == 6 and setup.usage.abstained == 1
    assert setup.ask(GOOD, number=1).value is None and len(setup.server.requests) == 6, "an abstention is kept"
    assert setup.ask(GOOD, number=1, again=True).value.text == "a word", "and asked for again when told"


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "empty"])
def test_busy_down_and_cut_off_are_waited_for(setup: Setup, fault: str, capsys: pytest.CaptureFixture[str]):
    assert setup.ask(fault, fault, GOOD).value.text == "a word"
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("; waiting, and asking again up to 5 times") and (not fault.isdigit() or fault in said)
    assert setup.slept == [1, 2] and (setup.usage.calls, setup.usage.questions) == (3, 1)
    with pytest.raises(EndpointError, match=f"{CALLS} times; answers so far are kept"):
        setup.ask(*[fault] * CALLS, number=1)
    assert setup.slept == [1, 2, 4, 8, 16]
    assert setup.ask(GOOD, number=1).value, "an outage is no answer: it is not kept"


def test_retry_after_is_honoured(tmp_path: Path):
    setup = Setup(tmp_path, retry_after="7")
    assert setup.ask("429", "503", GOOD).value and setup.slept == [7, 7]
    later = (datetime.now(UTC) + timedelta(seconds=100)).replace(microsecond=0)
    setup = Setup(tmp_path, retry_after=format_datetime(later, usegmt=True))
    before = datetime.now(UTC)
    assert setup.ask("429", GOOD, number=1).value
    most, least = (later - before).total_seconds(), (later - datetime.now(UTC)).total_seconds()
    assert least <= setup.slept[0] <= most
    setup = Setup(tmp_path, retry_after="soon")
    assert setup.ask("429", GOOD, number=2).value and setup.slept == [1]
    for past in ("0", "Wed, 21 Oct 2015 07:28:00 GMT"):
        setup = Setup(tmp_path / past[:1], retry_after=past)
        assert setup.ask("429", "503", GOOD).value and setup.slept == [1, 2], "never at once"
    setup = Setup(tmp_path, retry_after="3600")
    with pytest.raises(EndpointError, match="asks to wait 3600 s; over 120"):
        setup.ask("429", GOOD, number=3)
    assert not setup.slept


def test_refusals_are_answers(tmp_path: Path):
    from reviosa_core.annotation.answers import Errors

    setup = Setup(tmp_path, errors=Errors(refusal=1.0))
    answer = setup.ask()
    assert answer.value is None and answer.reason == "refused: I can't help with that."
    assert len(setup.server.requests) == 1, "asking again would be pressing"
    setup = Setup(tmp_path)
    assert setup.ask("filter", number=1).reason == "refused: filtered"


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_question_that_is_not_taken_is_an_abstention_that_is_not_kept(setup: Setup, status: str):
    answer = setup.ask(status)
    assert answer.value is None and answer.reason.startswith(f"status {status}: This model's maximum context length")
    assert setup.usage.abstained == 1 and len(setup.server.requests) == 1
    assert setup.ask(GOOD).value.text == "a word", "no answer: it is not kept"


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_status_that_is_about_us_ends_the_run(setup: Setup, status: str):
    with pytest.raises(EndpointError, match=f"status {status}"):
        setup.ask(status)


def test_where_no_question_is_taken_it_is_none_of_them(tmp_path: Path):
    with Faulty() as server, Endpoint(server.url, "m", tmp_path) as endpoint:
        server.faults.extend(["422"] * IN_A_ROW)
        for number in range(1, IN_A_ROW):
            assert endpoint.ask(question(number)).value is None
        with pytest.raises(EndpointError, match=f"none of {IN_A_ROW} questions was taken: status 422: This model's"):
            endpoint.ask(question(IN_A_ROW))
    with Faulty() as server, Endpoint(server.url, "m", tmp_path / "other") as endpoint:
        server.faults.extend([GOOD, *["422"] * 2 * IN_A_ROW])
        assert endpoint.ask(question()).value
        assert not any(endpoint.ask(question(number)).value for number in range(1, 2 * IN_A_ROW))


def test_a_model_that_calls_its_limit_otherwise_is_asked_so_from_then_on(tmp_path: Path):
    with Faulty(reasoning=True) as server, Endpoint(server.url, "m", tmp_path, sleep=lambda _: None) as endpoint:
        server.answers.message = lambda body: ({"content": '{"id": "1", "text": "a"}'}, 1)
        assert endpoint.ask(question()).value.text == "a"
        limits = [{"max_tokens", "max_completion_tokens", "temperature"} & body.keys() for body in server.requests]
        assert limits == [
            {"max_tokens", "temperature"},
            {"max_completion_tokens", "temperature"},
            {"max_completion_tokens"},
        ]
        assert server.requests[-1]["max_completion_tokens"] == endpoint.tokens
        assert endpoint.ask(question(1)).value and len(server.requests) == 4, "known by now"


def test_a_limit_that_is_too_large_is_no_other_name(setup: Setup):
    class Small(Faulty):
        def respond(self, body, authorization):
            self.requests.append(body)
            said = "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model supports at most 1000"
            return failed(400, said)

    setup.server = Small()
    assert setup.ask().reason.startswith("status 400: 'max_tokens' or") and len(setup.server.requests) == 1


def test_an_answer_in_parts_and_one_of_another_kind(setup: Setup):
    parts = [{"type": "text", "text": '{"id": "1",'}, {"type": "text", "text": ' "text": "a \ud83d"}'}, {"type": "x"}]
    setup.server.answers.message = lambda body: ({"content": parts}, 1)
    assert setup.ask().value.text == "a ?", "half a character is none"
    setup.server.answers.message = lambda body: ({"content": {"text": "a"}}, 1)
    assert setup.ask(number=1, key=KEY).value is None


def test_a_refusal_with_half_a_character_is_kept(setup: Setup):
    setup.server.answers.message = lambda body: ({"content": None, "refusal": "no \ud83d"}, 1)
    assert setup.ask().reason == setup.ask().reason == "refused: no ?" and setup.usage.cached == 1


def test_another_seed_is_another_question(setup: Setup):
    assert (
        setup.ask(GOOD).value and setup.ask(GOOD.replace("a word", "other words"), seed=1).value.text == "other words"
    )
    assert [setup.ask(seed=seed).value.text for seed in (0, 1)] == ["a word", "other words"]
    assert [request["seed"] for request in setup.server.requests] == [0, 1]


def test_more_tokens_ask_again_what_was_cut(setup: Setup):
    whole = {"content": '{"id": "1", "text": "a"}'}
    setup.server.answers.message = lambda body: (whole if body["max_tokens"] > 20 else {"content": '{"id": "1", '}, 1)
    assert setup.ask(tokens=20).value is None and setup.ask(tokens=20).value is None
    assert setup.usage.cached == 1 and setup.ask(tokens=30).value.text == "a"
    assert setup.ask(tokens=20).value.text == "a", "an answer is one, whatever is asked for later"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the kid 2 metres behind", None),
        ("the squid 3 divers follow", None),
        ("the id 2 one", "by its number"),
        ("object 1", "by its number"),
        ("the number 2 pushing number 3", "by its number"),
        ("Track 2", "by its number"),
        ("the player wearing number 7", None),
        ("the man with number 23 on his shirt", None),
        ("the number 7 bus", None),
        ("the track 5 train", None),
        ('the man behind "Object 1"', "by its number"),
        ("...", "empty"),
        ("…", "empty"),
        ("\t", "empty"),
    ],
)
def test_texts_that_no_person_would_write(text: str, said: str | None):
    with nullcontext() if said is None else pytest.raises(ValueError, match=said):
        check_text(text, 9, "text")


def test_an_answer_cut_at_the_limit_is_not_usable(setup: Setup):
    setup.server.answers.message = lambda body: ({"content": '{"id": "1", "text": "a"}'}, 1)
    answer = setup.ask("long", "long", "long")
    assert answer.value is None and "trailing" in answer.reason


def test_nobody_there(tmp_path: Path):
    slept: list[float] = []
    with Endpoint("http://127.0.0.1:9/v1", "m", tmp_path, sleep=slept.append) as endpoint:
        with pytest.raises(EndpointError, match=r"http://127.0.0.1:9: ConnectError"):
            endpoint.ask(question())
    assert len(slept) == CALLS - 1


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", f"http://user:{KEY}@host/v1", f"https://host/v1?key={KEY}"]
)
def test_addresses_that_are_none_or_hold_more_than_a_place(tmp_path: Path, url: str):
    with pytest.raises(ValueError) as caught:
        Endpoint(url, "m", tmp_path)
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_log_no_file_no_trace_and_no_message(tmp_path: Path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    traces: list[tuple] = []
    setup = Setup(tmp_path / "cache", key=KEY)
    options = {"key": KEY, "trace": lambda *about: traces.append(about)}
    assert setup.ask('say {"id": "1", "text": "KEY word"}', **options).value.text == "Bearer *** word"
    assert setup.ask("say KEY", "say KEY", "say KEY", number=1, **options).value is None
    with pytest.raises(EndpointError, match=r"status 401: Incorrect API key provided: \*\*\*"):
        setup.ask("401", number=2, **options)
    with pytest.raises(EndpointError, match="401") as caught:
        setup.ask(number=3, key="sk-another")
    assert "sk-another" not in str(caught.value) and len(traces) == 2
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    said = capsys.readouterr()
    sent = json.dumps(setup.server.requests)
    for where in (caplog.text, files, repr(traces), said.out, said.err, sent):
        assert KEY not in where and "sk-another" not in where


def test_the_same_question_at_once_is_asked_once(tmp_path: Path):
    with Faulty() as server:
        server.answers.errors = server.answers.errors.model_copy(update={"delay": 0.05})
        server.faults.extend([GOOD] * 8)
        with Endpoint(server.url, "m", tmp_path) as endpoint, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: endpoint.ask(question()), range(8)))
    assert len(server.requests) == 1 and {a.value.text for a in answers} == {"a word"}
    assert (endpoint.usage["expressions"].cached, endpoint.usage["expressions"].questions) == (7, 8)
