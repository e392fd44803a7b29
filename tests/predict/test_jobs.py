"""What is asked for: options and manifests to jobs, each with a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reviosa_core.predict import batch, jobs
from reviosa_core.predict.jobs import Job
from reviosa_core.schema import DataError


def test_a_manifest_as_csv_and_as_json_lines_is_the_same(tmp_path: Path):
    (tmp_path / "jobs.csv").write_text(
        'id,video,text,start,end,fps\nfirst,a.mp4,"the dog, barking",,2.5,\n,b/c,a cat,1,,10\n'
    )
    lines = [
        {"id": "first", "video": "a.mp4", "text": "the dog, barking", "end": 2.5},
        {"video": "b/c", "text": "a cat", "start": 1, "fps": 10, "id": None},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = jobs.of_manifest(tmp_path / "jobs.csv", tmp_path / "out")
    assert found == jobs.of_manifest(tmp_path / "jobs.jsonl", tmp_path / "out") == [
        Job(tmp_path / "a.mp4", "the dog, barking", tmp_path / "out" / "first", None, None, 2.5),
        Job(tmp_path / "b" / "c", "a cat", tmp_path / "out" / "c--a-cat", 10.0, 1.0, None),
    ]  # fmt: skip
    assert [job.id for job in found] == ["first", "c--a-cat"]


def test_jobs_about_the_same_part_of_a_video_are_one_group(tmp_path: Path):
    (tmp_path / "a").mkdir()
    given = [
        ("a", None), ("b", None), ("./a", None), ("a", 1.0),
    ]  # fmt: skip
    made = [Job(tmp_path / v, f"t{i}", tmp_path / str(i), start=start) for i, (v, start) in enumerate(given)]
    assert [[job.id for job in group] for group in jobs.by_part(made)] == [["0", "2"], ["1"], ["3"]]


def test_a_sentence_twice_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="--text 'a dog' is there twice"):
        jobs.of_texts(tmp_path, ["a dog", "a cat", "a dog"], tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"start": -1.0}, "start is -1; a number of 0 or more"),
        ({"end": float("nan")}, "end is nan"),
        ({"start": 2.0, "end": 2.0}, "end is 2 s, which is not after start, 2 s"),
        ({"fps": 0.01}, "fps is 0.01; 0.1 to 1000"),
    ],
)
def test_numbers_that_mean_nothing(tmp_path: Path, more: dict[str, float], message: str):
    with pytest.raises(DataError, match=message):
        Job(tmp_path, "a dog", tmp_path, **more)


def test_what_is_written_for_a_link_is_called_as_the_link(tmp_path: Path):
    """As git-annex and DVC leave it: the file's own name is a hash."""
    (tmp_path / "run.mp4").symlink_to(tmp_path / "5d41402abc.mp4")
    assert jobs.name_of(tmp_path / "run.mp4", "a dog") == "run.mp4--a-dog"


def test_names_fit_into_a_file_systems_bytes(tmp_path: Path):
    video, text = tmp_path / f"{'家' * 60}.mp4", "追" * 64
    first, second = (jobs.name_of(video, said) for said in (text, text + "了"))
    assert first != second and first.startswith("家家") and max(len(n.encode()) for n in (first, second)) <= 200
    assert jobs.name_of(Path("a.mp4"), "a dog") == "a.mp4--a-dog"
    assert jobs.name_of(Path("clips/../a.mp4"), "a dog") == "a.mp4--a-dog"
    (tmp_path / "jobs.csv").write_text(f"video,text,id\na.mp4,a dog,{'家' * 41}\n")
    with pytest.raises(DataError, match="at most 120 bytes"):
        jobs.of_manifest(tmp_path / "jobs.csv", tmp_path)


def test_a_folders_rate_decides_which_part_is_meant(tmp_path):
    """Frames do not say how fast they play: 12 a second, or as asked."""
    for i in range(15):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{i:02d}.png")
    fast, usual = (jobs.Job(tmp_path, "a dog", tmp_path / "out", fps, 0.1, 0.3) for fps in (30.0, None))
    assert batch.opened(fast).names == tuple(f"{i:02d}" for i in range(3, 9))
    assert batch.opened(usual).names == ("02", "03")
    assert len(jobs.by_part([fast, usual])) == 2, "not the same frames"
