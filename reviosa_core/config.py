"""Typed parameters. The only reader of params.yaml: an unknown or missing key is an error that names key and file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from ruamel.yaml import YAML

from reviosa_core.schema import Role

PARAMS = "params.yaml"
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Frozen, and no key passes unread."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Splits(Strict):
    train: int
    val: int
    test: int
    shift: int


class Difficulty(Strict):
    """What InterShapes clips may hold. Shares are probabilities in [0, 1]."""

    objects: tuple[int, int]
    two_pairs: Share
    lookalikes: Share
    twins: Share
    no_interaction: Share
    mimics: Share


class Data(Strict):
    """InterShapes."""

    size: int = Field(ge=32)
    frames: int = Field(ge=2)
    difficulty: Difficulty
    splits: Splits


class Vision(Strict):
    hidden: int
    layers: int
    heads: int
    ffn: int


class Language(Vision):
    kv_heads: int


class Lora(Strict):
    rank: int
    alpha: int
    dropout: float


class Mllm(Strict):
    """InternVL at any size; `frames` is the paper's T': how many frames the language model sees."""

    image_size: int
    patch_size: int
    frames: int
    vision: Vision
    language: Language
    lora: Lora


class Segmenter(Strict):
    """SAM2 at any size. `prompted`: decode the language prompt on the first of the K frames, or on all of them."""

    image_size: int
    embed: int
    heads: int = 1  # of the first stage; every stage doubles them
    stages: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    dim: int
    memory_dim: int
    num_maskmem: int
    prompted: Literal["first", "all"]


class Model(Strict):
    mllm: Mllm
    segmenter: Segmenter


class Loop(Strict):
    """What every training loop needs to know; rates are set a parameter group. `accumulate` micro-batches make a step,
    and its gradient is their mean."""

    steps: int = Field(gt=0)
    accumulate: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the steps
    clip_norm: float = 1.0
    checkpoint_every: int = 200


class Phase(Loop):
    """One pretraining phase. `batch` is clips a step (images, for the vision phase). `muon_lr` is the rate of the
    layers' matrices, `lr` that of the rest, by AdamW."""

    batch: int
    lr: float
    muon_lr: float


class Pretrain(Strict):
    clips: int  # kept as pixels, for SAM2 and the vision tower
    reading_clips: int  # kept as visual tokens, for the language model
    segmenter_images: Phase
    segmenter_pairs: Phase
    segmenter: Phase
    vision: Phase
    watching: Phase
    mllm: Phase


class Released(Strict):
    """Backbones to start from instead of pretraining some, by path from the project's root: a folder with InternVL, and
    Meta's SAM2 file (with its yaml, where it is none of the packaged ones)."""

    internvl: str
    sam2: str
    sam2_yaml: str | None = None
    template: Literal["qwen_chat", "phi3_chat"]
    license: str  # of what is made of them, for its card


def _start(value: Any) -> str:
    return "released" if isinstance(value, Released) or (isinstance(value, dict) and "internvl" in value) else "phases"


class LossWeights(Strict):
    """Weights of Eq. 7-8; `points` is how many points the mask losses look at (uncertainty-sampled)."""

    ce: float
    dice: float
    aml: float
    text: float
    points: int


class Train(Loop):
    """Fine-tuning (phase b). `clips` a micro-batch, `expressions` a clip; `processes` share the micro-batches of a
    step, on a GPU each where there are GPUs."""

    processes: int = Field(default=1, ge=1)
    clips: int
    expressions: int
    frames: Literal["uniform", "contiguous", "random"]  # which K of a clip's frames; evaluation takes uniform ones
    lr: float
    decoder_lr: float
    projector_lr: float
    gradient_checkpointing: bool
    cache_gb: float  # features of the frozen encoders kept in memory
    loss: LossWeights


class Selection(Strict):
    clips: int
    heads: int


class Evaluate(Strict):
    bootstrap: int


