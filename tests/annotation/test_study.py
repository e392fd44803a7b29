"""Errors on order: as many as were ordered, and what is counted of what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import SETTINGS

from reviosa_core.annotation import sources, study, truth
from reviosa_core.annotation.answers import Answers, Errors
from reviosa_core.bounds import changed
from reviosa_core.report import annotating
from reviosa_core.sizes import Study


def test_flips_are_an_exact_share_and_more_of_them_hold_fewer(world: Path):
    clips, truths = [s.clip for s in sources.read(world)], truth.of_intershapes(world)
    directed = sum(e.passive is not None for t in truths.values() for e in t.events)
    assert directed > 3
    few, many = (Answers(clips, truths, Errors(role=r)).flipped for r in (0.25, 0.5))
    assert (len(few), len(many)) == (round(0.25 * directed), round(0.5 * directed)) and few < many
    assert any(Answers(clips, truths, Errors(role=0.5, seed=s)).flipped != many for s in range(1, 9))
    assert all(truths[clip].events[k].passive for clip, k in many)


def test_what_flips_cost_with_a_verifier_and_without(world: Path, tmp_path: Path):
    found, truths = sources.read(world), truth.of_intershapes(world)
    directed = sum(e.passive is not None for t in truths.values() for e in t.events)
    flips = 2 / directed
    settings = changed(SETTINGS, study=Study(flips=(0.0, flips), wrong=(0.0,)))
    rows = study.run(found, truths, tmp_path, settings, progress=False)
    assert len(rows) == 2 * 2 * len(truths) and rows["wrong"].isna().sum() == 2 * len(truths)
    total = {
        (row.flips > 0, row.wrong == row.wrong): row
        for row in rows.groupby(["flips", "wrong"], dropna=False).sum(numeric_only=True).reset_index().itertuples()
    }
    there = total[False, True].there
    for verifier in (True, False):
        clean, flipped = total[False, verifier], total[True, verifier]
        assert clean.events == clean.right == clean.roles == there and clean.texts == clean.true
        assert flipped.there == there
    without, verified = total[True, False], total[True, True]
    assert (without.events, without.right, without.roles) == (there, there, there - 2)
    assert (verified.events, verified.right, verified.roles) == (there - 2, there - 2, there - 2)
    assert without.texts > without.true and verified.texts == verified.true == without.true
    shares = annotating.shares(rows, 50, 0)
    assert [(s["flips"] > 0, s["wrong"]) for s in shares] == [(False, 0), (False, None), (True, 0), (True, None)]
    worst = shares[3]["with roles: precision"]
    assert worst["value"] == pytest.approx(100 * (there - 2) / there) and worst["interval"][0] < worst["value"]
    assert "none" in annotating.table(shares) and len(annotating.figure(shares).axes) == 3


def test_what_it_took_is_known_afterwards(annotate):
    ran = annotate(broken=0.3)
    table, used = study.took(ran.out), ran.summary["asked in this run"]
    for stage, row in table.iterrows():
        one = used[stage]
        assert (row["calls"], row["images"]) == (one["calls"], one["images"])
        assert (row["tokens in"], row["tokens out"]) == (one["tokens_in"], one["tokens_out"])
    again = annotate(out=ran.out, broken=0.3)
    assert not again.server.requests and study.took(ran.out).equals(table)
