from __future__ import annotations

import posixpath
import re

import pytest

from reviosa_core.report import naming

NAMES = [
    "/data/mine", "data/mine", "../mine", "./data/mine", "data//mine", "data/mine/", "data/a/../mine", "~/mine",
    "data/my clips (v2)", "data/my clips [v2]", "data/my clips _v2_", "data/a+b", "data/a_b", "data/run#3",
    "data/run&3", "data/r&n", "data/run3", "..", ".", "", "/", "x" * 300, "x" * 301, "J&F", "JF", "Größe",
    "a\nb", "a\tb", "100 %", "a:b", "\udcff", ".. a", "..a", ".a",
]  # fmt: skip


def test_every_name_is_made_legal_and_none_becomes_another():
    made = [naming.legal_name(name) for name in NAMES]
    for name in made:
        assert re.fullmatch(r"[/\w.\- :]+", name) and len(name) <= 250
        assert posixpath.normpath(name) == name and not name.startswith(("..", "/"))
    assert len(set(made)) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("InterShapes shift full RVOS J&F", "InterShapes shift full RVOS JF"),
        ("both above 0.5", "both above 0.5"),
        ("data/mine full RVOS J&F", "data/mine full RVOS JF"),
        ("/data/my clips (v2) full J&F", "data/my clips _v2_ full JF [0-9a-f]{6}"),
        ("../a+b full J&F", "__/a_b full JF [0-9a-f]{6}"),
    ],
)
def test_a_name_can_still_be_read(name: str, legal: str):
    assert re.fullmatch(legal, naming.legal_name(name))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:geheim@host:5000/a?b=c", "http://***@host:5000/a?b=***"),
        ("http://geheim@host", "http://***@host"),
        ("postgresql://host/runs?user=me&password=geheim", "postgresql://host/runs?user=***&password=***"),
        ("http://me:ge@heim@host", "http://***@host"),
        ("http://me:geheim@[host", "http:***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_no_password_is_shown(address: str, shown: str):
    assert naming.without_password(address) == shown


def test_a_text_that_fits_is_left_alone():
    assert naming.fitting("abc", 100) == "abc" and naming.fitting("a" * 100, 100) == "a" * 100
    cut, other = naming.fitting("a" * 101, 100), naming.fitting("a" * 102, 100)
    assert len(cut) == len(other) == 100 and cut != other
    assert re.fullmatch(r"a+\.\.\. 101 characters, md5 [0-9a-f]{32}", cut)
