"""`dvc repro` on a clean copy, at the smoke profile: whole, repeatable, and no more than a change asks for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import warm
from checkout import copied
from mlflow import MlflowClient
from ruamel.yaml import YAML

from reviosa_core import config
from reviosa_core.data import interrvos
from reviosa_core.model import segmenter
from reviosa_core.scoring import selection
from reviosa_core.weights import checkpoint
from reviosa_core.weights.design import design_of

pytestmark = pytest.mark.slow


def dvc(folder: Path, *arguments: str, **about: Any) -> str:
    return called(folder, "dvc", *arguments, **about)


def called(folder: Path, *command: str, tools: Path | None = None, fails: bool = False) -> str:
    """Its output. `tools` are found first; `fails` says that it should not succeed, and adds what went wrong."""
    path = os.pathsep.join([*([str(tools)] if tools else ()), os.environ["PATH"]])
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
    env = clean | {"PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if re.match(r"(\S*(Error|Exception|Killed)\b|ERROR)", line)]
    assert (done.returncode != 0) is fails, "\n".join([" ".join(command), *errors[:20], done.stderr[-1500:]])
    return done.stdout + done.stderr * fails


def results(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted((folder / "reports" / "metrics").glob("*.json"))}


def trained(folder: Path) -> Counter[str]:
    """How often each run made a step."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "metrics.loss > 0")
    return Counter(run.info.run_name for run in runs)


