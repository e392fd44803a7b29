"""Tensors are read as they are, or refused: by value, by size, by what the file is."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from reviosa_core.data.files import KINDS, ZIP
from reviosa_core.schema import DataError
from reviosa_core.weights import files
from reviosa_core.weights.files import Weights

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_values_that_are_none_are_counted_when_they_are_read(tmp_path: Path, dtype, value: float, suffix: str):
    """Not before: names and shapes are known without reading."""
    tensors = {"right": torch.randn(3, 5).to(dtype), "wrong": torch.randn(2, 7).to(dtype)}
    tensors["wrong"][1, 3:5] = value
    path = tmp_path / f"weights{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    stored = Weights.at(path)
    assert torch.equal(stored["right"], tensors["right"])
    with pytest.raises(DataError, match=rf"weights\{suffix}: wrong: 2 of 14 values are NaN or infinite$"):
        stored["wrong"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_large_values_are_finite(tmp_path: Path, dtype):
    """Up to the largest that the type has; and integers and nothing at all are left alone."""
    largest = torch.full((3, 5), torch.finfo(dtype).max, dtype=dtype)
    tensors = {"large": largest, "none": torch.zeros(0, 3), "whole": torch.tensor([2**62, 2**62])}
    save_file(tensors, tmp_path / "weights.safetensors")
    assert all(
        torch.equal(found, tensors[name]) for name, found in Weights.at(tmp_path / "weights.safetensors").items()
    )


def test_opposite_infinities_do_not_cancel():
    with pytest.raises(DataError, match="here: 2 of 2 values"):
        files.finite(torch.tensor([float("inf"), -float("inf")]), "here")


def sparse() -> Tensor:
    return torch.eye(3).to_sparse()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**12), "claims 4,000,000,000,000 bytes, the file holds 4 of it"),
        (torch.zeros(3, device="meta"), "is of type"),
        (sparse(), "is of type torch.sparse_coo"),
        (torch.zeros(3, dtype=torch.complex64), "is of type torch.complex64"),
        (torch.zeros(3, dtype=torch.bool), "is of type torch.bool"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_pickled_tensor_is_a_plain_one_of_its_size(tmp_path: Path, tensor: Tensor, message: str):
    torch.save({"model": {"x": tensor}}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=rf"a\.pt: .*{message}"):
        Weights.at(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a" * 300, "\x1b[2Ja", "a\nb", 3])
def test_names_are_short_and_printable(tmp_path: Path, name: object):
    torch.save({name: torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="a tensor is called .{1,80}; 256 printable") as error:
        Weights.at(tmp_path / "a.pt")
    assert str(error.value).isprintable()
    if isinstance(name, str):
        save_file({name: torch.zeros(1)}, tmp_path / "a.safetensors")
        with pytest.raises(DataError, match="a tensor is called .{1,80}; 256 printable"):
            Weights.at(tmp_path / "a.safetensors")


def test_an_archive_that_unpacks_to_more_than_itself(tmp_path: Path):
    path = tmp_path / "bomb.pt"
    torch.save({"x": torch.zeros(9)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content + (bytes(10**7) if name.endswith("data.pkl") else b""))
    with pytest.raises(DataError, match=r"bomb\.pt: .*an archive of [\d,]+ bytes that unpacks to 10,00"):
        Weights.at(path)


class Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.touch, (self.folder / "ran",)


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE")  # an error would hide what it does
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("forced", ["0", "1"])
def test_no_environment_makes_a_pickle_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str, old: bool):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    held = io.BytesIO()
    torch.save({"model": Evil(tmp_path)}, held, _use_new_zipfile_serialization=not old)
    (tmp_path / "evil.pt").write_bytes(held.getvalue())
    with pytest.raises(DataError, match=r"evil\.pt: not weights that can be loaded safely") as error:
        Weights.at(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    assert not any(word in str(error.value) for word in ("weights_only", "trust", "allowlist", "add_safe_globals"))


class Stored:
    """Pickles as a call of something with these arguments."""

    def __init__(self, call: Callable, *given: object) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> tuple:
        return self.call, self.given


@pytest.mark.parametrize("value", [np.float64(0.573), np.float32(0.5), np.int64(-7), np.bool_(True)])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_number_of_numpys_beside_the_weights_is_read(tmp_path: Path, value: np.generic, module: str):
    """As SOC's files for A2D keep their best score, by numpy 1 or 2."""
    given, path = torch.randn(2, 3), tmp_path / "best.pth"
    torch.save({"model_state_dict": {"w": given}, "best_mAP": value}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"numpy._core.multiarray", module.encode()))
    assert torch.equal(Weights.at(path)["w"], given)
    (built,) = [x for x in files.BESIDE if isinstance(x, tuple) and x[1] == f"{module}.scalar"]
    assert built[0](files._Number(value.dtype.str[1:]), value.tobytes()) == value.item()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (Stored(np.frombuffer, b"12345678"), r"it names numpy\.frombuffer, which is no tensor"),
        (Stored(np.dtype, "O"), "it holds numpy's 'O', not one of f8"),
        (Stored(np.dtype, "f8,O"), "it holds numpy's 'f8,O'"),
        (Stored(np.dtype, {"names": ["a"], "formats": ["O"]}), "it holds numpy's"),
        (np.dtype(">f8"), "that is not little-endian"),
        (np.zeros(3), r"it names numpy\.\w+\.multiarray\._reconstruct, which is no tensor"),
    ],
)
def test_nothing_else_of_numpys_is_read(tmp_path: Path, stored: object, message: str):
    path = tmp_path / "best.pth"
    torch.save({"model": {"w": torch.zeros(1)}, "best_mAP": stored}, path)
    with pytest.raises(DataError, match=message):
        Weights.at(path)


def test_a_header_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file({f"t{i}": torch.zeros(1) for i in range(50)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(files, "HEADER_BYTES", 2000)
    with pytest.raises(DataError, match=r"a\.safetensors: its header has [\d,]+ bytes, more than the 2,000"):
        Weights.at(tmp_path / "a.safetensors")


PAGES = {b"<!DOCTYPE html>": "a web page", b"<html>": "a web page"}


@pytest.mark.parametrize(("begins", "said"), [pair for pair in {**KINDS, **PAGES}.items() if pair[0] != ZIP])
def test_what_lies_in_the_place_of_weights_is_said(tmp_path: Path, begins: bytes, said: str):
    for name in ("model.safetensors", "sam2.pt"):
        (tmp_path / name).write_bytes(begins + bytes(99))
        with pytest.raises(DataError, match=re.escape(f"{name}: this is {said}")):
            Weights.at(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (65504.0, torch.float16, None),
        (65520.0, torch.float16, r"x\.st: a: 1 of 3 values are beyond float16, as 65520 > 65504"),
        (3.4e38, torch.bfloat16, "1 of 3 values are beyond bfloat16"),
        (-1e39, torch.float32, "1 of 3 values are beyond float32"),
    ],
)
def test_a_precision_that_does_not_hold_a_value_is_named(value: float, dtype: torch.dtype, message: str | None):
    given = torch.tensor([1.0, value, 2.0], dtype=torch.float64 if dtype == torch.float32 else torch.float32)
    weights = files.of({"a": given}, Path("x.st"))
    if message is None:
        assert weights.cast("a", dtype).tolist() == [1.0, value, 2.0]
    else:
        with pytest.raises(DataError, match=message):
            weights.cast("a", dtype)
