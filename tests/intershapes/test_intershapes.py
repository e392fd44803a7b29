"""InterShapes keeps its promise: what an expression denotes is clear, and roles cannot be had without motion."""

import hashlib
import json
import re

import numpy as np
import pytest
import tiny

from reviosa_core import masks
from reviosa_core.data import interrvos
from reviosa_core.intershapes import language, pixels, splits, world
from reviosa_core.intershapes.scenes import _place_pair, make_scene
from reviosa_core.intershapes.verbs import DIRECTED, VERBS
from reviosa_core.intershapes.world import COLORS, HELD_OUT, KINDS, SPLITS
from reviosa_core.schema import DataError

CONFIG = tiny.data(32, 8)  # where things are does not depend on the size, and small frames are quick
SHAPES = tiny.data(64, 4, objects=(3, 4))


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(CONFIG, (0, SPLITS["train"], index)) for index in range(2500)]


@pytest.fixture(scope="module")
def pairs(scenes):
    """(scene, interaction, a is the object of lower number) for every directed interaction."""
    return [(s, e, e.a < e.b) for s in scenes for e in s.interactions if e.directed]


# --- scenes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, SHAPES], ids=["tiny", "smoke"])
@pytest.mark.parametrize("shift", [False, True])
def test_a_scene_is_a_function_of_its_seed(config, shift):
    first, again, other = (make_scene(config, (4, 2, index), shift) for index in (0, 0, 1))
    assert first.frames.shape == (config.frames, config.size, config.size, 3)
    assert first.frames.dtype == first.labels.dtype == np.uint8
    assert (first.frames == again.frames).all() and (first.labels == again.labels).all()
    assert first.utterances == again.utterances and first.interactions == again.interactions
    assert (first.frames != other.frames).any()


def test_labels_show_each_object_where_it_is(scenes):
    for scene in scenes[:50]:
        n = len(scene.shapes)
        assert scene.labels.max() <= n and scene.centres.shape == (n, CONFIG.frames, 2)
        for k in range(n):
            y, x = np.nonzero(scene.labels[0] == k + 1)
            # Nothing is hidden in the first frame, so the middle of the visible pixels is the object's centre.
            assert np.abs([x.mean() + 0.5, y.mean() + 0.5] - scene.centres[k, 0] * CONFIG.size).max() < 1


def test_objects_start_apart(scenes):
    for scene in scenes:
        for j, first in enumerate(scene.shapes):
            for k in range(j):
                gap = np.linalg.norm(scene.centres[j, 0] - scene.centres[k, 0])
                assert gap > first.radius + scene.shapes[k].radius


def test_shares_are_as_configured(scenes):
    count = np.bincount([len(s.interactions) for s in scenes], minlength=3) / len(scenes)
    assert count == pytest.approx([0.15, 0.5, 0.35], abs=0.03)
    pairs = [(s.shapes[e.a], s.shapes[e.b]) for s in scenes for e in s.interactions]
    alike = [(a.color, a.kind) == (b.color, b.kind) for a, b in pairs]
    assert np.mean(alike) == pytest.approx(0.3 + 0.7 / 42, abs=0.04)  # some by chance
    assert 8 <= np.mean([len(s.utterances) for s in scenes]) <= 12


def test_bystanders_move_too(scenes):
    far = []
    for scene in scenes:
        taking_part = {k for e in scene.interactions for k in (e.a, e.b)}
        for k in set(range(len(scene.shapes))) - taking_part:
            far.append(np.abs(np.diff(scene.centres[k], axis=0)).sum() > 0.1)
    assert 0.5 < np.mean(far) < 0.8
    moved = {(s.verb, s.agent) for scene in scenes for s in scene.solos}
    assert {verb for verb, _ in moved} == set(DIRECTED)
    assert ("bump", False) not in moved  # whom nobody bumps into rests


