from __future__ import annotations

import copy
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from pydantic import BaseModel

from reviosa_core import bounds, config
from reviosa_core.schema import Role


@pytest.fixture
def params(root: Path, tmp_path: Path):
    """A copy of params.yaml with some text exchanged."""

    def write(*pairs: tuple[str, str]) -> Path:
        text = (root / "params.yaml").read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new, 1)
        (tmp_path / "params.yaml").write_text(text)
        return tmp_path / "params.yaml"

    return write


def leaves(model: BaseModel, prefix: str = ""):
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, type(model).model_fields[name].annotation


def test_every_profile_loads_and_can_be_active(params):
    names = config.load(params()).profiles
    assert {"tiny", "smoke"} <= set(names)
    for name in names:
        assert config.load(params(("profile: tiny", f"profile: {name}"))).active == names[name]


def test_numbers_written_with_exponents_are_floats(params):
    path = params(("lr: 1.0e-3                # LoRA", "lr: 1e-5  # LoRA"))  # YAML 1.1 reads 1e-5 as text
    assert config.load(path).profiles["tiny"].train.lr == 1e-5
    for name, profile in config.load(path).profiles.items():
        wrong = [leaf for leaf, value, kind in leaves(profile) if kind is float and type(value) is not float]
        assert not wrong, f"{name}: {wrong}"


def test_table_four(params):
    experiments = config.load(params()).experiments
    assert {name: (row.roles, row.aml) for name, row in experiments.items() if not row.best} == {
        "baseline": ((Role.ACTOR,), False),
        "aml": ((Role.ACTOR,), True),
        "tokens": ((Role.ACTOR, Role.TARGET), False),
        "full": ((Role.ACTOR, Role.TARGET), True),
    }