@pytest.fixture(scope="module")
def copy(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clean copy of the project (what git tracks, and new files it would), switched to the smoke profile and run, as
    anybody runs it. What the tests then run in it starts from a forge."""
    folder = tmp_path_factory.mktemp("copy")
    outs = ("reports/", "backbones/")  # by the stages that run here
    copied(root, folder, lambda name: not name.startswith(outs) or name == "reports/published.yaml")
    params = folder / "params.yaml"
    text = re.sub(r"(?m)^profile: \w+", "profile: smoke", params.read_text())
    text = text.replace("sentences: 1600", "sentences: 3")  # there are two clips to train on
    text = text.replace("read37: {reading: 0.375}", "read37: {reading: 0.375, seed: 1}")
    params.write_text(text.replace("\nseeds: [1, 2] ", "\nseeds: [1] "))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the forge's processes, too
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        dvc(folder, "repro")
        with warm.forge(tmp_path_factory.mktemp("forge")) as env:
            for name, value in env.items():
                patch.setenv(name, value)
            yield folder


def test_every_result_is_there(copy: Path):
    found = results(copy)
    for experiment in ("baseline", "aml", "tokens", "full", "best"):
        for setting in ("InterRVOS-Actor", "RVOS"):
            assert {"J", "F", "J&F", "n"} <= found[f"{experiment}.json"][setting].keys()
    assert found["full.json"]["InterRVOS-Target"]["n"] > 0
    assert found["baseline.json"]["InterRVOS-Target"] is None, "a system without the target role has no target score"
    report = (copy / "reports" / "README.md").read_text()
    linked = re.findall(r"\]\((figures/[^)]+)\)", report)
    assert len(linked) >= 6
    card = (copy / "reports" / "intershapes.md").read_text()
    linked += re.findall(r"\]\((figures/[^)]+)\)", card)
    assert "first mover = actor" in card and "### " in card
    assert all((copy / "reports" / name).stat().st_size < 200_000 for name in linked)
    assert "62.0" in report, "the paper's number stands beside ours"
    transferred = found["transfer.json"]["InterShapes shift"]
    assert transferred["best"]["direction"]["detection recall"]["n"] > 0
    assert transferred["best"]["direction"]["detection recall by token"]["n"] > 0, "a system says what it wrote"
    assert transferred["baseline"]["direction"]["detection recall"] is None
    assert "targets drawn" in report and "targets written" in report
    assert (copy / "mlflow.db").exists()


def test_nothing_runs_twice(copy: Path):
    cache = copy / "reviosa_core" / "model" / "__pycache__"  # Python leaves it anywhere; pytest, more of it
    cache.mkdir(exist_ok=True)
    (cache / "reviosa.other.pyc").write_bytes(b"compiled")
    assert "Running stage" not in dvc(copy, "repro")


def test_a_changed_parameter_reruns_what_depends_on_it(copy: Path):
    params = copy / "params.yaml"
    before = params.read_text()
    try:
        smoke = before.index("  smoke:")
        params.write_text(before[:smoke] + before[smoke:].replace("bootstrap: 50", "bootstrap: 51"))
        planned = set(re.findall(r"Running stage '([^']+)'", dvc(copy, "repro", "--dry")))
    finally:
        params.write_text(before)
    assert {"evaluate", "transfer"} <= planned
    assert "dataset" in planned, "its card has intervals"
    assert not planned & {"pretrain", "train", "selection", "train_aml"}
    # Another profile's parameters are nobody's business.
    try:
        params.write_text(before.replace("bootstrap: 1000", "bootstrap: 1001"))
        assert "Running stage" not in dvc(copy, "repro", "--dry")
    finally:
        params.write_text(before)


def looks(model: selection.Attentive, project: config.Project) -> np.ndarray:
    clips = interrvos.read(project.data("val"))[: project.settings.selection.clips]
    return selection.to_vision(selection.measure_attention(model, clips))


def untrained(project: config.Project, seed: int) -> selection.Attentive:
    """What row (iii) starts from."""
    row, settings = project.params.experiments["tokens"], project.settings
    return checkpoint.from_backbones(project.start, settings.model, row, seed=seed, aml=None, settings=settings.train)


def test_a_stuck_model_is_not_asked_where_aml_goes(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three steps leave no plateau, so stage 04 asks what row (iii) started from; a model that left is asked itself."""
    monkeypatch.chdir(copy)
    project = config.project()
    before, after = looks(untrained(project, 0), project), looks(checkpoint.load(project.run("tokens")), project)
    assert abs(before - after).max() > 1e-4
    asked = selection.to_vision(pd.read_csv(project.run("selection.csv")))
    np.testing.assert_allclose(asked, before, atol=1e-5)

    other = tmp_path / "other"
    shutil.copytree(copy, other, symlinks=True)
    falls = pd.DataFrame({"step": range(1, 10), "dice": [0.9] * 5 + [0.1] * 4})
    falls.to_csv(other / "runs" / "smoke" / "tokens" / "history.csv", index=False)
    dvc(other, "repro", "--single-item", "selection")
    asked = selection.to_vision(pd.read_csv(other / "runs" / "smoke" / "selection.csv"))
    np.testing.assert_allclose(asked, after, atol=1e-5)


def test_other_seeds(copy: Path, monkeypatch: pytest.MonkeyPatch):
    dvc(copy, "repro", "seeds/dvc.yaml")
    found = json.loads((copy / "reports" / "metrics" / "seeds.json").read_text())
    assert found["seeds"] == [0, 1] and {e: len(runs) for e, runs in found["levels"].items()} == dict.fromkeys(
        ("baseline", "aml", "tokens", "full", "best"), 2
    )
    assert found["levels"]["full"][0]["RVOS"]["J&F"] == pytest.approx(results(copy)["full.json"]["RVOS"]["J&F"])
    assert "Mean of 2 seeds" in (copy / "reports" / "tables" / "seeds.md").read_text()
    monkeypatch.chdir(copy)
    asked = selection.to_vision(pd.read_csv(copy / "runs" / "smoke" / "seeds" / "1" / "selection.csv"))
    np.testing.assert_allclose(asked, looks(untrained(config.project(), 1), config.project()), atol=1e-5)
    assert "Running stage" not in dvc(copy, "repro", "seeds/dvc.yaml")


def test_studies(copy: Path):
    """Every layer of the smoke model gets AML once under each rule; nothing is scored on the test split."""
    dvc(copy, "repro", "studies/dvc.yaml")
    found = json.loads((copy / "reports" / "metrics" / "studies.json").read_text())
    assert [name for name in found["layers"] if "layer" in name] == [
        f"full-{rule}-layer{n}-seed0" for rule in ("one", "tuned") for n in range(3)
    ]
    assert found["rates"].keys() > found["what AML adds"]["rates"].keys() > {"aml-one-seed0", "full-slow-seed0"}
    adds = {name for gains in found["what AML adds"].values() for name in gains}
    del found["what AML adds"]
    runs = {name: run for study in found.values() for name, run in study.items()}
    dev = interrvos.read(copy / "data" / "smoke" / "dev")
    assert {run["RVOS"]["n"] for run in runs.values()} == {sum(len(clip.expressions) for clip in dev)}
    layer = json.loads((copy / "reports" / "selection.json").read_text())["layer"]
    assert not [*(copy / "runs" / "smoke" / "studies").glob(f"full-*-layer{layer}-*")], "that is the row's own run"
    page = (copy / "reports" / "tables" / "studies.md").read_text()
    twice = {name for name in adds if f"layer{layer}" in name}  # the row's own run, under another name
    assert len(twice) == 2 and f"Of {len(adds - twice)} comparisons" in page
    (own,) = re.findall(r"(?m)^\| own .*", page)
    assert f"| {runs['full-one-seed0']['RVOS']['J&F']:.1f} [" in own, "of the profile's seed, which is not the only one"
    assert all(
        said in page
        for said in ("on sentences of each kind", "by the size of the object", "Before fine-tuning", "Mean of 3 seeds")
    )
    assert all((copy / "reports" / "tables" / figure).is_file() for figure in re.findall(r"\]\((.*?)\)", page))
    others = copy / "backbones" / "smoke-studies"
    read12, read37 = ((others / name / "internvl" / "model.safetensors").read_bytes() for name in ("read12", "read37"))
    assert read12 != read37, "one step each, of another seed"
    assert "Running stage" not in dvc(copy, "repro", "studies/dvc.yaml")


def test_query_systems_are_trained_and_compared(copy: Path):
    """All of `make baselines`: three systems, their studies, everybody on one page, and nothing twice."""
    dvc(copy, "repro", "baselines/dvc.yaml")
    found = results(copy)["baselines.json"]
    systems = {"ReferFormer", "IFIRVOS", "SOC"}
    assert found["scores"].keys() == systems | {"baseline", "best"}
    assert all(len(found["seeds"][name]) == 2 for name in systems)
    assert found["scores"]["SOC"]["InterRVOS-Target"] is None, "one role"
    for name in systems:
        asked = found["asked"][name]["the object being ... by"]["InterRVOS-Target"]
        assert asked["n"] == found["scores"]["best"]["InterRVOS-Target"]["n"] > 0
    for own in found["costs"].values():
        assert own["parameters"] > 1000 and own["fps"] > 0 and own["memory"] > 100
    assert found["studies"].keys() == {"IFIRVOS", "SOC"}
    page = (copy / "reports" / "baselines.md").read_text()
    assert "paper: ReferFormer" in page and "59.5" in page and "59.9" in page, "the papers' numbers stand beside ours"
    assert "Running stage" not in dvc(copy, "repro", "baselines/dvc.yaml")


def test_annotation(copy: Path):
    dvc(copy, "repro", "annotation/dvc.yaml")
    found = json.loads((copy / "reports" / "metrics" / "annotation.json").read_text())
    assert found["clips"] == 4 and found["per clip"]["calls"] > 5
    best = [s for s in found["shares"] if not s["flips"]]
    assert [s["wrong"] for s in best] == [0, 0.1, None] and best[0]["with roles: precision"]["value"] == 100
    assert (copy / "reports" / "figures" / "annotation.png").stat().st_size < 200_000
    client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "reviosa"]
    (run,) = client.search_runs([experiment], "tags.mlflow.runName = '11_annotation'")
    traces = client.search_traces([experiment], max_results=500)
    assert {t.data.spans[0].name for t in traces} == {"objects", "expressions", "events", "interactions", "verify"}
    assert {t.info.request_metadata["mlflow.sourceRun"] for t in traces} == {run.info.run_id}
    assert "Running stage" not in dvc(copy, "repro", "annotation/dvc.yaml")