def test_neighbours_start_as_near_as_partners(scenes):
    """Else "the nearest pair interacts" would be right."""
    gaps = {True: [], False: []}
    for scene in scenes:
        if len(scene.interactions) == 1 and len(scene.shapes) > 2:
            event = scene.interactions[0]
            start, radii = scene.centres[:, 0], np.array([s.radius for s in scene.shapes])
            pairs = [(i, j) for i in range(len(start)) for j in range(i)]
            gap = [np.linalg.norm(start[i] - start[j]) - radii[i] - radii[j] for i, j in pairs]
            nearest = pairs[int(np.argmin(gap))]
            gaps[set(nearest) == {event.a, event.b}].append(1 / len(pairs))
    n, chance = len(gaps[True]) + len(gaps[False]), np.mean(gaps[True] + gaps[False])
    assert abs(len(gaps[True]) / n - chance) < 0.06


def test_hidden_is_the_covered_share():
    """Two shapes of which the second is drawn over the first, and a third alone."""
    shapes = tuple(world.Shape("red", "square", 0.2, 0.0) for _ in range(3))
    centres = np.array([[[0.3, 0.3]] * 8, [[0.5, 0.3]] * 8, [[0.7, 0.8]] * 8])
    _, labels, hidden = pixels.render(np.random.default_rng(0), SHAPES, shapes, centres[:, :4], False)
    alone = (labels[0] == 3).sum()
    assert hidden.shape == (3, 4) and (hidden[1:] == 0).all()
    assert hidden[0] == pytest.approx(1 - (labels[0] == 1).sum() / alone, abs=0.02) and hidden[0, 0] > 0.3


def test_splits_are_disjoint():
    hashes = [
        hashlib.sha256(make_scene(SHAPES, (0, number, index), split == "shift").frames.tobytes()).digest()
        for split, number in SPLITS.items()
        for index in range(20)
    ]
    assert len(set(hashes)) == len(hashes) == 20 * len(SPLITS)


def test_shift_has_looks_of_its_own(scenes):
    seen = {(shape.color, shape.kind) for scene in scenes for shape in scene.shapes}
    shifted = [make_scene(SHAPES, (0, SPLITS["shift"], index), shift=True) for index in range(100)]
    assert not seen & HELD_OUT and len(seen) == len(COLORS) * len(KINDS) - len(HELD_OUT)
    assert {(shape.color, shape.kind) for scene in shifted for shape in scene.shapes} == HELD_OUT


def test_two_pairs_need_four_objects():
    with pytest.raises(ValueError, match=r"4 objects.*\(2, 3\)"):
        make_scene(tiny.data(32, 8, objects=(2, 3), two_pairs=1.0, no_interaction=0.0), (0,))


# --- roles need motion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("anchor", "frame"), [("start", 0), ("end", -1)])
def test_both_role_assignments_fit_and_share_a_frame(anchor, frame):
    """The guarantee itself: the coin is tossed between two clips that share their first frame, or their last."""
    rng, t, placed, found = np.random.default_rng(0), np.linspace(0, 1, 8), [], 0
    for verb in VERBS.values():
        for _ in range(20):
            paths = _place_pair(rng, verb, (0.08, 0.12), placed, t, (0.0, 1.0), anchor)
            if paths is not None:
                found += 1
                assert paths[0, :, frame] == pytest.approx(paths[1, :, frame], abs=1e-12)
                assert (paths > -0.06).all() and (paths < 1.06).all()
                if verb.passive:  # ... and are different clips: either object is the one that acts
                    assert np.abs(paths[0] - paths[1]).max() > 0.05
    assert found > 15 * len(VERBS)


def first_mover(scene, event) -> int:
    a, b = (np.linalg.norm(scene.centres[k, 1] - scene.centres[k, 0]) for k in sorted((event.a, event.b)))
    return min(event.a, event.b) if a > b else max(event.a, event.b)


def test_motion_and_verb_tell_roles(pairs):
    late = {"chase", "follow", "catch"}  # verbs whose agent sets out second
    right = [(first_mover(s, e) == e.a) != (e.verb in late) for s, e, _ in pairs]
    assert np.mean(right) > 0.99