class Profile(Strict):
    seed: int
    data: Data
    model: Model
    pretrain: Annotated[
        Annotated[Pretrain, Tag("phases")] | Annotated[Released, Tag("released")], Discriminator(_start)
    ]
    train: Train
    selection: Selection
    evaluate: Evaluate


class Experiment(Strict):
    """One row of Table 4."""

    roles: tuple[Role, ...]
    aml: bool


class Transfer(Strict):
    datasets: tuple[str, ...]


class Annotation(Strict):
    """How videos are annotated: what a question shows, how it is asked, and which tracks are good enough."""

    frames: int = Field(default=8, ge=1)  # of a clip, shown in one question
    side: int = Field(default=512, ge=32)  # pixels of the longer side of a picture shown
    objects: int = Field(default=12, ge=2, le=12)  # of a clip, at most; each has a colour of its own
    words: int = Field(default=30, ge=3)  # of a text, at most
    presence: Share = 0.3  # a track is seen in at least this share of the frames,
    area: Share = 0.0005  # covers at least this share of those,
    stability: Share = 0.5  # and keeps at least this share of its area from frame to frame
    grid: int = Field(default=6, ge=1)  # points a side, where there are neither masks nor boxes
    at_once: int = Field(default=8, ge=1)  # questions under way
    tokens: int = Field(default=2000, ge=16)  # of an answer, at most
    seed: int = 0


class Params(Strict):
    """All of params.yaml."""

    profile: str
    reports: str
    at_once: int = Field(ge=1)
    experiments: dict[str, Experiment]
    seeds: tuple[int, ...]
    difficulties: dict[str, Difficulty]
    transfer: Transfer
    annotation: Annotation = Annotation()
    profiles: dict[str, Profile]

    @property
    def active(self) -> Profile:
        """The profile that `profile` names."""
        return self.profiles[self.profile]


def read_yaml(path: str | Path) -> Any:
    """A YAML 1.2 file as plain values: `1e-5` is a float and `on` a string, as DVC reads them."""
    return YAML(typ="safe").load(Path(path))


def load(path: str | Path) -> Params:
    """Read and check params.yaml.

    Raises ValueError with file, key and problem (also when `profile` names no profile).
    """
    path = Path(path)
    try:
        params = Params.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or '(top)'}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise ValueError(f"{path}:\n" + "\n".join(lines)) from None
    if params.profile not in params.profiles:
        raise ValueError(f"{path}: profile is {params.profile!r}, but profiles has {sorted(params.profiles)}")
    return params


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
    def backbones(self) -> Path:
        return self.root / "backbones" / self.profile

    @property
    def start(self) -> Path | Released:
        """What fine-tuning starts from: the folder that stage `pretrain` leaves, or released files."""
        released = self.settings.pretrain
        if not isinstance(released, Released):
            return self.backbones
        paths = released.model_dump(include={"internvl", "sam2", "sam2_yaml"}, exclude_none=True)
        return released.model_copy(update={key: str(self.root / path) for key, path in paths.items()})

    def card(self) -> dict[str, Any]:
        """What the card of trained weights says of their origin."""
        start, data = self.settings.pretrain, self.data("train").relative_to(self.root)
        if not isinstance(start, Released):
            return {"license": "apache-2.0", "base_model": f"backbones/{self.profile}", "datasets": str(data)}
        base = [Path(start.internvl).name, Path(start.sam2).name]
        return {"license": start.license, "base_model": base, "datasets": str(data)}

    def run(self, *parts: str) -> Path:
        """Weights, predictions, executed notebooks: large, not in git. The folder of the file is made."""
        return _with_folder(self.root / "runs" / self.profile / Path(*parts))

    def report(self, *parts: str) -> Path:
        """Metrics, tables and figures: small, in git. The folder of the file is made."""
        return _with_folder(self.root / self.params.reports / Path(*parts))


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