def test_the_same_seed_gives_the_same_numbers(copy: Path):
    before, so_far = results(copy), trained(copy)
    dvc(copy, "repro", "--force")
    assert results(copy) == before
    stages = {"02_pretrain": ("internvl", "sam2"), "03_train": ("baseline", "aml", "tokens", "full", "best")}
    assert trained(copy) - so_far == {f"{stage} {name}": 1 for stage, names in stages.items() for name in names}


def test_your_own_files_beside_generated_ones_are_an_error(copy: Path):
    """The side file of what was generated says nothing about what was put beside it."""
    folder = copy / "data" / "smoke" / "train"
    mine = folder / "JPEGImages" / "mine" / "00000.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")
    before = contents(folder)
    assert "mine/00000.jpg: does not come with the InterShapes split" in dvc(copy, "repro", "dataset", fails=True)
    assert contents(folder) == before
    shutil.rmtree(mine.parent)
    ran = re.findall(r"Running stage '([^']+)'", dvc(copy, "repro"))
    assert ran == ["dataset"], "which DVC had cleared the card of; the data are as they were"
    assert contents(folder) == {name: content for name, content in before.items() if "mine" not in name}


@pytest.mark.parametrize(
    ("stage", "dead", "done", "left"),
    [
        ("pretrain", "part internvl", "part sam2", "backbones/smoke/sam2.safetensors"),
        ("train", "experiment tokens", "experiment baseline", "runs/smoke/baseline/model.safetensors"),
    ],
)
def test_what_was_interrupted_goes_on(copy: Path, tmp_path: Path, stage: str, dead: str, done: str, left: str):
    """Two things are made side by side: when one dies, the other, finished, is not made again."""
    papermill, real = tmp_path / "papermill", shutil.which("papermill")
    papermill.write_text(f'#!/bin/sh\ncase "$*" in *"-p {dead}"*) exit 1; esac\nexec {real} "$@"\n')
    papermill.chmod(0o755)
    run = {name: f"{'02' if stage == 'pretrain' else '03'}_{stage} {name.split()[1]}" for name in (dead, done)}
    before, first = (copy / left).read_bytes(), trained(copy)
    dvc(copy, "repro", "--force", "-s", stage, tools=tmp_path, fails=True)
    second = trained(copy)
    assert second - first == {run[done]: 1}
    dvc(copy, "repro", "--force", "-s", stage)  # otherwise DVC finds the result in its cache
    assert trained(copy) - second == {run[dead]: 1}
    assert (copy / left).read_bytes() == before
    kept = (copy / "runs" / "smoke").rglob("checkpoint.pt")
    assert all({"seeds", "studies"} & {*path.parts} for path in kept), "which serve when one more is asked for"