def test_the_best_row_has_its_own_rules(params):
    """Table 4 has one rate for everything; `best` changes what it names and nothing else."""
    found = config.load(params())
    tiny, best = found.profiles["tiny"], found.experiments["best"]
    assert tiny.rules(found.experiments["full"]) == tiny.train
    assert tiny.train.lr == tiny.train.decoder_lr == tiny.train.projector_lr
    changed = {key: value for key, value in tiny.best.model_dump().items() if value is not None}
    assert changed and tiny.rules(best).model_dump() == tiny.train.model_dump() | changed
    assert found.profiles["paper-1b"].rules(best) == found.profiles["paper-1b"].train


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("    seed: 0\n", "    seed: 0\n    sede: 1\n", "profiles.tiny.sede"),
        ("    seed: 0\n", "", "profiles.tiny.seed"),
        ("      size: 128 ", "      size: big ", "profiles.tiny.data.size"),
        ("    lookalikes: 0.3\n", "    lookalikes: 3\n", "profiles.tiny.data.difficulty.lookalikes"),
        ("roles: [actor]", "roles: [agent]", "experiments.baseline.roles"),
        ("prompted: first ", "prompted: last ", "profiles.tiny.model.segmenter.prompted"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(params, old: str, new: str, key: str):
    path = params((old, new))
    with pytest.raises(ValueError) as caught:
        config.load(path)
    assert str(path) in str(caught.value) and key in str(caught.value)


def test_a_profile_that_is_not_there(params):
    with pytest.raises(ValueError, match="profile: must be one of.*'smoke'.*'tiny'.*got 'huge'"):
        config.load(params(("profile: tiny", "profile: huge")))


def test_released_weights_are_known_by_part(params, tmp_path: Path):
    assert config.Project(tmp_path, "tiny", config.load(params())).weights == {}, (
        "made here, and in the digest of backbones/tiny"
    )
    found = config.Project(tmp_path, "paper-1b", config.load(params())).weights
    assert found == {
        "internvl": tmp_path / "weights/InternVL2_5-1B", "sam2": tmp_path / "weights/sam2_hiera_large.pt"
    }  # fmt: skip


def test_parameters_are_frozen(params):
    with pytest.raises(ValueError, match="frozen"):
        config.load(params()).active.train.steps = 1


# -- ranges and relations ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content(root: Path) -> dict[str, Any]:
    return config.read_yaml(root / "params.yaml")


def changed(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one value exchanged, by its dotted key."""
    new = copy.deepcopy(content)
    *path, last = key.split(".")
    place = new
    for part in path:
        place = place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return new


AT_LEAST_1 = "should be greater than or equal to 1"
RULES = [  # dotted key, a value that breaks the rule, what the message says of it
    ("profile", "huge", "profile: must be one of profiles, .*got 'huge'"),
    ("reports", "../elsewhere", "reports: must be a folder inside the project"),
    ("reports", "/elsewhere", "reports: must be a folder inside the project"),
    ("reports", ".", "reports: must be a folder inside the project"),
    ("at_once", 0, f"at_once: {AT_LEAST_1}, got 0"),
    ("experiments.pretrain", {"roles": ["actor"], "aml": False}, "experiments.pretrain: another name is needed"),
    ("experiments.a b", {"roles": ["actor"], "aml": False}, "experiments.a b.*should match pattern"),
    ("experiments.full.roles", ["target", "actor"], "experiments.full.roles: must be distinct and begin with actor"),
    ("experiments.full.roles", ["actor", "actor"], "experiments.full.roles: must be distinct and begin with actor"),
    ("experiments.full.roles", [], "experiments.full.roles: must be distinct and begin with actor"),
    ("seeds", [1, -2], r"seeds.1: should be greater than or equal to 0, got -2"),
    ("seeds", [1, 2, 1], r"seeds: must be distinct.*got \(1, 2, 1\)"),
    ("difficulties.hard.objects", [7, 5], r"difficulties.hard.objects: the least must not exceed the most, got \(7, 5"),
    ("difficulties.hard.objects", [2, 3], r"objects: 2 interacting pairs need 4 objects, got \(2, 3\)"),
    ("difficulties.easy.objects", [1, 1], r"objects: 1 interacting pairs need 2 objects, got \(1, 1\)"),
    ("difficulties.hard.objects", [0, 5], f"objects.0: {AT_LEAST_1}, got 0"),
    ("difficulties.hard.objects", [5, 51], "objects.1: should be less than or equal to 50, got 51"),
    ("difficulties.hard.no_interaction", 0.5, "two_pairs: must be at most 1 - no_interaction 0.5, got 0.6"),
    ("difficulties.absent.absent", -1, "difficulties.absent.absent: should be greater than or equal to 0, got -1"),
    ("difficulties.absent.absent", 21, "difficulties.absent.absent: should be less than or equal to 20, got 21"),
    ("difficulties.hard.twins", math.nan, "difficulties.hard.twins: should be .*got nan"),
    ("transfer.datasets", ["a", "a"], "transfer.datasets: must be distinct"),
    ("transfer.datasets", ["InterShapes shift"], "transfer.datasets: must be distinct, and none called"),
    ("transfer.datasets", [""], "transfer.datasets.0: String should have at least 1 character"),
    ("profiles.a/b", {}, "profiles.a/b.*should match pattern"),
    ("profiles.tiny.seed", -1, "profiles.tiny.seed: should be greater than or equal to 0, got -1"),
    ("profiles.tiny.seed", 2**64, "profiles.tiny.seed: should be less than 18446744073709551616"),
    ("profiles.tiny.data.size", 31, "data.size: should be greater than or equal to 32, got 31"),
    ("profiles.tiny.data.size", 100_000, "data.size: should be less than or equal to 1024, got 100000"),
    ("profiles.tiny.data.frames", 3, "data.frames: must be at least 4"),
    ("profiles.tiny.data.frames", 10**6, "data.frames: should be less than or equal to 4096"),
    ("profiles.tiny.data.frames", 2049, "data.frames: frames of 128 x 128 must have at most 33554432 pixels together"),
    ("profiles.tiny.data.splits.train", -4, f"profiles.tiny.data.splits.train: {AT_LEAST_1}, got -4"),
    ("profiles.tiny.data.splits.val", 0, f"profiles.tiny.data.splits.val: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.data.splits.shift", 0, f"profiles.tiny.data.splits.shift: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.patch_size", 7, "mllm.patch_size: 2 x patch_size must divide image_size 96: .*got 7"),
    ("profiles.tiny.model.mllm.patch_size", 32, "mllm.patch_size: 2 x patch_size must divide image_size 96: .*got 32"),
    ("profiles.tiny.model.mllm.patch_size", 0, f"mllm.patch_size: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.frames", 9, "profiles.tiny.model.mllm.frames: must not exceed data.frames 8, got 9"),
    ("profiles.tiny.model.mllm.frames", 0, f"mllm.frames: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.vision.heads", 5, "mllm.vision.heads: must divide hidden 96, got 5"),
    ("profiles.tiny.model.mllm.vision.layers", 0, f"mllm.vision.layers: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.language.heads", 3, "mllm.language.heads: must divide hidden 128, got 3"),
    ("profiles.tiny.model.mllm.language.heads", 128, "mllm.language.heads: hidden 128 / heads must be even"),
    ("profiles.tiny.model.mllm.language.kv_heads", 3, "mllm.language.kv_heads: must divide heads 4, got 3"),
    ("profiles.tiny.model.mllm.language.kv_heads", 0, f"mllm.language.kv_heads: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.language.layers", 1, "model.mllm.language.layers: must be at least 2"),
    ("profiles.tiny.model.mllm.language.layers", 10**6, "language.layers: should be less than or equal to 128"),
    ("profiles.tiny.model.mllm.language.ffn", 0, f"mllm.language.ffn: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.lora.rank", 0, f"mllm.lora.rank: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.lora.alpha", 0, f"mllm.lora.alpha: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.mllm.lora.dropout", 1, "mllm.lora.dropout: should be less than 1, got 1"),
    ("profiles.tiny.model.segmenter.image_size", 120, "segmenter.image_size: must be a multiple of 32, got 120"),
    ("profiles.tiny.model.segmenter.embed", 0, f"segmenter.embed: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.segmenter.heads", 5, "segmenter.heads: must divide embed 24, got 5"),
    ("profiles.tiny.model.segmenter.stages", [1, 0, 2, 1], f"segmenter.stages.1: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.model.segmenter.stages", [33, 33, 33, 33], "segmenter.stages: have 132 blocks together"),
    ("profiles.tiny.model.segmenter.windows", [5, 4, 8, 4], "segmenter.windows: the first must divide.* 32, got .5, 4"),
    ("profiles.tiny.model.segmenter.windows", [8, 3, 8, 4], "segmenter.windows: the first three must be even"),
    ("profiles.tiny.model.segmenter.global_blocks", [4], r"segmenter.global_blocks: none may be the first.*1, 2, 4"),
    ("profiles.tiny.model.segmenter.global_blocks", [5], "segmenter.global_blocks: must be below the 5 blocks"),
    ("profiles.tiny.model.segmenter.global_blocks", [-1], "segmenter.global_blocks.0: should be greater than or equal"),
    ("profiles.tiny.model.segmenter.global_blocks", [3, 3], "segmenter.global_blocks: must be distinct"),
    ("profiles.tiny.model.segmenter.dim", 120, "segmenter.dim: must be a multiple of 16, got 120"),
    ("profiles.tiny.model.segmenter.memory_dim", 12, "segmenter.memory_dim: .* divides dim 128, got 12"),
    ("profiles.tiny.model.segmenter.memory_dim", 2, "segmenter.memory_dim: must be a multiple of 4 .*got 2"),
    ("profiles.tiny.model.segmenter.num_maskmem", 0, f"segmenter.num_maskmem: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.pretrain.clips", 0, f"profiles.tiny.pretrain.clips: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.pretrain.reading_clips", 3, "pretrain.reading_clips: should be greater than or equal to 4, got 3"),
    ("profiles.tiny.pretrain.vision.batch", 0, f"pretrain.vision.batch: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.pretrain.mllm.muon_lr", -1, "pretrain.mllm.muon_lr: should be greater than 0, got -1"),
    ("profiles.paper-1b.pretrain.sam2", "", "profiles.paper-1b.pretrain.sam2: String should have at least 1"),
    ("profiles.tiny.train.steps", 0, f"train.steps: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.clips", 0, f"train.clips: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.expressions", 0, f"train.expressions: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.accumulate", 0, f"train.accumulate: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.processes", 2, "train.processes: must divide accumulate 1: .*got 2"),
    ("profiles.tiny.train.processes", 0, f"train.processes: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.lr", 0, "profiles.tiny.train.lr: should be greater than 0, got 0"),
    ("profiles.tiny.train.lr", math.inf, "profiles.tiny.train.lr: should be a finite number, got inf"),
    ("profiles.tiny.train.decoder_lr", -1e-3, "train.decoder_lr: should be greater than 0, got -0.001"),
    ("profiles.tiny.train.projector_lr", math.nan, "train.projector_lr: should be .*, got nan"),
    ("profiles.tiny.train.betas", [0.9, 1.0], "train.betas.1: should be less than 1, got 1.0"),
    ("profiles.tiny.train.weight_decay", -1, "train.weight_decay: should be greater than or equal to 0, got -1"),
    ("profiles.tiny.train.warmup", 5, "train.warmup: should be less than or equal to 1, got 5"),
    ("profiles.tiny.train.clip_norm", 0, "train.clip_norm: should be greater than 0, got 0"),
    ("profiles.tiny.train.checkpoint_every", 0, f"train.checkpoint_every: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.train.cache_gb", -1, "train.cache_gb: should be greater than or equal to 0, got -1"),
    ("profiles.tiny.train.loss.aml", -1, "train.loss.aml: should be greater than or equal to 0, got -1"),
    ("profiles.tiny.train.loss", {"ce": 0, "dice": 0, "aml": 1, "text": 1, "points": 9}, "loss.ce: ce or dice must be"),
    ("profiles.tiny.train.loss.points", 0, f"train.loss.points: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.selection.heads", 5, "profiles.tiny.selection.heads: must not exceed language.heads 4, got 5"),
    ("profiles.tiny.selection.clips", 0, f"selection.clips: {AT_LEAST_1}, got 0"),
    ("profiles.tiny.evaluate.bootstrap", -1, "evaluate.bootstrap: should be greater than or equal to 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), RULES, ids=[f"{key}={value}" for key, value, _ in RULES])
def test_a_broken_rule_is_named_with_key_and_value(content, key: str, value: Any, message: str):
    with pytest.raises(ValueError) as caught:
        config.check(changed(content, key, value), "here/params.yaml")
    file, *lines = str(caught.value).splitlines()
    assert file == "here/params.yaml:" and re.search(message, lines[0]), caught.value
    assert len(lines) == 1 or key.startswith("profiles."), "one value, one line"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transfer.datasets", ["/elsewhere/mine", "../mine", "~/mine", "data/my clips (v2)", "data/run#3"]),
        ("seeds", []),
        ("profiles.tiny.seed", 2**64 - 1),
        ("profiles.tiny.evaluate.bootstrap", 0),
        ("profiles.tiny.train.cache_gb", 0),
        ("profiles.tiny.train.warmup", 0),
        ("profiles.tiny.train.loss.aml", 0),
        ("profiles.tiny.model.segmenter.global_blocks", []),
        ("profiles.paper-1b.model.mllm.frames", 300),  # own clips may be longer than InterShapes'
        ("difficulties.easy.objects", [1, 2]),
    ],
)  # fmt: skip
def test_what_may_be_unusual(content, key: str, value: Any):
    config.check(changed(content, key, value), "params.yaml")


def numbers(kind: Any, where: str, bound: bool = False) -> Iterator[tuple[str, bool]]:
    """(place, has a bound) of every number that a type holds, in models, tuples, unions and values of dicts."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            limits = any(isinstance(m, annotated_types.Ge | annotated_types.Gt) for m in field.metadata)
            yield from numbers(field.annotation, f"{where}.{name}", limits)
    elif typing.get_origin(kind) is typing.Annotated:
        inner, *rest = typing.get_args(kind)
        said = [limit for m in rest for limit in (m, *getattr(m, "metadata", ()))]
        limits = any(isinstance(limit, annotated_types.Ge | annotated_types.Gt) for limit in said)
        yield from numbers(inner, where, bound or limits)
    elif kind in (int, float):
        yield where, bound
    elif typing.get_origin(kind) is not typing.Literal:
        for part in typing.get_args(kind):
            yield from numbers(part, where, bound)


def test_a_profile_whose_results_would_lie_among_others(content):
    new = content | {"profiles": content["profiles"] | {"predict": content["profiles"]["tiny"]}}
    with pytest.raises(ValueError, match="profiles.predict: another name is needed: runs/predict is taken"):
        config.check(new, "params.yaml")


def test_every_number_has_a_bound():
    found = list(numbers(config.Params, "params"))
    assert len(found) > 60 and not [where for where, bound in found if not bound]


def test_a_number_without_a_bound_would_be_seen():
    class Free(BaseModel):
        rates: dict[str, tuple[float, ...]]
        fine: bounds.Count | None

    assert list(numbers(Free, "free")) == [("free.rates", False), ("free.fine", True)]


def test_seeds_that_would_count_a_run_twice(content, root: Path):
    params = config.check(content, "params.yaml")
    assert config.Project(root, "tiny", params).seeds == (0, 1, 2)
    again = config.check(changed(content, "profiles.tiny.seed", 2), "params.yaml")
    with pytest.raises(ValueError, match="params.yaml: seeds: 2 is the seed of profile tiny already"):
        _ = config.Project(root, "tiny", again).seeds


def test_where_transfer_looks(content, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    params = config.check(changed(content, "transfer.datasets", ["data/mine", "/far/mine", "~/mine"]), "params.yaml")
    assert config.Project(Path("/p"), "tiny", params).transfer == {
        "InterShapes shift": Path("/p/data/tiny/shift"),
        "data/mine": Path("/p/data/mine"),
        "/far/mine": Path("/far/mine"),
        "~/mine": Path("/home/me/mine"),
    }


def test_a_shift_split_of_ones_own_is_not_called_intershapes(content, tmp_path: Path):
    project = config.Project(tmp_path, "tiny", config.check(content, "params.yaml"))
    shift = tmp_path / "data" / "tiny" / "shift"
    shift.mkdir(parents=True)
    assert [*project.transfer] == ["InterShapes shift"], "an empty folder is nobody's"
    (shift / "meta_expressions.json").write_text("{}")
    assert project.transfer == {"data/tiny/shift": shift}
    (shift / config.NOTES).write_text("{}")
    assert project.transfer == {"InterShapes shift": shift}


def test_own_data_may_lack_a_shift_split(content, tmp_path: Path):
    changes = changed(content, "transfer.datasets", ["data/mine"])
    project = config.Project(tmp_path, "tiny", config.check(changes, "params.yaml"))
    (tmp_path / "data" / "tiny" / "test").mkdir(parents=True)
    (tmp_path / "data" / "tiny" / "test" / "meta_expressions.json").write_text("{}")
    assert [*project.transfer] == ["data/mine"]


def test_other_values_are_checked_again(content):
    data = config.check(content, "params.yaml").active.data
    assert bounds.changed(data, frames=9).frames == 9
    with pytest.raises(ValueError, match="^frames: frames of 128 x 128 must have at most .*, got 4000$"):
        bounds.changed(data, frames=4000)
    with pytest.raises(ValueError, match="^val: should be greater than or equal to 1, got 0$"):
        bounds.changed(data.splits, val=0)


# -- files that are no parameters --------------------------------------------------------------------------------------


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", ", line 2: expected ',' or ']'"),
        ("a:\n\tb: 1\n", ", line 2: found character '.t'"),
        ("a: 1\na: 2\n", ', line 2: found duplicate key "a"'),
        ("a: !!python/object/apply:os.getcwd []\n", ", line 1: could not determine a constructor"),
        ("a: *b\n", ", line 1: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", ", line 2: but found another document"),
        ("a: '\xe4'\n".encode("latin1"), ": unacceptable character #x00e4"),
        ("a: 1" + "1" * 5000, ": Exceeds the limit"),
        ("a: " + "[" * 2000 + "]" * 2000, ": maximum recursion depth exceeded"),
        ("# a\n" * 60_000, ": 240000 bytes, at most 200000 are read"),
        (LAUGHS, ": [0-9]+ values with every alias written out, at most 200000 are read"),
        (LAUGHS.replace("[x, x, x, x, x, x, x, x]", "{k: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n"), "alias"),
        ("", "\\(top\\): should be a valid dictionary"),
        ("[1]", "\\(top\\): should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_parameters_is_named(tmp_path: Path, text: str | bytes, message: str):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        config.load(path)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < 1000
