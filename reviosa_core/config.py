"""Typed parameters. The only reader of params.yaml: an unknown or missing key, and a number that breaks a rule, is an
error that names file, key, value and rule."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode

from reviosa_core.bounds import (
    Count,
    Few,
    Kernels,
    Name,
    Seed,
    Share,
    Strict,
    Words,
    complaints,
    need,
)
from reviosa_core.schedules import Backbone as Backbone
from reviosa_core.schedules import Baselines as Baselines
from reviosa_core.schedules import Clips as Clips
from reviosa_core.schedules import Encoders as Encoders
from reviosa_core.schedules import Loop as Loop
from reviosa_core.schedules import LossWeights as LossWeights
from reviosa_core.schedules import Otherwise as Otherwise
from reviosa_core.schedules import Phase as Phase
from reviosa_core.schedules import Pretrain as Pretrain
from reviosa_core.schedules import Rules as Rules
from reviosa_core.schedules import Studies as Studies
from reviosa_core.schedules import Study as Study
from reviosa_core.schedules import Train as Train
from reviosa_core.schema import DataError, Role
from reviosa_core.sizes import Annotation as Annotation
from reviosa_core.sizes import Language as Language  # the shapes are parameters too: `config.Language`
from reviosa_core.sizes import Lora as Lora
from reviosa_core.sizes import Mllm as Mllm
from reviosa_core.sizes import Model as Model
from reviosa_core.sizes import Segmenter as Segmenter
from reviosa_core.sizes import Vision as Vision

PARAMS = "params.yaml"
Wording = Literal["labelled", "unlabelled", "sa2va", "reviosa"]  # of frames, questions and answers: model/prompts.py
YAML_BYTES = 200_000  # params.yaml has 13,000
CLIP_PIXELS = 2**25  # of all frames together: a clip is made in memory
SHIFT = "InterShapes shift"  # what the report calls the first data set of the transfer
NOTES = "intershapes.json"  # beside the clips of a split that InterShapes wrote
# in runs/<profile>, beside experiments:
TAKEN = (
    "pretrain",
    "predictions",
    "rows",
    "notebooks",
    "resume",
    "seeds",
    "studies",
    "annotation",
    "baselines",
    "studies-backbones",
)


class Splits(Strict):
    train: Count
    val: Count
    dev: Count  # what choices are made on, by studies; `test` is for final numbers only
    test: Count
    shift: Count


class Difficulty(Strict):
    """What InterShapes clips may hold. Shares are probabilities in [0, 1]."""

    objects: tuple[Annotated[int, Field(ge=1, le=50)], Annotated[int, Field(ge=1, le=50)]]
    two_pairs: Share
    lookalikes: Share
    twins: Share
    no_interaction: Share
    mimics: Share
    absent: Annotated[int, Field(ge=0, le=20)] = 0  # sentences of a clip about what is not in it

    @model_validator(mode="after")
    def _rules(self) -> Difficulty:
        low, high = self.objects
        need(low <= high, "objects", self.objects, "the least must not exceed the most")
        both = self.two_pairs + self.no_interaction
        need(both <= 1 + 1e-9, "two_pairs", self.two_pairs, f"must be at most 1 - no_interaction {self.no_interaction}")
        pairs = 0 if self.no_interaction == 1 else 2 if self.two_pairs else 1
        need(high >= 2 * pairs, "objects", self.objects, f"{pairs} interacting pairs need {2 * pairs} objects")
        return self


class Data(Strict):
    """InterShapes."""

    size: Annotated[int, Field(ge=32, le=1024)]
    frames: Annotated[int, Field(ge=2, le=4096)]
    difficulty: Difficulty
    splits: Splits

    @model_validator(mode="after")
    def _rules(self) -> Data:
        rule = f"frames of {self.size} x {self.size} must have at most {CLIP_PIXELS} pixels together"
        need(self.frames * self.size**2 <= CLIP_PIXELS, "frames", self.frames, rule)
        return self


class Released(Strict):
    """Backbones to start from instead of pretraining some, by path from the project's root: a folder with InternVL, and
    Meta's SAM2 file (with its yaml, where it is none of the packaged ones)."""

    internvl: Words
    sam2: Words
    sam2_yaml: Words | None = None
    template: Literal["qwen_chat", "phi3_chat"]
    license: Words  # of what is made of them, for its card


def _start(value: Any) -> str:
    released = isinstance(value, Released) or (isinstance(value, dict) and "internvl" in value)
    return "(released)" if released else "(phases)"  # in brackets: part of a message's place, but no key


class Selection(Strict):
    """On how many clips attention is measured, for how many heads, and by which rule (`scoring/selection.py`)."""

    clips: Count
    heads: Few
    rule: Literal["to_vision", "has_read", "own_object"] = "to_vision"


class Evaluate(Strict):
    bootstrap: Annotated[int, Field(ge=0, le=100_000)]