def test_rows_that_are_trained_alike_share_one_training(copy: Path):
    """As `full` and `best` in the paper's profiles, where a training takes hours."""
    params, runs, so_far = copy / "params.yaml", copy / "runs" / "smoke", trained(copy)
    before = params.read_text()
    params.write_text(before.replace("    best: {steps: 4}\n", "    best: {}\n"))
    try:
        for row in ("best", "full"):
            about = ("--engine", "reviosa", "-k", "python3", "-p", "profile", "smoke", "-p", "experiment", row)
            called(
                copy, "papermill", *about, "notebooks/03_train.ipynb", str(runs / "notebooks" / f"again@{row}.ipynb")
            )
    finally:
        params.write_text(before)
    assert trained(copy) - so_far == {"03_train best": 1}
    best, full = (checkpoint.load(runs / row).state_dict() for row in ("best", "full"))
    assert all(torch.equal(value, full[name]) for name, value in best.items())
    shutil.rmtree(runs / "resume")


def test_your_own_data_is_left_alone_and_trained_on(copy: Path):
    """As somebody brings it: in the format's files, without what InterShapes notes beside them."""
    data, model = copy / "data" / "smoke", copy / "runs" / "smoke" / "full" / "model.safetensors"
    for notes in data.glob("*/intershapes.json"):
        notes.unlink()
    meta = data / "train" / "meta_expressions.json"
    meta.write_text(meta.read_text().replace(" the ", " that "))
    before, trained_before = contents(data), model.read_bytes()
    assert len(before) > 4
    dvc(copy, "repro")
    assert contents(data) == before and model.read_bytes() != trained_before
    assert (copy / "reports" / "intershapes.md").read_text().startswith("# The data")
    report = (copy / "reports" / "README.md").read_text()
    assert not re.search(
        "Does it read|By diagnostic subset|n = 0; chance|procedural clips \\(InterShapes\\)|shift` has", report
    )
    assert "the 8 clips of `data/smoke`/train" in report and "| data/smoke/shift " in report
    assert "Running stage" not in dvc(copy, "repro")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_profile_that_starts_from_released_files_trains(copy: Path):
    """What paper-1b does, at the smallest sizes: nothing is pretrained, the named files are noted and fine-tuned."""
    made.write_internvl(copy / "weights" / "InternVL")
    torch.save({"model": segmenter.build(tiny.SIZES.segmenter).state_dict()}, copy / "weights" / "sam2.pt")
    (copy / "weights" / "sam2.yaml").write_text(json.dumps({"model": made.SAM2.model_dump(mode="json")}))
    yaml = YAML()
    params = yaml.load(copy / "params.yaml")
    smoke = params["profiles"]["smoke"]
    smoke["pretrain"] = {
        "internvl": "weights/InternVL",
        "sam2": "weights/sam2.pt",
        "sam2_yaml": "weights/sam2.yaml",
        "template": "phi3_chat",
        "license": "mit",
    }
    smoke["model"] = made.sizes().model_dump(mode="json")
    yaml.dump(params, copy / "params.yaml")
    dvc(copy, "repro", "train")
    internvl, sam = (json.loads((copy / "backbones" / "smoke" / f"{p}.json").read_text()) for p in ("internvl", "sam2"))
    assert internvl["named"]["template"] == "phi3_chat"
    assert sam["kind"] == "sam2" and sam["named"]["sam2"] == "weights/sam2.pt" and len(sam["md5"]) == 32
    assert (copy / "weights" / "InternVL" / "model.safetensors").is_file(), "what was named is left alone"
    model = checkpoint.load(copy / "runs" / "smoke" / "tokens")
    assert model.mllm.template.name == "phi3_chat" and design_of(model).lora == made.sizes().mllm.lora
    card = (copy / "runs" / "smoke" / "tokens" / "README.md").read_text()
    assert "license: mit" in card and "- InternVL\n" in card and "run id: " in card