def test_voices_and_directions_are_balanced(scenes, pairs):
    for verb in DIRECTED:
        forms = [u.form for s in scenes for u in s.utterances if u.caption_type == "unidirectional" and u.verb == verb]
        assert forms.count("active") == forms.count("passive") > 100
    absent = [u for s in scenes for u in s.utterances if u.verb and u.form != "mutual" and u.target is None]
    directed = [u for s in scenes for u in s.utterances if u.target is not None]
    assert 0.1 < len(absent) / (len(absent) + len(directed)) < 0.3  # the sentence's form does not decide on a target
    rightward = [s.centres[e.a, -1, 0] > s.centres[e.a, 0, 0] for s, e, _ in pairs]
    assert np.mean(rightward) == pytest.approx(0.5, abs=0.04)


def test_verbs_differ_by_how_the_distance_changes(pairs):
    """The gap closes in a chase and stays when following; pushed and pulled things end up touching, hit ones do not."""
    gap: dict[str, list[np.ndarray]] = {}
    for s, e, _ in pairs:
        distance = np.linalg.norm(s.centres[e.a] - s.centres[e.b], axis=1)
        gap.setdefault(e.verb, []).append(distance - s.shapes[e.a].radius - s.shapes[e.b].radius)
    end = {verb: np.array(gaps)[:, -1] for verb, gaps in gap.items()}
    assert (end["chase"] < 0.03).all() and (end["follow"] > 0.05).mean() > 0.95
    assert (end["catch"] < 0.01).all() and (end["bump"] > 0.05).all()
    assert (end["push"] < 0.01).all() and (end["pull"] < 0.01).all() and (end["carry"] < -0.05).all()
    assert (end["hit"] > 0.1).all()


# --- language ---------------------------------------------------------------------------------------------------------

VOICES = {words: (name, a_first) for name, verb in VERBS.items() for _, words, a_first in verb.voices()}
MUTUAL = {verb.active: name for name, verb in VERBS.items() if verb.passive is None}
SINGULAR = {plural: kind for kind in KINDS for plural in (kind, kind + "s", kind + "es")}


def named(scene, phrase: str) -> set[int]:
    """Objects that the colour and kind words of a phrase fit, of those that exist."""
    words = phrase.split()
    colors = {word for word in words if word in COLORS}
    kinds = {SINGULAR[word] for word in words if word in SINGULAR}
    return {
        k
        for k, shape in enumerate(scene.shapes)
        if (not colors or shape.color in colors) and (not kinds or shape.kind in kinds)
    }


def heads(scene, words: str) -> set[int]:
    """Objects that move as told, from start and end alone."""
    way = scene.centres[:, -1] - scene.centres[:, 0]
    along = {"left": -way[:, 0], "right": way[:, 0], "up": -way[:, 1], "down": way[:, 1]}
    if words == "staying still":
        return set(np.flatnonzero(np.abs(np.diff(scene.centres, axis=1)).sum(axis=(1, 2)) < 0.02).tolist())
    step = along[words.split()[-1]]
    return set(np.flatnonzero((step > 0.1) & (step > 0.71 * np.linalg.norm(way, axis=1))).tolist())


