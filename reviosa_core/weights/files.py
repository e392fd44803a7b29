"""Tensors in files: read by name, one at a time, and written shard by shard. Nothing here knows a model."""

from __future__ import annotations

import math
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from reviosa_core.data.files import ZIP, head, known
from reviosa_core.data.jsonfile import read_json, to_json
from reviosa_core.model.described import cut, short
from reviosa_core.schema import DataError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
SHARD_BYTES = 2**30
HEADER_BYTES = 2**24  # a thousand tensors take 0.1 MB
JSON_BYTES = 2**26  # Qwen2's tokenizer.json takes 7 MB
NAME = 256  # characters


@dataclass(frozen=True)
class Entry:
    """What is known of a tensor before it is read, how to read it, and what it is called in the file."""

    source: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def chunk(self, index: int, count: int) -> Entry:
        """One of `count` equal parts along the first axis. DataError where it has no such."""
        if not self.shape or self.shape[0] % count:
            raise DataError(f"tensor {self.source} is {self.shape}, its first axis must divide by {count}")
        shape = (self.shape[0] // count, *self.shape[1:])
        return replace(self, shape=shape, read=lambda: self.read().chunk(count)[index])


@dataclass(frozen=True)
class Weights(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for; `entries` without reading any."""

    path: Path
    entries: Mapping[str, Entry]

    @staticmethod
    def at(path: str | Path) -> Weights:
        """A folder with model.safetensors or with shards and their index, a .safetensors file, or a .pt or .pth with a
        state dict at the top, under "model" or under "model_state_dict".

        Raises DataError naming file and tensor: no weights, a missing or truncated shard, a tensor that is not where
        the index says, a pickle that holds more than tensors.
        """
        path = Path(path)
        if not path.is_file() and not path.is_dir():
            raise DataError(f"{path}: no such file or folder")
        return Weights(path, _pickled(path) if path.suffix in (".pt", ".pth", ".bin", ".tar") else _stored(path))

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def cast(self, name: str, dtype: torch.dtype) -> Tensor:
        """A copy in this precision. DataError for values beyond it."""
        return narrowed(self[name], dtype, f"{self.path}: {self.entries[name].source}")

    def named(self, rename: Callable[[str], str | None]) -> Weights:
        """The tensors that `rename` gives a name, under that name. DataError when two get the same."""
        entries: dict[str, Entry] = {}
        for old, entry in self.entries.items():
            new = rename(old)
            if new in entries:
                raise DataError(f"{self.path}: {entries[new].source} and {entry.source} are both {new} of the model")
            if new is not None:
                entries[new] = entry
        return Weights(self.path, entries)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise DataError unless these are exactly the tensors of a model, all of its shapes."""
        if unknown := [entry.source for name, entry in self.entries.items() if name not in shapes]:
            more = f", nor have {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise DataError(f"{self.path}: tensor {cut(unknown[0], NAME)} has no place in the model{more}")
        if absent := sorted(shapes.keys() - self.entries.keys()):
            raise DataError(f"{self.path}: {len(absent)} of {len(shapes)} tensors missing, first {absent[0]}")
        for name, entry in self.entries.items():
            if entry.shape != tuple(shapes[name]):
                there = short(entry.shape) if len(entry.shape) > 5 else entry.shape
                raise DataError(f"{self.path}: {entry.source} is {there}, {name} of the model is {tuple(shapes[name])}")

    def write(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        """Into model.safetensors, or into shards of at most `shard_bytes` (or one tensor) and their index. What is in
        memory at any time is one shard."""
        for old in (*folder.glob("model-*-of-*.safetensors"), folder / SINGLE, folder / INDEX):
            old.unlink(missing_ok=True)  # an earlier index would be read in the place of a new single file
        shards: list[list[str]] = [[]]
        held = 0
        for name, entry in self.entries.items():
            if shards[-1] and held + entry.nbytes > shard_bytes:
                shards.append([])
                held = 0
            shards[-1].append(name)
            held += entry.nbytes
        files = (
            [SINGLE]
            if len(shards) == 1
            else [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        )
        for file, names in zip(files, shards, strict=True):
            save_file({name: self[name].contiguous() for name in names}, folder / file, {"format": "pt"})
        if len(files) > 1:
            index = {
                "metadata": {"total_size": sum(entry.nbytes for entry in self.entries.values())},
                "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
            }
            (folder / INDEX).write_text(to_json(index) + "\n")


def of(tensors: Mapping[str, Tensor], path: Path) -> Weights:
    """Tensors that are in memory already; `path` is what errors call them."""
    return Weights(path, {n: Entry(n, tuple(t.shape), t.dtype, lambda t=t: t) for n, t in tensors.items()})


def files_of(path: Path) -> dict[Path, set[str] | None]:
    """The safetensors files of a file or folder, and the tensors each must hold (None: whatever it holds)."""
    if path.is_file():
        return {path: None}
    if not (path / INDEX).is_file():
        if not (path / SINGLE).is_file():
            raise DataError(f"{path}: no {SINGLE} and no {INDEX}")
        return {path / SINGLE: None}
    index = described(path / INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise DataError(f"{path / INDEX}: no 'weight_map'")
    by_file: dict[Path, set[str] | None] = {}
    for name, file in index.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise DataError(f"{path / INDEX}: {cut(name)} is in {short(file)}, which is not a plain file name")
        names = by_file.setdefault(path / file, set())
        assert names is not None
        names.add(name)
    if missing := [file.name for file in by_file if not file.is_file()]:
        raise DataError(f"{path}: {len(missing)} of {len(by_file)} shards missing, first {missing[0]}")
    return by_file


def usable(file: Path, limit: int | None = None) -> None:
    """Raise DataError, saying what is there instead, unless a file is a plain one of at most `limit` bytes."""
    if not file.is_file():
        raise DataError(f"{file}: {'not a plain file' if file.exists() else 'no such file'}")
    start = head(file)
    if (found := known(start)) is not None and not start.startswith(ZIP):  # which PyTorch's own files are
        raise DataError(f"{file}: this is {found}")
    if limit is not None and (size := file.stat().st_size) > limit:
        raise DataError(f"{file}: {size:,} bytes, more than the {limit:,} that are read")


def described(file: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """A JSON object that describes weights. DataError for a file that is none, or too large to be one."""
    usable(file, limit)
    return read_json(file)


def _stored(path: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for file, names in files_of(path).items():
        with _open(file) as shard:
            there = set(shard.keys())
            if absent := sorted((names or set()) - there):
                raise DataError(f"{file}: {len(absent)} tensors of the index are not in it, first {cut(absent[0])}")
            if names is not None and (extra := sorted(there - names)):
                raise DataError(f"{file}: {len(extra)} tensors that the index does not have, first {cut(extra[0])}")
            for name in sorted(there):
                part = shard.get_slice(name)
                if part.get_dtype() not in DTYPES:
                    raise DataError(f"{file}: {name} is of type {part.get_dtype()}, not one of {list(DTYPES)}")
                shape, dtype = tuple(part.get_shape()), DTYPES[part.get_dtype()]
                found[_named(file, name)] = Entry(name, shape, dtype, lambda file=file, name=name: _read(file, name))
    return found


def _named(file: Path, name: Any) -> str:
    if not isinstance(name, str) or not name.isprintable() or len(name) > NAME:
        raise DataError(f"{file}: a tensor is called {short(name)}; {NAME} printable characters are allowed")
    return name


def _read(file: Path, name: str) -> Tensor:
    with _open(file) as shard:
        return finite(shard.get_tensor(name), f"{file}: {name}")


def finite(tensor: Tensor, where: str) -> Tensor:
    """The tensor itself. DataError saying how many of its values are NaN or infinite, where any are."""
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.aminmax()  # one pass without a copy; NaN is both
        if not (low.isfinite() and high.isfinite()):
            wrong = tensor.numel() - int(tensor.isfinite().sum())
            raise DataError(f"{where}: {wrong:,} of {tensor.numel():,} values are NaN or infinite")
    return tensor


def narrowed(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """A copy in this precision. DataError where finite values become infinite, as above 65504 in float16."""
    made = tensor.to(dtype, copy=True)
    if tensor.is_floating_point() and torch.finfo(dtype).max < torch.finfo(tensor.dtype).max:
        if beyond := int((tensor.isfinite() & ~made.isfinite()).sum()):
            largest, end, name = tensor.abs().max().item(), torch.finfo(dtype).max, str(dtype).removeprefix("torch.")
            raise DataError(
                f"{where}: {beyond} of {tensor.numel()} values are beyond {name}, as {largest:.6g} > {end:.6g}"
            )
    return made


def _open(file: Path) -> Any:
    usable(file)
    with file.open("rb") as opened:
        claimed, size = int.from_bytes(opened.read(8), "little"), file.stat().st_size
    if claimed > size - 8:
        raise DataError(f"{file}: not safetensors, or cut: its header claims {claimed:,} bytes, the file has {size:,}")
    if claimed > HEADER_BYTES:
        raise DataError(f"{file}: its header has {claimed:,} bytes, more than the {HEADER_BYTES:,} that are read")
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError, MemoryError) as error:
        raise DataError(f"{file}: {cut(str(error), 200)}") from None


def _pickled(path: Path) -> dict[str, Entry]:
    usable(path)
    try:
        _same_size_unpacked(path)
        # Said here, so that no environment variable can unsay it.
        with torch.serialization.safe_globals(BESIDE):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a zip, pickle or safety error, by how the file is broken
        raise DataError(f"{path}: not weights that can be loaded safely: {_cause(error)}") from None
    kept = content if isinstance(content, dict) else {}
    state = kept.get("model", kept.get("model_state_dict", content))
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"{path}: no state dict, neither at the top nor under 'model' or 'model_state_dict'")
    entries = of({_named(path, name): _plain(path, name, tensor) for name, tensor in state.items()}, path).entries
    return {
        name: replace(entry, read=lambda entry=entry: finite(entry.read(), f"{path}: {entry.source}"))
        for name, entry in entries.items()
    }


class _Number:
    """What a pickle calls numpy.dtype, of plain numbers only: no object is made from a file, and no state is taken."""

    def __init__(self, kind: object, *_: object) -> None:
        if kind not in NUMBERS:
            raise DataError(f"it holds numpy's {short(kind)}, not one of {', '.join(NUMBERS)}")
        self.kind = np.dtype(str(kind)).newbyteorder("<")

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|"):
            raise DataError("it holds a number of numpy's that is not little-endian")


def _scalar(kind: _Number, held: bytes) -> int | float | bool:
    """What a pickle calls numpy's scalar: a score, say, that was kept beside the weights."""
    return np.frombuffer(held, kind.kind, 1)[0].item()


NUMBERS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
BESIDE: list[Any] = [  # of what else a pickle may name
    Namespace,  # a command line's options
    (_Number, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),  # numpy 1
    (_scalar, "numpy._core.multiarray.scalar"),
]


def _same_size_unpacked(path: Path) -> None:
    """Torch stores, it never compresses: an archive that unpacks to more than itself is not torch's."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if unpacked > size:
            raise DataError(f"an archive of {size:,} bytes that unpacks to {unpacked:,}")


def _plain(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A tensor that is as large in the file as it says. DataError otherwise."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.dtype not in DTYPES.values():
        kind = tensor.dtype if tensor.layout == torch.strided and not tensor.is_meta else tensor.layout
        raise DataError(f"{path}: {name} is of type {kind}, not one of {list(DTYPES)}")
    if tensor.nbytes > (held := tensor.untyped_storage().nbytes()):
        raise DataError(f"{path}: {name} claims {tensor.nbytes:,} bytes, the file holds {held:,} of it")
    return tensor.detach()


def _cause(error: Exception) -> str:
    """Why torch refused. Its own text goes on to say how to load unsafely, and is not repeated."""
    if isinstance(error, DataError):
        return str(error)
    text = " ".join(str(error).split())
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it names {cut(found[1])}, which is no tensor"
    if "mmap can only be used" in text:
        return "it is no archive such as torch has written since 1.6"
    return f"it is broken, cut, or no file of torch's ({type(error).__name__})"
