"""The query systems' page: who stands where, and what is not known."""

from __future__ import annotations

from pathlib import Path

import queries
import torch

from reviosa_core import config
from reviosa_core.baselines import folders, losses
from reviosa_core.bounds import changed
from reviosa_core.data.jsonfile import read_json
from reviosa_core.report import baselines


def summary(actor: float, target: float | None, rvos: float) -> dict:
    def line(number: float) -> dict:
        value = float(number)
        return {"J": value, "F": value, "J&F": value, "n": 7, "interval": [value - 1, value + 1]}

    named = {"InterRVOS-Actor": line(actor), "RVOS": line(rvos)}
    return named | {"InterRVOS-Target": None if target is None else line(target)}


def test_systems_of_one_role_have_no_target_and_the_papers_numbers_stand_below(root: Path):
    published = config.read_yaml(root / "reports" / "published.yaml")
    scores = {"SOC": summary(30, None, 40), "full": summary(70, 71, 72)}
    seeds = {"SOC": [summary(30, None, 38), summary(30, None, 42)], "full": [summary(70, 71, 72)]}
    lines = [
        [cell.strip() for cell in line.split("|")]
        for line in baselines.comparison(scores, seeds, published).splitlines()
    ]
    rows = {line[1]: line[2:-1] for line in lines}
    assert rows["ours: SOC"] == ["30.0 [29.0, 31.0]", "–", "40.0 [39.0, 41.0]", "2 (38.0–42.0)"]
    assert rows["ours: (iv) ReVIOSa"][1] == "71.0 [70.0, 72.0]"
    assert rows["paper: ReferFormer"] == ["59.5", "–", "52.6", ""]
    assert "paper: VISA-7B" not in rows


def test_a_study_stands_beside_the_papers_row_of_that_name(root: Path):
    published = config.read_yaml(root / "reports" / "published.yaml")
    found = {name: summary(1, None, 2) for name in ("+ IFI", "dynamic text", "+ IFI + VLI, fixed text", "one frame")}
    table = baselines.study(found, published["IFIRVOS"])
    paper = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in table.splitlines()[2:]}
    assert paper == {"+ IFI": "58.8", "dynamic text": "58.0", "+ IFI + VLI, fixed text": "59.9", "one frame": "–"}
    assert "–" in baselines.study({"sizes of the profile": summary(1, None, 2)}, published["SOC"])


def test_where_ifirvos_modules_start_and_in_which_order_they_help_is_said(root: Path):
    published = config.read_yaml(root / "reports" / "published.yaml")["IFIRVOS"]
    tried = {"ReferFormer": {"0.001": summary(1, None, 44)}}

    def said(ifi: float, vli: float, tried: dict) -> str:
        scores = {"baseline": 37, "+ IFI": ifi, "+ VLI": vli, "+ IFI + VLI, fixed text": 50}
        rows = {name: summary(1, None, value) for name, value in scores.items()}
        return baselines.modules(rows, published, tried, queries.GIVEN)

    assert "*baseline* (37.0) is ReferFormer with IFIRVOS's weights of the loss; with its own it has 44.0" in (
        own := said(38, 40, tried)
    )
    assert "IFI adds +1.0 and VLI +3.0; in the paper +3.7 and +2.0, the reverse order. By score, 2 of the 3" in own
    other = said(44, 41, {"ReferFormer": {"0.002": summary(1, None, 44)}})
    assert "of the loss. It and" in other and "+2.0, the same order. By score, 0 of the 3 pairs" in other


def test_a_rate_is_a_column():
    tried = {"SOC": {"0.001": summary(1, None, 20), "0.002": summary(1, None, 30)}}
    head, _, row = (line.split("|") for line in baselines.rates(tried).splitlines())
    assert [cell.strip() for cell in head[2:4]] == ["0.001", "0.002"]
    assert [cell.strip() for cell in row[1:4]] == ["SOC", "20.0 [19.0, 21.0]", "30.0 [29.0, 31.0]"]