def denotes(scene, text: str) -> list[tuple[set[int], set[int] | None]]:
    """Every reading (actor, target) of a text in a scene, from its words."""
    for voice, (verb, a_first) in VOICES.items():
        if found := re.fullmatch(rf"(the .+) {voice} ((?:the|another) .+)", text):
            subject, other = (named(scene, phrase) for phrase in found.groups())
            if not other and found[2].startswith("the "):  # the partner is not there
                moves = [(s.verb, s.agent, s.k) for s in scene.solos]
                moves += [(e.verb, side, k) for e in scene.interactions for side, k in ((True, e.a), (False, e.b))]
                return [({k}, None) for v, agent, k in moves if v == verb and agent == a_first and k in subject]
            events = [(e.a, e.b) if a_first else (e.b, e.a) for e in scene.interactions if e.verb == verb]
            return [({a}, {b}) for a, b in events if a in subject and b in other]
    for voice, verb in MUTUAL.items():
        if text.endswith(voice):
            names = text.removesuffix(f" {voice}").split(" and ")
            events = [(e.a, e.b) for e in scene.interactions if e.verb == verb]
            options = [named(scene, name) for name in names] * (3 - len(names))
            return [
                ({a, b}, None)
                for a, b in events
                if (a in options[0] and b in options[1]) or (b in options[0] and a in options[1])
            ]
    found = re.fullmatch(r"(?:the|all) (.+?)(?: (moving .+|staying still))?", text)
    assert found, text
    group = named(scene, found[1])
    return [(group & heads(scene, found[2]) if found[2] else group, None)]


def test_every_utterance_denotes_just_what_it_should(scenes):
    shifted = [make_scene(SHAPES, (0, SPLITS["shift"], index), shift=True) for index in range(100)]
    for scene in scenes[:1000] + shifted:
        for u in scene.utterances:
            expected = (set(u.actor), None if u.target is None else set(u.target))
            assert denotes(scene, u.text) == [expected], (u.text, scene.shapes, scene.interactions)
            if u.caption_type == "single":
                assert len(u.actor) == 1
            elif u.caption_type == "multi":
                assert len(u.actor) > 1


def test_texts_of_a_clip_differ(scenes):
    for scene in scenes:
        texts = [u.text for u in scene.utterances]
        assert len(texts) == len(set(texts)) >= 1


def test_phrases_name_their_objects(scenes):
    for scene in scenes[:500]:
        for u in scene.utterances:
            words = u.text.split()
            spans = [" ".join(words[p.start : p.stop]) for p in u.phrases]
            assert all(set(p.objects) <= named(scene, span) for p, span in zip(u.phrases, spans, strict=True))
            assert {k for p in u.phrases for k in p.objects} == {*u.actor, *(u.target or ())}
            if u.verb and u.form != "mutual" and u.target is None:
                assert not named(scene, u.text.rpartition(" the ")[2])  # the partner is not there
            assert u.phrases[0].objects == u.actor[: len(u.phrases[0].objects)]


def test_cue_says_what_is_needed(scenes):
    for scene in scenes[:500]:
        for u in scene.utterances:
            fitting = [named(scene, " ".join(u.text.split()[p.start : p.stop])) for p in u.phrases]
            enough = all(fit == set(p.objects) for p, fit in zip(u.phrases, fitting, strict=True))
            assert (u.cue == "appearance") == enough, (u.text, u.cue)


def test_vocabulary_is_complete_and_all_used(scenes):
    used = {word for scene in scenes for u in scene.utterances for word in u.text.split()}
    assert language.vocabulary() == sorted(used)


# --- clips and files --------------------------------------------------------------------------------------------------


def test_to_clip_keeps_everything(scenes):
    scene = scenes[0]
    clip = splits.to_clip(scene, "c")
    assert [e.id for e in clip.expressions] == [str(i) for i in range(len(scene.utterances))]
    for u, e in zip(scene.utterances, clip.expressions, strict=True):
        assert (e.text, e.caption_type) == (u.text, u.caption_type)
        assert (masks.union(clip, e.actor) == np.isin(scene.labels, np.array(u.actor) + 1)).all()
        assert (masks.union(clip, e.target) == np.isin(scene.labels, np.array(u.target or (99,)) + 1)).all()


