"""From clips to a data set through a real loopback server that sees only the pictures and the facts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from faulty import Faulty
from PIL import Image
from running import run

from reviosa_core.annotation import dataset, endpoint, pipeline, sources, truth
from reviosa_core.annotation.answers import holds
from reviosa_core.annotation.endpoint import Endpoint, EndpointError
from reviosa_core.annotation.questions import PROMPTS, Prompts
from reviosa_core.data import interrvos
from reviosa_core.data.verify import verify
from reviosa_core.schema import DataError


def test_without_errors_everything_is_found_and_everything_is_true(annotate, world: Path):
    ran = annotate()
    assert (ran.score.precision, ran.score.recall, ran.score.role_accuracy) == (1, 1, 1) and ran.score.there >= 5
    found = verify(ran.out)
    assert not found["problems"] and found["splits"]["."]["expressions"] == ran.summary["expressions"] > 30
    roles = json.loads((ran.out / dataset.ROLES).read_text())
    truths, voices = truth.of_intershapes(world), set()
    for clip in interrvos.read(ran.out):
        assert roles[clip.id].keys() == {e.id for e in clip.expressions}
        for expression in clip.expressions:
            about = roles[clip.id][expression.id]
            voices.add(about["voice"])
            assert holds(truths[clip.id], about["text"], about["actor"], about["target"] or ()), about["text"]
            assert about["text"] == expression.text and about["asked"][0]["model"] == "truth"
            if about["target"]:
                assert about["evidence"] == ["seen throughout", "of the swap: the frames show otherwise"]
            if about["voice"] == "passive":
                assert (about["actor"], about["target"]) == (about["patients"], about["agents"])
            if about["voice"] == "active":
                assert (about["actor"], about["target"]) == (about["agents"], about["patients"])
    assert {"active", "passive", "none"} <= voices
    table = dataset.read_roles(ran.out)
    assert len(table) == ran.summary["expressions"] and set(table["voice"]) == voices
    rejected = [json.loads(line) for line in (pipeline.work(ran.out) / "rejected.jsonl").read_text().splitlines()]
    assert {entry["rejected"].partition(":")[0] for entry in rejected} == {"ambiguous"}
    assert ran.summary["stages"]["verified"]["rejected"] == len(rejected)


@pytest.mark.parametrize(
    ("rates", "worse"),
    [
        ({"role": 0.6}, {"role_accuracy"}),
        ({"missed": 0.5}, {"recall"}),
        ({"invented": 0.9}, {"precision"}),
        ({"refusal": 0.4}, {"recall"}),
        ({"name": 0.5}, set()),
    ],
)
def test_each_error_lowers_its_own_number_and_the_verifier_lets_nothing_false_through(
    annotate, world: Path, rates: dict[str, float], worse: set[str]
):
    ran = annotate(**rates)
    for name in ("precision", "recall", "role_accuracy"):
        assert (getattr(ran.score, name) < 1) == (name in worse), name
    truths = truth.of_intershapes(world)
    kept = dataset.texts(ran.lines("verified"))
    assert all(holds(truths[clip], t.text, t.actor, t.target or ()) for clip, texts in kept.items() for t in texts)
    rejected = [v for line in ran.lines("verified").values() for v in line.items if v.rejected]
    if "refusal" in rates:
        assert ran.summary["stages"]["objects"]["abstained"] > 0
    elif "missed" not in rates:
        assert any(v.rejected.startswith(("contradicted: the frames", "the roles")) for v in rejected)


def test_without_the_verifier_the_wrong_roles_are_written(annotate, world: Path):
    ran = annotate(options=pipeline.Options(verify=False), role=0.6)
    truths = truth.of_intershapes(world)
    kept = dataset.texts(ran.lines("verified"))
    false = [t for c, texts in kept.items() for t in texts if not holds(truths[c], t.text, t.actor, t.target or ())]
    assert false and {t.caption_type for t in false} == {"unidirectional"}
    assert "verify" not in ran.summary["asked in this run"]


def test_broken_answers_are_asked_for_again_and_then_abstained_from(annotate):
    some = annotate(broken=0.3)
    tries = [len(json.loads(f.read_text())["tries"]) for f in (pipeline.work(some.out) / "answers").rglob("*.json")]
    assert set(tries) <= {1, 2, 3} and max(tries) > 1
    asked_again = [r["messages"] for r in some.server.requests if len(r["messages"]) > 1]
    assert "cannot be used" in asked_again[0][2]["content"] and asked_again[0][1]["role"] == "assistant"


def test_nothing_but_broken_answers_is_an_empty_data_set_and_says_so(annotate):
    ran = annotate(broken=1.0)
    stages = ran.summary["stages"]
    assert stages["objects"] == {"kept": 0, "rejected": 0, "abstained": stages["tracks"]["kept"]}
    assert (
        stages["events"]["abstained"] == 5
        and not ran.summary["questions not taken"]
        and ran.summary["expressions"] == 0
    )
    assert len(ran.summary["without an expression, left out"]) == 5
    assert ran.summary["asked in this run"]["events"]["calls"] == 15, "three tries each"


def test_a_second_run_asks_nothing_and_gives_the_same(annotate):
    first = annotate()
    before = {p.name: p.read_bytes() for p in pipeline.work(first.out).glob("*.jsonl")}
    expressions = (first.out / "meta_expressions.json").read_bytes()
    second = annotate(out=first.out)
    assert not second.server.requests
    assert {p.name: p.read_bytes() for p in pipeline.work(first.out).glob("*.jsonl")} == before
    assert (first.out / "meta_expressions.json").read_bytes() == expressions


def test_after_a_crash_the_answers_are_there(annotate):
    first = annotate()
    asked = len(first.server.requests)
    for stage in ("objects", "events", "interactions", "verified"):
        pipeline.stage_file(first.out, stage).unlink()
    second = annotate(out=first.out)
    assert asked and not second.server.requests and second.summary["expressions"] == first.summary["expressions"]


def test_an_edited_stage_is_what_the_next_ones_read(annotate):
    first = annotate()
    file = pipeline.stage_file(first.out, "objects")
    lines = first.lines("objects")
    clip = next(iter(lines))
    old = lines[clip].items[0].look
    file.write_text(file.read_text().replace(f'"look":"{old}"', '"look":"odd thing"'))
    second = annotate(out=first.out)
    assert any(o.look == "odd thing" for line in second.lines("objects").values() for o in line.items), "it stays"
    names = {r["response_format"]["json_schema"]["name"] for r in second.server.requests}
    assert "objects" not in names and {"expressions", "verify"} <= names
    rejected = [v for line in second.lines("verified").values() for v in line.items if "odd thing" in v.text.text]
    assert rejected and all(v.rejected for v in rejected)


def test_an_unreadable_line_is_named(annotate):
    first = annotate()
    file = pipeline.stage_file(first.out, "events")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace('"agents"', '"actors"') + "".join(lines[2:]))
    if lines[1] == lines[1].replace('"agents"', '"actors"'):
        pytest.fail("the second clip has no event")
    with pytest.raises(DataError, match=r"3_events.jsonl: line 2: items.0.agents: Field required"):
        annotate(out=first.out)


def test_other_frames_in_the_place_of_a_data_sets_are_looked_at_again(world: Path, tmp_path: Path):
    def ran() -> tuple[list[dict], set[str]]:
        found = run(tmp_path / "world", tmp_path / "out")
        return found.server.requests, {line.made_from for line in found.lines("objects").values()}

    shutil.copytree(world, tmp_path / "world")
    asked, first = ran()
    assert asked
    frames = sorted((tmp_path / "world" / "JPEGImages" / "intershapes_val_00000").iterdir())
    for file in frames:
        os.utime(file, ns=(1, 1))
    asked, second = ran()
    assert not asked and len(first - second) == 1, "looked at again, and the answers are there"
    for file in frames:
        with Image.open(file) as image:
            pixels = image.convert("RGB").rotate(180)
        pixels.save(file)
    asked, third = ran()
    assert {"objects", "events"} <= {r["response_format"]["json_schema"]["name"] for r in asked}
    assert len(second - third) == 1


def test_another_prompt_asks_that_stage_again_and_is_in_the_provenance(annotate, tmp_path: Path):
    first = annotate()
    own = tmp_path / "own"
    own.mkdir()
    for file in PROMPTS.iterdir():
        (own / file.name).write_text(file.read_text() + ("\nBe brief.\n" if file.stem == "events" else ""))
    second = annotate(out=first.out, prompts=Prompts(own))
    names = {r["response_format"]["json_schema"]["name"] for r in second.server.requests}
    assert names == {"events"}, "the answers are the same, and so are the questions that follow"
    hashes = [{e.asked.prompt for line in r.lines("events").values() for e in line.items} for r in (first, second)]
    assert all(len(found) == 1 for found in hashes)
    (own / "verify.md").write_text(" \n")
    with pytest.raises(DataError, match="verify.md: an empty prompt"):
        Prompts(own)
    (own / "verify.md").unlink()
    with pytest.raises(DataError, match="verify.md"):
        Prompts(own)


def test_abstentions_are_asked_for_again_when_told(annotate):
    first = annotate(refusal=1.0)
    second = annotate(out=first.out)
    assert not second.server.requests, "an abstention is an answer"
    third = annotate(out=first.out, options=pipeline.Options(again=True))
    assert third.summary["stages"]["objects"]["abstained"] == 0 and third.summary["expressions"] > 30


def test_what_the_verifier_did_not_answer_is_an_abstention_and_asked_for_again_when_told(world: Path, tmp_path: Path):
    class Moody(Faulty):
        def respond(self, body, authorization):
            if body["response_format"]["json_schema"]["name"] == "verify" and self.sick:
                self.faults.appendleft("say not JSON")
            return super().respond(body, authorization)

    found, truths, out = sources.read(world)[:2], truth.of_intershapes(world), tmp_path / "out"

    def ran(sick: bool, again: bool = False) -> dict:
        with Moody([s.clip for s in found], truths) as server:
            server.sick = sick
            with Endpoint(server.url, "truth", pipeline.work(out) / "answers", again=again) as asking:
                options = pipeline.Options(again=again)
                settings = pipeline.Annotation(frames=3, side=128, at_once=1)
                return pipeline.Pipeline(found, out, asking, settings, options=options, progress=False).run()

    first = ran(sick=True)
    assert first["expressions"] == 0 and first["stages"]["verified"]["abstained"] > 0
    assert ran(sick=False)["expressions"] == 0, "an abstention is an answer"
    last = ran(sick=False, again=True)
    assert last["expressions"] > 10 and last["stages"]["verified"]["abstained"] == 0


def test_a_question_that_is_not_taken_costs_its_clip_and_no_run(annotate, world: Path, tmp_path: Path):
    class Short(Faulty):
        def respond(self, body, authorization):
            facts = json.loads(body["messages"][0]["content"][-1]["text"].removeprefix("Facts:\n"))
            if body["response_format"]["json_schema"]["name"] == "events" and len(facts["objects"]) >= 5:
                self.faults.appendleft("400")
            return super().respond(body, authorization)

    found, truths, out = sources.read(world), truth.of_intershapes(world), tmp_path / "out"
    long = [s.clip.id for s in found if len(s.clip.masks) >= 5]
    with Short([s.clip for s in found], truths) as server:
        with Endpoint(server.url, "truth", pipeline.work(out) / "answers") as asking:
            settings = pipeline.Annotation(frames=3, side=128, at_once=1)
            summary = pipeline.Pipeline(found, out, asking, settings, progress=False).run()
    assert 0 < len(long) < 5 and summary["stages"]["events"]["abstained"] == len(long)
    said = summary["questions not taken"]
    assert [entry.partition(": This")[0] for entry in said] == [f"clip {id}, events: status 400" for id in long]
    longer = annotate(options=pipeline.Options(again=True))
    assert longer.score.recall == 1 and not longer.summary["questions not taken"]


def test_no_more_questions_at_once_than_allowed(annotate):
    ran = annotate(settings=pipeline.Annotation(frames=2, side=96, at_once=2), delay=0.01)
    assert ran.server.busiest == 2


def test_negatives_are_marked_and_only_there_when_asked_for(annotate):
    without = annotate(complete=True)
    assert without.summary["stages"]["negatives"]["kept"] > 0
    assert dataset.read_roles(without.out)["negative"].isna().all()
    false = annotate(out=without.out, options=pipeline.Options(negatives=True), complete=True)
    assert not verify(false.out)["problems"]
    table = dataset.read_roles(false.out)
    assert set(table["negative"].dropna()) == {"partner absent"}, "the others refer to nothing at all"
    kinds = {n.kind for line in false.lines("negatives").values() for n in line.items}
    assert kinds == {"partner absent", "object absent", "roles swapped"}
    clips = {clip.id: {e.id: e for e in clip.expressions} for clip in interrvos.read(false.out)}
    for row in table[table["negative"].notna()].itertuples():
        expression = clips[row.video][row.expression]
        assert expression.target is None


def test_the_words_of_negatives_are_false(annotate, world: Path):
    ran, truths = annotate(complete=True), truth.of_intershapes(world)
    for clip, line in ran.lines("negatives").items():
        ids = list(truths[clip].objects)
        for n in line.items:
            pairs = [(a, b) for a in ids for b in ids if a != b]
            assert not any(holds(truths[clip], n.text, (a,), (b,)) for a, b in pairs), n.text


def test_two_clips_of_one_name_are_refused(world: Path, tmp_path: Path):
    found = sources.read(world)
    with (
        Endpoint("http://127.0.0.1:9/v1", "m", tmp_path) as nobody,
        pytest.raises(DataError, match="two clips are called 'intershapes_val_00000'"),
    ):
        pipeline.Pipeline([*found, found[0]], tmp_path, nobody, pipeline.Annotation())


def test_an_endpoint_that_gives_out_leaves_what_was_done(annotate, world: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(endpoint, "CALLS", 1)
    found, truths = sources.read(world), truth.of_intershapes(world)
    with Faulty([s.clip for s in found], truths) as server:
        server.faults.extend([""] * 7 + ["500"] * 200)
        with Endpoint(server.url, "truth", pipeline.work(tmp_path / "out") / "answers") as asking:
            settings = pipeline.Annotation(frames=3, side=128, at_once=4)
            with pytest.raises(EndpointError, match="status 500, 1 times; answers so far are kept"):
                pipeline.Pipeline(found, tmp_path / "out", asking, settings, progress=False).run()
    kept = len(list((pipeline.work(tmp_path / "out") / "answers").rglob("*.json")))
    assert kept == 7
    ran = annotate()
    assert (
        ran.score.recall == 1
        and len(ran.server.requests)
        == sum(used["questions"] for used in ran.summary["asked in this run"].values()) - kept
    )