class Profile(Strict):
    seed: Seed
    data: Data
    model: Model
    pretrain: Annotated[
        Annotated[Pretrain, Tag("(phases)")] | Annotated[Released, Tag("(released)")], Discriminator(_start)
    ]
    train: Train
    best: Rules
    selection: Selection
    evaluate: Evaluate
    baselines: Baselines | None = None  # `make baselines` needs them, nothing else does

    def rules(self, experiment: Experiment) -> Train:
        """How a row is trained."""
        return self.best.train(self.train) if experiment.best else self.train

    @model_validator(mode="after")
    def _rules(self) -> Profile:
        mllm, language, frames = self.model.mllm, self.model.mllm.language, self.data.frames
        fits = self.selection.heads <= language.heads
        need(fits, "selection.heads", self.selection.heads, f"must not exceed language.heads {language.heads}")
        if self.baselines:
            shown = self.baselines.shown
            need(shown <= frames, "baselines.shown", shown, f"must not exceed data.frames {frames}")
        if isinstance(self.pretrain, Pretrain):  # on InterShapes; released backbones may get longer clips of your own
            need(frames >= 4, "data.frames", frames, "must be at least 4: SAM2 is pretrained on as many")
            need(mllm.frames <= frames, "model.mllm.frames", mllm.frames, f"must not exceed data.frames {frames}")
            for key in ("layers", "heads"):
                value = getattr(language, key)
                need(
                    value >= 2, f"model.mllm.language.{key}", value, "must be at least 2: pretraining teaches two apart"
                )
        return self


class Experiment(Strict):
    """One row of Table 4, or the row that is as good as it gets (`best`)."""

    roles: tuple[Role, ...]
    aml: bool
    best: bool = False

    @model_validator(mode="after")
    def _roles(self) -> Experiment:
        fine = self.roles[:1] == (Role.ACTOR,) and len(set(self.roles)) == len(self.roles)
        need(fine, "roles", [str(role) for role in self.roles], "must be distinct and begin with actor")
        return self


class Transfer(Strict):
    datasets: tuple[Words, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Transfer:
        named = [SHIFT, *self.datasets]
        need(len(set(named)) == len(named), "datasets", self.datasets, f"must be distinct, and none called {SHIFT!r}")
        return self


class Params(Strict):
    """All of params.yaml."""

    profile: Name
    reports: Words
    at_once: Few
    kernels: Kernels = ""  # environment variables of every stage's command, as dvc.yaml inserts them
    heap: Kernels = ""  # and of those of the query systems
    experiments: dict[Name, Experiment]
    seeds: tuple[Seed, ...]
    difficulties: dict[str, Difficulty]
    transfer: Transfer
    studies: Studies
    annotation: Annotation = Annotation()
    profiles: dict[Name, Profile]

    @model_validator(mode="after")
    def _rules(self) -> Params:
        need(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "must be distinct: each is a run of its own")
        folder = Path(self.reports)
        inside = bool(folder.parts) and not folder.is_absolute() and ".." not in folder.parts
        need(inside, "reports", self.reports, "must be a folder inside the project, relative to its root")
        for name in self.experiments:
            need(name not in TAKEN, f"experiments.{name}", name, f"another name is needed, not one of {list(TAKEN)}")
        for name, study in self.studies.runs.items():
            unknown = [row for row in study.rows if row not in self.experiments]
            need(not unknown, f"studies.runs.{name}.rows", unknown, f"must be among experiments, {[*self.experiments]}")
        free = "predict" not in self.profiles
        need(free, "profiles.predict", "predict", "another name is needed: runs/predict is taken")
        need(
            self.profile in self.profiles, "profile", self.profile, f"must be one of profiles, {sorted(self.profiles)}"
        )
        return self

    @property
    def active(self) -> Profile:
        """The profile that `profile` names."""
        return self.profiles[self.profile]


def read_yaml(path: str | Path) -> Any:
    """A YAML 1.2 file as plain values: `1e-5` is a float and `on` a string, as DVC reads them.

    Raises DataError, with file and line, for what is no YAML, for tags that name code, and for files that are too
    large as they stand or with every alias written out.
    """
    path, yaml = Path(path), YAML(typ="safe", pure=True)
    if (size := path.stat().st_size) > YAML_BYTES:
        raise DataError(f"{path}: {size} bytes, at most {YAML_BYTES} are read")
    try:
        node = yaml.compose(path)
        if (size := _written_out(node, {})) > YAML_BYTES:
            raise ValueError(f"{size} values with every alias written out, at most {YAML_BYTES} are read")
        return None if node is None else yaml.constructor.construct_document(node)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{line}: {error.problem}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None


def _written_out(node: Any, known: dict[int, int]) -> int:
    """Values below a node of YAML's tree, those of an alias as often as it stands."""
    if id(node) not in known:
        known[id(node)] = 1  # while it is counted: a node may hold itself
        below = node.value if isinstance(node, CollectionNode) else ()
        parts = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] += sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def load(path: str | Path) -> Params:
    """Read and check params.yaml. Raises ValueError with the file, and every key, value and rule that is broken."""
    return check(read_yaml(path), path)


