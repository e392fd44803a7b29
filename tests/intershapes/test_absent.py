"""Sentences about nothing are false of their scene beyond dispute, change nothing else, and survive the files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score
from transformers import PreTrainedTokenizerFast

from reviosa_core import masks
from reviosa_core.data import interrvos, statistics, verify
from reviosa_core.intershapes import absent, blind, controls, language, splits
from reviosa_core.intershapes.scenes import make_scene
from reviosa_core.intershapes.world import COLORS, HEADINGS, HELD_OUT, KINDS, SEEN, SPLITS, Scene, Utterance
from reviosa_core.model import prompts
from reviosa_core.schema import NOTHING, DataError

CONFIG, COUNT = tiny.data(32, 8), 3
SINGULAR = {plural: kind for kind in KINDS for plural in (kind, kind + "s", kind + "es")}


def seed(index: int, split: str = "train") -> tuple[int, ...]:
    return (0, SPLITS[split], index)


@pytest.fixture(scope="module")
def plain() -> list[Scene]:
    return [make_scene(CONFIG, seed(index)) for index in range(260)]


@pytest.fixture(scope="module")
def scenes(plain: list[Scene]) -> list[Scene]:
    return [absent.told(scene, seed(index), COUNT) for index, scene in enumerate(plain)]


def nothing(scene: Scene) -> list[Utterance]:
    return [u for u in scene.utterances if not u.actor]


def fitting(scene: Scene, words: str) -> list[int]:
    """Objects that a name's words fit, read from the words."""
    colors = {word for word in words.split() if word in COLORS}
    kinds = {SINGULAR[word] for word in words.split() if word in SINGULAR}
    looks = enumerate((shape.color, shape.kind) for shape in scene.shapes)
    return [k for k, (color, kind) in looks if {color} >= colors and {kind} >= kinds]


def test_a_clip_says_what_it_said_and_three_more(plain, scenes):
    for before, after in zip(plain, scenes, strict=True):
        known = len(before.utterances)
        assert after.utterances[:known] == before.utterances and len(after.utterances) == known + COUNT
        assert nothing(after) == list(after.utterances[known:])
        assert {(u.caption_type, u.target) for u in nothing(after)} == {("undefined", None)}
        assert len({u.text for u in after.utterances}) == known + COUNT
        assert (after.frames is before.frames) and after.interactions == before.interactions
    assert absent.told(plain[3], seed(3), COUNT).utterances == scenes[3].utterances, "a function of the seed"
    assert absent.told(plain[3], seed(4), COUNT).utterances != scenes[3].utterances
    assert absent.told(plain[3], seed(3), 0).utterances == plain[3].utterances


def test_each_is_false_beyond_dispute(scenes):
    """A subject whose look nobody has; or a way that nobody of that look goes, from start and end alone."""
    axis = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}
    shifted = [
        absent.told(make_scene(CONFIG, seed(i, "shift"), True), seed(i, "shift"), COUNT, True) for i in range(40)
    ]
    for scene in scenes + shifted:
        for u in nothing(scene):
            words = u.text.split()
            spans = [" ".join(words[p.start : p.stop]) for p in u.phrases]
            if heading := re.search(r" (moving .+|staying still)$", u.text):
                group, steps = fitting(scene, spans[0]), np.diff(scene.centres, axis=1)
                assert group == list(u.phrases[0].objects) != [], u.text
                if heading[1] == "staying still":
                    assert np.abs(steps[group]).sum((1, 2)).min() > 0.1, u.text
                else:
                    place, sign = axis[heading[1].split()[-1]]
                    assert (sign * (scene.centres[group, -1, place] - scene.centres[group, 0, place])).max() < 0.06
                continue
            assert not fitting(scene, spans[0]) and not u.phrases[0].objects, (u.text, scene.shapes)
            for phrase, span in zip(u.phrases, spans, strict=True):
                assert set(phrase.objects) <= set(fitting(scene, span))
            if u.form == "mutual":
                assert not any(fitting(scene, span) for span in spans), "neither of the two is there"


def test_of_an_interaction_the_object_is_still_there(scenes):
    """As said of it before, where it has a name of its own; a shared name is exchanged for both."""
    told = [u for scene in scenes for u in nothing(scene) if u.verb and u.form != "mutual"]
    named = [u for u in told if u.phrases[1].objects]
    assert len(named) > 100 and all(" other " not in u.text and " another " not in u.text for u in named)


def test_looks_are_half_there(scenes):
    """Colour or kind alone must not tell that nothing is meant."""
    half = []
    for scene in scenes:
        for u in nothing(scene):
            if u.form == "appearance" and u.level == "appearance" and "objects" not in u.text:
                color, noun = u.text.split()[-2:]
                there = color in {s.color for s in scene.shapes}, SINGULAR[noun] in {s.kind for s in scene.shapes}
                assert (color, SINGULAR[noun]) in SEEN
                half.append(there)
    shares = np.mean(half, axis=0)
    assert len(half) > 100 and (0.25 < shares).all() and (shares < 0.75).all()