def test_what_is_not_as_in_the_papers_is_said_with_both_numbers():
    given = changed(queries.GIVEN, queries=1, train=changed(queries.GIVEN.train, frames="contiguous"))
    said = baselines.scaled(folders.described(given, 64, 20), given, 8)
    for part in (
        "1 query (5, 5, 20), so that none is matched or chosen and SOC's contrastive loss is always 0",
        "training on 2 neighbouring frames (5, 6, 8) of a clip's 8",
        "2 encoder layers (4, 4, 3) and 2 decoder layers (4, 4, 3)",
        "1 cluster layer (3) and 1 video layer (3)",
        "8 heads (8) and 4 points (4) where each looks",
        "64 channels (256), 96 channels (2048) in feed-forward layers, 8 channels (256, 256, 8) of mask features",
        "the encoders' rate 0.3 of the others' (0.5, 0.2, 0.1)",
        "no dropout and no augmentation",
        "a text encoder that is trained (frozen)",
    ):
        assert part in said
    assert all(ours["backbone"]["temporal"] for _, ours in folders.described(given, 64, 20).values())
    assert "in which a frame sees its two neighbours, in all systems and studies (IFIRVOS's, ResNet-50, sees" in said
    several = baselines.scaled(folders.described(queries.GIVEN, 64, 20), queries.GIVEN, 8)
    assert "3 queries (5, 5, 20); training on 2 frames (5, 6, 8)" in several and "matched" not in several


def test_one_query_is_neither_chosen_nor_told_apart():
    """As the page says: SOC's loss between video queries is 0 with one of them, whatever it says."""
    loss = losses.contrastive(torch.randn(2, 1, 4), torch.randn(2, 4), torch.zeros(2, 1, dtype=torch.long))
    assert not loss.any()


def test_who_would_take_another_rate_is_said():
    tried = {
        "IFIRVOS": {"0.001": summary(1, None, 50), "0.002": summary(1, None, 20)},
        "SOC": {"0.001": summary(1, None, 20), "0.002": summary(1, None, 30)},
    }

    def at(lr: float) -> str:
        return baselines.rate(tried, changed(queries.GIVEN, train=changed(queries.GIVEN.train, lr=lr)))

    assert at(0.001) == (
        "at one rate, 0.001, the one that is best on `dev` for all in the mean; SOC alone would take 0.002, with 30.0 "
        "instead of 20.0"
    )
    assert at(0.002).startswith("at one rate, 0.002, which is not the one (0.001) that is best")
    assert "IFIRVOS alone would take 0.001, with 50.0 instead of 20.0" in at(0.002)
    assert at(0.004) == "at one rate, 0.004, which is none of these"


def test_the_committed_page_is_what_its_numbers_give(root: Path):
    project = config.project("tiny")
    held = read_json(project.report("metrics", "baselines.json"))
    parts = [held[name] for name in ("scores", "seeds", "kinds", "asked", "costs", "studies", "rates")]
    published, given = config.read_yaml(root / "reports" / "published.yaml"), project.baselines
    page = baselines.page(
        "tiny", *parts, published, folders.described(given, 64, 20), given, project.settings.data.frames
    )
    assert project.report("baselines.md").read_text() == page
    for name, own in held["costs"].items():
        rows = project.params.experiments
        rules = project.settings.rules(rows[name]) if name in rows else given.train
        assert own["shown"] == [rules.steps, rules.accumulate * rules.clips, rules.expressions], name


def test_minutes_that_are_not_known_are_a_dash():
    table = baselines.cost({"full": {"parameters": 1234567, "fps": 12.34, "memory": 800.4, "shown": (30, 2, 5)}})
    assert "30 x 2 x 5 = 300" in table
    assert "1,234,567" in table and "12.3" in table and "| –" in table and "800" in table