def check(content: Any, path: str | Path) -> Params:
    """What a file holds, as parameters. Raises ValueError as `load`."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ValueError("\n".join([f"{path}:", *(f"  {line}" for line in complaints(error))])) from None


@dataclass(frozen=True)
class Project:
    """Where things are, for one profile. The only place that knows the folders."""

    root: Path
    profile: str
    params: Params

    @property
    def settings(self) -> Profile:
        return self.params.profiles[self.profile]

    def data(self, split: str = "") -> Path:
        return self.root / "data" / self.profile / split

    @property
    def transfer(self) -> dict[str, Path]:
        """The data sets that are tested on and never trained on, by the names that reports give them."""
        named = {name: self.root / Path(name).expanduser() for name in self.params.transfer.datasets}
        shift = self.data("shift")
        if is_own(self.data("test")) and not is_own(shift):  # own data may lack it
            return named
        return {f"data/{self.profile}/shift" if is_own(shift) else SHIFT: shift, **named}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The profile's own seed, then those of `make seeds`. ValueError where a run would be counted twice."""
        own, others = self.settings.seed, self.params.seeds
        if own in others:
            raise ValueError(f"{self.root / PARAMS}: seeds: {own} is the seed of profile {self.profile} already")
        return (own, *others)

    @property
    def backbones(self) -> Path:
        return self.root / "backbones" / self.profile

    @property
    def encoders(self) -> Path:
        """The query systems' pretrained encoders."""
        return self.root / "backbones" / f"{self.profile}-query"

    @property
    def others(self) -> Path:
        """The language models of `studies.backbones`, a folder each."""
        return self.root / "backbones" / f"{self.profile}-studies"

    @property
    def baselines(self) -> Baselines:
        """The query systems' settings. ValueError for a profile without."""
        if (given := self.settings.baselines) is None:
            raise ValueError(f"{self.root / PARAMS}: profiles.{self.profile} has no baselines")
        return given

    @property
    def start(self) -> Path | Released:
        """What fine-tuning starts from: the folder that stage `pretrain` leaves, or released files."""
        released = self.settings.pretrain
        if not isinstance(released, Released):
            return self.backbones
        paths = released.model_dump(include={"internvl", "sam2", "sam2_yaml"}, exclude_none=True)
        return released.model_copy(update={key: str(self.root / path) for key, path in paths.items()})

    @property
    def weights(self) -> dict[str, Path]:
        """The released files among what fine-tuning starts from, by part: their content may change where they lie."""
        start = self.start
        return {} if isinstance(start, Path) else {part: Path(getattr(start, part)) for part in ("internvl", "sam2")}

    def card(self) -> dict[str, Any]:
        """What the card of trained weights says of their origin."""
        start, data = self.settings.pretrain, self.data("train").relative_to(self.root)
        if not isinstance(start, Released):
            return {"license": "apache-2.0", "base_model": f"backbones/{self.profile}", "datasets": str(data)}
        base = [Path(start.internvl).name, Path(start.sam2).name]
        return {"license": start.license, "base_model": base, "datasets": str(data)}

    def otherwise(self, backbone: str | None) -> Path | Released:
        """What a run of the studies starts from: one of `studies.backbones`, or the profile's own."""
        return self.start if backbone is None else self.run("studies-backbones", backbone)

    def run(self, *parts: str) -> Path:
        """Weights, predictions, executed notebooks: large, not in git. The folder of the file is made."""
        return _with_folder(self.root / "runs" / self.profile / Path(*parts))

    def report(self, *parts: str) -> Path:
        """Metrics, tables and figures: small, in git. The folder of the file is made."""
        return _with_folder(self.root / self.params.reports / Path(*parts))


def is_own(split: Path) -> bool:
    """Whether a split's folder is somebody's own: there, not empty, and not written by InterShapes."""
    return split.exists() and not (split / NOTES).exists() and any(split.iterdir())


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def project(profile: str | None = None) -> Project:
    """The project around the current folder (or DVC's, inside a stage), with the given or the active profile.

    Raises FileNotFoundError outside a project, ValueError for an unknown profile.
    """
    here = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    root = next((folder for folder in (here, *here.parents) if (folder / PARAMS).is_file()), None)
    if root is None:
        raise FileNotFoundError(f"no {PARAMS} in {here} or above it")
    params = load(root / PARAMS)
    profile = profile or params.profile
    if profile not in params.profiles:
        raise ValueError(f"no profile {profile!r} in {root / PARAMS}, which has {sorted(params.profiles)}")
    return Project(root, profile, params)