def test_words_alone_hardly_tell(scenes):
    """Trees on the words, both answers weighing alike: chance is 0.5."""
    known = language.vocabulary()

    def rows(part: list[Scene]) -> tuple[list[list[float]], list[bool]]:
        said = [u for scene in part for u in scene.utterances]
        return [[float(word in u.text.split()) for word in known] for u in said], [not u.actor for u in said]

    trees = HistGradientBoostingClassifier(max_iter=100, random_state=0, class_weight="balanced")
    words, answers = rows(scenes[130:])
    found = trees.fit(*rows(scenes[:130])).predict(words)
    assert balanced_accuracy_score(answers, found) < 0.56
    forms = {kind: sum(u.verb is not None for u in own) / len(own) for kind, own in (
        ("something", [u for s in scenes for u in s.utterances if u.actor]),
        ("nothing", [u for s in scenes for u in nothing(s)]),
    )}  # fmt: skip
    assert abs(forms["something"] - forms["nothing"]) < 0.06


def test_no_word_is_new_to_the_committed_backbone(scenes, root: Path):
    words = PreTrainedTokenizerFast.from_pretrained(root / "backbones" / "tiny" / "internvl", local_files_only=True)
    texts = [u.text for scene in scenes for u in nothing(scene)] + [prompts.chat("tiny_chat").nothing]
    ids = words([*texts, "zebra"], add_special_tokens=False).input_ids
    assert [words.unk_token_id in row for row in ids] == [False] * len(texts) + [True]


def test_a_crowd_of_every_look_leaves_nothing_to_say(plain):
    """Every look is there, and no sentence is about motion."""
    shape = plain[0].shapes[0]
    every = tuple(replace(shape, color=color, kind=kind) for color, kind in [*SEEN, *HELD_OUT])
    centres, hidden = (np.repeat(known[:1], len(every), axis=0) for known in (plain[0].centres, plain[0].hidden))
    said = tuple(u for u in plain[0].utterances if u.form == "appearance" or u.verb)
    crowd = replace(plain[0], shapes=every, centres=centres, hidden=hidden, utterances=said)
    assert said
    with pytest.raises(DataError, match=r"scene \(0, 0, 0\): 3 sentences about nothing .*56 shapes leave 0"):
        absent.told(crowd, seed(0), COUNT)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_keep_them_and_everything_else_stays_as_it_was(tmp_path: Path):
    spoken = tiny.data(64, 4, absent=COUNT)
    for name, data in (("without", tiny.data(64, 4)), ("with", spoken)):
        splits.write_split(data, "val", tmp_path / name, seed=5, progress=False)
    without, told = (interrvos.read(tmp_path / name / "val") for name in ("without", "with"))
    for before, after in zip(without, told, strict=True):
        known = len(before.expressions)
        assert after.expressions[:known] == before.expressions and len(after.expressions) == known + COUNT
        assert {e.actor for e in after.expressions[known:]} == {(NOTHING,)}
        assert all(e.is_about_nothing and not e.is_interaction for e in after.expressions[known:])
        assert not masks.union(after, (NOTHING,)).any() and after.masks.keys() - before.masks.keys() == {NOTHING}
    for part in ("mask_dict.json", *(f"JPEGImages/{c.id}/{c.frame_names[1]}.jpg" for c in told)):
        assert (tmp_path / "with/val" / part).read_bytes() == (tmp_path / "without/val" / part).read_bytes()
    found = verify.verify(tmp_path / "with" / "val", progress=False)
    assert not found["problems"] and found["splits"]["."]["masks"] == sum(len(c.masks) for c in without)
    counted = statistics.collect(told)
    assert counted.caption_types["undefined"] == COUNT * len(told)
    assert counted.table()["objects"] == statistics.collect(without).table()["objects"]
    again = tmp_path / "again"
    interrvos.write(again, told)
    for before, after in zip(told, interrvos.read(again), strict=True):  # whose ids are counted anew
        assert after.expressions[-COUNT:] == before.expressions[-COUNT:]
        for one, other in zip(before.expressions, after.expressions, strict=True):
            assert (masks.union(before, one.actor) == masks.union(after, other.actor)).all()


def test_notes_say_what_is_not_there(tmp_path: Path):
    data = tiny.data(64, 4, absent=COUNT)
    data = data.model_copy(update={"splits": data.splits.model_copy(update={"val": 12})})
    splits.write_split(data, "val", tmp_path, seed=5, progress=False)
    notes, clips = splits.read_notes(tmp_path / "val"), interrvos.read(tmp_path / "val")
    gone = notes["kind"].str.startswith("absent, ")
    assert gone.sum() == COUNT * len(clips) and set(notes["kind"][gone]) == {
        "absent, look", "absent, motion", "absent, actor",
    }  # fmt: skip
    assert notes.loc[gone, ["occlusion", "object size"]].isna().to_numpy().all()
    assert notes.loc[~gone, ["occlusion", "object size"]].notna().to_numpy().all()
    side = splits.read_side_file(tmp_path / "val")
    texts = {(c.id, e.id): e.text for c in clips for e in c.expressions}
    for row in notes[gone].itertuples():
        moving = texts[row.video, row.expression].endswith(tuple(HEADINGS.values()))
        assert moving == (row.kind == "absent, motion") and (row.kind == "absent, actor") == isinstance(row.verb, str)
    for name in controls.CONTROLS:
        changed = list(controls.controlled(clips, side, name, seed=0))
        assert not any(e.is_about_nothing for clip in changed for e in clip.expressions), (
            "only interactions are changed"
        )
    assert controls.right_pair(clips, side, [[] for _ in clips]).empty
    table = blind.blind_table((clips[:6], side), (clips[6:], side), bootstrap=0, seed=0).set_index("question")
    assert table.loc["is anything there?", "n"] == sum(len(c.expressions) for c in clips[6:])
