from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from reviosa_core import config
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
    assert {name: (row.roles, row.aml) for name, row in experiments.items()} == {
        "baseline": ((Role.ACTOR,), False),
        "aml": ((Role.ACTOR,), True),
        "tokens": ((Role.ACTOR, Role.TARGET), False),
        "full": ((Role.ACTOR, Role.TARGET), True),
    }


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
    with pytest.raises(ValueError, match="profile is 'huge', but profiles has .*'smoke'.*'tiny'"):
        config.load(params(("profile: tiny", "profile: huge")))


def test_parameters_are_frozen(params):
    with pytest.raises(ValueError, match="frozen"):
        config.load(params()).active.train.steps = 1
