"""The query systems' page: who stands where, and what is not known."""

from __future__ import annotations

from pathlib import Path

from reviosa_core import config
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
    assert "–" in baselines.study({"as published": summary(1, None, 2)}, published["SOC"])


def test_a_rate_is_a_column():
    tried = {"SOC": {"0.001": summary(1, None, 20), "0.002": summary(1, None, 30)}}
    head, _, row = (line.split("|") for line in baselines.rates(tried).splitlines())
    assert [cell.strip() for cell in head[2:4]] == ["0.001", "0.002"]
    assert [cell.strip() for cell in row[1:4]] == ["SOC", "20.0 [19.0, 21.0]", "30.0 [29.0, 31.0]"]


def test_minutes_that_are_not_known_are_a_dash():
    table = baselines.cost({"full": {"parameters": 1234567, "fps": 12.34, "memory": 800.4}})
    assert "1,234,567" in table and "12.3" in table and "| –" in table and "800" in table