@pytest.mark.parametrize("split", ["test", "shift"])
def test_write_split_reads_back(tmp_path, split):
    (tmp_path / f".{split}.reviosa-partial").mkdir()  # what a run leaves that is killed at once
    splits.write_split(SHAPES, split, tmp_path, seed=5, progress=False)
    clips = interrvos.read(tmp_path / split)
    notes = json.loads((tmp_path / split / "intershapes.json").read_text())
    assert [c.id for c in clips] == list(notes) == [f"intershapes_{split}_{i:05d}" for i in range(2)]
    assert [p.name for p in tmp_path.iterdir()] == [split]
    for index, clip in enumerate(clips):
        scene = make_scene(SHAPES, (5, SPLITS[split], index), shift=split == "shift")
        error = [np.abs(clip.frames[i].astype(int) - scene.frames[i]).mean() for i in range(len(clip))]
        assert max(error) < 4  # JPEG
        for u, e in zip(scene.utterances, clip.expressions, strict=True):
            assert (masks.union(clip, e.actor) == np.isin(scene.labels, np.array(u.actor) + 1)).all()
            note = notes[clip.id]["expressions"][e.id]
            assert (note["verb"], note["form"], note["level"], note["cue"]) == (u.verb, u.form, u.level, u.cue)
        assert len(notes[clip.id]["shapes"]) == len(scene.shapes)


def test_write_split_replaces_and_repeats(tmp_path):
    contents = []
    for _ in range(2):
        splits.write_split(SHAPES, "val", tmp_path, seed=5, progress=False)
        files = sorted(p for p in (tmp_path / "val").rglob("*") if p.is_file())
        contents.append([(p.name, p.read_bytes()) for p in files])
    assert contents[0] == contents[1]


def test_write_split_leaves_other_folders_alone(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="val: exists, and is not an earlier InterShapes split"):
        splits.write_split(SHAPES, "val", tmp_path, seed=5, progress=False)
    assert (tmp_path / "val" / "mine.txt").read_text() == "precious"


def test_nothing_that_was_put_beside_a_split_goes_with_it(tmp_path):
    """People are told to put their data here, and leave the side file of what was here before."""
    splits.write_splits(SHAPES, tmp_path, seed=5, progress=False)
    mine = tmp_path / "train" / "JPEGImages" / "mine" / "00000.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=f"{mine}: does not come with the InterShapes split"):
        splits.write_splits(SHAPES, tmp_path, seed=6, progress=False)
    mine.unlink()
    mine.parent.rmdir()
    meta = tmp_path / "test" / "meta_expressions.json"
    meta.write_text(before.pop(mine) and meta.read_text().replace(" the ", " teh "))
    with pytest.raises(DataError, match=r"meta_expressions.json: has sha256 \w+, and had \w+"):
        splits.write_splits(SHAPES, tmp_path, seed=6, progress=False)
    meta.write_bytes(before[meta])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before, "not one was made"
    assert splits.write_splits(SHAPES, tmp_path, seed=6, progress=False)
    assert meta.read_bytes() != before[meta]


def test_a_split_of_an_earlier_version_is_somebodys(tmp_path):
    splits.write_split(SHAPES, "val", tmp_path, seed=5, progress=False)
    (tmp_path / "val" / "manifest.json").unlink()
    with pytest.raises(DataError, match="no manifest.json says so; remove it yourself"):
        splits.write_splits(SHAPES, tmp_path, seed=5, progress=False)


def test_write_splits_makes_all_or_none(tmp_path):
    names = list(SHAPES.splits.model_dump())
    assert splits.write_splits(SHAPES, tmp_path / "made", seed=5, progress=False)
    assert all((tmp_path / "made" / name / "intershapes.json").is_file() for name in names)
    assert splits.write_splits(SHAPES, tmp_path / "made", seed=5, progress=False), "its own are made anew"
    own = [tmp_path / "own" / name / "mine.txt" for name in names]
    for path in own[1:]:
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    with pytest.raises(DataError, match=f"is not InterShapes.*no such data for {names[0]}"):
        splits.write_splits(SHAPES, tmp_path / "own", seed=5, progress=False)
    own[0].parent.mkdir()
    own[0].write_text("precious")
    assert not splits.write_splits(SHAPES, tmp_path / "own", seed=5, progress=False)
    assert [path.read_text() for path in own] == ["precious"] * len(names)
    assert not list((tmp_path / "own").rglob("intershapes.json"))
