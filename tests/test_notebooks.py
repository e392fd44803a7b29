"""The notebooks are thin, clean, and take only names. `test_pipeline` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import papermill
import pytest
from ruamel.yaml import YAML
from test_layers import imported

from reviosa_core import config
from reviosa_core.baselines import folders, training
from reviosa_core.training import finetune

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = {"profile", "experiment", "part", "parts"}  # what papermill may inject; numbers come from params.yaml


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_all_are_here():
    *numbered, last = NOTEBOOKS
    assert [path.stem[:2] for path in numbered] == [f"{i:02d}" for i in range(1, len(NOTEBOOKS))]
    assert last.stem == "inspect_attention", "which belongs to no step: it is opened when one likes"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameters_are_names(path: Path):
    found = papermill.inspect_notebook(path)
    assert found.keys() <= NAMES and "profile" in found
    assert found["profile"]["default"] == '"tiny"'


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_thin_and_stripped(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    lines = [line for source in code(path) for line in source.splitlines()]
    assert not [line for line in lines if re.match(r"\s*(def|class) ", line)], "logic belongs in the package"
    assert len(lines) <= 90
    assert any(cell.cell_type == "markdown" and cell.source.startswith("# ") for cell in cells[:1])


def test_every_stage_passes_the_parameters_its_notebook_has(root: Path):
    files = [root / "dvc.yaml", *(root / n / "dvc.yaml" for n in ("seeds", "studies", "annotation", "baselines"))]
    stages = {name: stage for file in files for name, stage in YAML(typ="safe").load(file)["stages"].items()}
    for name, stage in stages.items():
        command = " ".join(stage["cmd"]) if isinstance(stage["cmd"], list) else stage["cmd"]
        notebook = re.search(r"notebooks/(\w+\.ipynb)", command)
        assert notebook, name
        passed = set(re.findall(r"-p (\w+) ", command))
        assert passed == set(papermill.inspect_notebook(root / "notebooks" / notebook[1])), name
        assert f"notebooks/{notebook[1]}" in stage["deps"], f"{name} does not depend on its own notebook"


def test_every_query_system_and_study_has_its_run(root: Path):
    stages = YAML(typ="safe").load(root / "baselines" / "dvc.yaml")["stages"]
    for name in ("systems", "rates", "studies"):
        assert stages[name]["cmd"][0].startswith("seq ${at_once} | xargs -P ${at_once} -I PART "), "as many as shares"
        assert {f"reviosa_core/{part}" for part in training.CODE} < set(stages[name]["deps"]), "what decides a result"
        assert "backbones/${profile}-query" in stages[name]["deps"]
    of = {name: stage["params"][0]["params.yaml"] for name, stage in stages.items()}
    read = {n: {p.rpartition(".")[2] for p in own if ".baselines." in p} for n, own in of.items()}
    schedules = {"encoders", "train", "studies", "rates"}
    assert read["systems"] == set(config.Baselines.model_fields) - schedules | {"train"}
    assert read["studies"] == set(config.Baselines.model_fields) - schedules | {"studies"}
    assert read["rates"] == set(config.Baselines.model_fields) - schedules | {"studies", "rates"}
    assert read["encoders"] < set(config.Baselines.model_fields) - {"train", "studies"}
    outs = [name for entry in stages["systems"]["outs"] for name in entry]
    assert outs == [f"runs/${{profile}}/query/{name}" for name in folders.KINDS]
    assert {*outs, "runs/${profile}/query/studies", "runs/${profile}/query/rates"} < set(stages["comparison"]["deps"])


def test_the_query_encoders_depend_on_the_world_that_they_are_shown(root: Path):
    """A new word or another picture makes them anew, as it makes the clips of the splits."""
    core, names = root / "reviosa_core", ("intershapes.language", "intershapes.pretrain.clips", "intershapes.splits")
    known = {".".join(f.relative_to(core).with_suffix("").parts): f for f in core.rglob("*.py")}
    source = "\n".join(code(root / "notebooks" / "12_encoders.ipynb"))
    read, left = set(), [name for _, name in imported(source, "notebook", set(known))]
    assert {f"reviosa_core.{name}" for name in names} < set(left), "what the notebook asks of it"
    while left:
        name = left.pop().removeprefix("reviosa_core.")
        if name.startswith("intershapes.") and name not in read:
            read.add(name)
            left += [below for _, below in imported(known[name].read_text(), name, set(known))]
    deps = set(YAML(typ="safe").load(root / "baselines" / "dvc.yaml")["stages"]["encoders"]["deps"])
    assert {str(known[name].relative_to(root)) for name in read} <= deps and len(read) == 8
    assert {f"reviosa_core/{part}" for part in training.CODE} - {"reviosa_core/baselines"} < deps


def test_every_row_is_trained_once_and_those_with_aml_after_the_selection(root: Path):
    """Rows are named in shell commands, where nothing else would see a slip."""
    load = YAML(typ="safe").load
    stages, experiments = load(root / "dvc.yaml")["stages"], load(root / "params.yaml")["experiments"]
    for name, aml in (("train", False), ("train_aml", True)):
        command, clean = stages[name]["cmd"]
        rows = re.search(r"printf '%s\\n' ([\w ]+) \| xargs", command)[1].split()
        longest_first = sorted(experiments, key=lambda name: not experiments[name].get("best", False))
        assert rows == [name for name in longest_first if experiments[name]["aml"] is aml]
        assert {p for p in stages[name]["params"] if p.startswith("experiments.")} == {f"experiments.{r}" for r in rows}
        assert ("profiles.${profile}.best" in stages[name]["params"]) is aml
        of_package = {d.removeprefix("reviosa_core/") for d in stages[name]["deps"] if d.startswith("reviosa_core/")}
        assert of_package == set(finetune.CODE), "a change of what runs is a new run, for DVC and for a checkpoint"
        assert stages[name]["outs"] == [f"runs/${{profile}}/{row}" for row in rows]
        assert clean.split() == ["rm", "-rf", *(f"runs/${{profile}}/resume/{row}" for row in rows)]
    others = load(root / "seeds" / "dvc.yaml")["stages"]["seeds"]
    studied = load(root / "studies" / "dvc.yaml")["stages"]["studies"]
    for stage in (others, studied):
        assert {f"reviosa_core/{name}" for name in finetune.CODE} < set(stage["deps"])
    evaluated = stages["evaluate"]["cmd"].split("'%s\\n' ")[1].partition(" |")[0].split()
    assert sorted(evaluated) == sorted(experiments)
    assert f"printf '%s\\n' {' '.join(longest_first)} | xargs" in others["cmd"]
    made = [name for entry in stages["evaluate"]["outs"] if isinstance(entry, dict) for name in entry]
    assert made == [f"${{reports}}/metrics/{row}.json" for row in experiments]
    assert {f"runs/${{profile}}/{row}" for row in experiments} < set(stages["evaluate"]["deps"])


def test_what_one_frame_gives_away_is_made_before_anything_is_compared_with_it(root: Path):
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    name = "${reports}/metrics/blind.json"
    assert {name: {"cache": False}} in stages["dataset"]["outs"]
    assert "blind.json" in (root / "notebooks" / "05_evaluate.ipynb").read_text()
    assert name in stages["evaluate"]["deps"] and name in stages["report"]["deps"]


def test_plots_are_of_what_stages_make_and_of_every_row(root: Path):
    """DVC says nothing of a plot whose file nobody writes: it shows the others."""
    load = YAML(typ="safe").load
    pipeline, experiments = load(root / "dvc.yaml"), load(root / "params.yaml")["experiments"]
    outs = [
        out if isinstance(out, str) else next(iter(out))
        for s in pipeline["stages"].values()
        for out in s.get("outs", ())
    ]
    named = {plot: {} for plot in pipeline["plots"] if isinstance(plot, str)}
    curves = {name: about for plot in pipeline["plots"] if isinstance(plot, dict) for name, about in plot.items()}
    files = [*named, *(file for about in curves.values() for file in about["y"])]
    assert not [file for file in files if not any(file == out or file.startswith(f"{out}/") for out in outs)]
    for name in ("training loss", "mask loss"):
        assert list(curves[name]["y"]) == [f"runs/${{profile}}/{row}/history.csv" for row in experiments]
    metrics = [entry for stage in pipeline["stages"].values() for entry in stage.get("metrics", [])]
    assert [*metrics] == [{"${reports}/metrics/summary.json": {"cache": False}}], "a table that can be read"


@pytest.mark.parametrize("stem", ["01_dataset", "04_layer_head_selection", "06_ablations", "07_transfer", "08_report"])
def test_a_run_says_of_which_profile_it_is(root: Path, stem: str):
    source = "\n".join(code(root / "notebooks" / f"{stem}.ipynb"))
    assert '{"profile": profile}' in source and "tags=" in source


def test_what_is_scored_is_named_and_texts_hold_for_every_profile(root: Path):
    scored = "\n".join(code(root / "notebooks" / "07_transfer.ipynb"))
    assert '"model": project.run("best"), "model baseline": project.run("baseline")' in scored
    for stem in ("06_ablations", "07_transfer"):
        cells = nbformat.read(root / "notebooks" / f"{stem}.ipynb", as_version=4).cells
        text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert not re.search(r"million|model of\s+this size", text), "sizes are a profile's own"
    assert "first `selection.clips` clips" in " ".join(
        cell.source for cell in nbformat.read(root / "notebooks" / "06_ablations.ipynb", as_version=4).cells
    )
