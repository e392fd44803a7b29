"""Checkpoints: broken, cut, not what their names say, and hostile."""

from __future__ import annotations

import atexit
import functools
import gzip
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bad_input import Row, spoil
from PIL import Image

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
CALL = "\\${oc.create:{_target_: os.mkdir, path: ran}}"  # was text when checked, and code when built


@functools.cache
def whole() -> Path:
    """A small model's folder, made once and copied."""
    import tiny
    import torch

    from reviosa_core.model.reviosa import ReVIOSa
    from reviosa_core.schema import Role
    from reviosa_core.weights import folders

    made = Path(tempfile.mkdtemp(prefix="rows_weights"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    torch.manual_seed(0)
    folders.save(ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=2), made / "ck")
    return made / "ck"


def checkpoint(folder: Path, change: Callable[[Path], object]) -> Path:
    made = shutil.copytree(whole(), folder / "ck")
    change(made)
    return made


def inspect(change: Callable[[Path], object]) -> Callable[[Path], list[object]]:
    return lambda folder: ["weights", "inspect", checkpoint(folder, change)]


def convert(change: Callable[[Path], object]) -> Callable[[Path], list[object]]:
    return lambda folder: ["weights", "convert", checkpoint(folder, change), folder / "out", "--to", "reviosa-hf"]


def predict(change: Callable[[Path], object]) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / "clip").mkdir()
        for name in ("0.png", "1.png"):
            Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / "clip" / name)
        found = checkpoint(folder, change)
        words = ["predict", "--video", folder / "clip", "--text", "the red one", "--device", "cpu"]
        return [*words, "--checkpoint", found, "--out", folder / "out"]

    return make


def one(name: str, make: Callable[[Path], object]) -> Callable[[Path], list[object]]:
    """`weights inspect` on a single file."""

    def given(folder: Path) -> list[object]:
        make(folder / name)
        return ["weights", "inspect", folder / name]

    return given


def said(**changes: Any) -> Callable[[Path], object]:
    """Changes to reviosa.json by dotted name."""

    def change(about: dict) -> None:
        for name, value in changes.items():
            *way, last = name.split("__")
            functools.reduce(lambda inside, key: inside[key], way, about)[last] = value

    return lambda folder: spoil(folder / "reviosa.json", change)


def tensors(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors")

    return rewrite


def poisoned(found: dict) -> None:
    weight = found["segmenter.sam.no_mem_embed"]
    weight[0, 0, 3], weight[0, 0, 5] = float("nan"), float("inf")


def claims(size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + b'{"a":1}')


def cut(name: str, length: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


def written(name: str, content: bytes | str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def zipped(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(gzip.compress(file.read_bytes(), 1))


def renamed(folder: Path, token: str) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace(token, "[ELSE]"))


def tokenizer(**sections: Any) -> Callable[[Path], object]:
    return lambda folder: spoil(folder / "tokenizer.json", lambda raw: raw.update(sections))


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def too_large(found: dict) -> None:
    found["segmenter.sam.no_mem_embed"] = found["segmenter.sam.no_mem_embed"].double()
    found["segmenter.sam.no_mem_embed"][0, 0, 3] = 1e300


def pickled(content: object) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        import torch

        torch.save(content, path)

    return save


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


ABOUT = r"ck/reviosa\.json: "
BLOCK = "sam2__memory_encoder__fuser__layer"
DEEP = {"a": "\\${oc.env:HOME}", "_target_": "os.system"}
NAN = r"ck/model\.safetensors: segmenter\.sam\.no_mem_embed: 2 of 32 values are NaN or infinite$"

ROWS = [
    # A description is data.
    Row(
        "sam2 interpolated",
        predict(said(**{BLOCK: CALL})),
        ABOUT + r"sam2\.memory_encoder\.fuser\.layer: .*got .*oc\.creat",
    ),
    Row("sam2 interpolated, converted", convert(said(**{BLOCK: CALL})), ABOUT + r"sam2\.memory_encoder\.fuser\.layer"),
    Row("sam2 with a function", predict(said(**{BLOCK: DEEP})), ABOUT + r"sam2.*layer\._target_: .*got 'os\.system'"),
    Row("sam2 with an environment variable", convert(said(sam2__num_maskmem="${oc.env:HOME}")), "got '.{oc.env:HOME}'"),
    Row(
        "sam2 with a path",
        predict(said(sam2__image_encoder__trunk__weights_path="/dev/zero")),
        "trunk.weights_path: Ext",
    ),
    Row(
        "sam2 compiled", predict(said(sam2__compile_image_encoder=True)), "compile_image_encoder: Input should be False"
    ),
    Row(
        "sam2 of a million layers", predict(said(sam2__memory_attention__num_layers=10**6)), "num_layers: .*equal to 8"
    ),
    Row(
        "internvl with a function", predict(said(internvl__text_config__hidden_act="os.system")), "is 'os.system'; only"
    ),
    Row(
        "internvl of another kind",
        convert(said(internvl__text_config__model_type="evil")),
        "model_type is 'evil'; only",
    ),
    Row(
        "internvl too large", predict(said(internvl__text_config__vocab_size=10**12)), "vocab_size: .* 2097152, got 10+"
    ),
    Row("internvl of many layers", predict(said(internvl__text_config__num_hidden_layers=10**5)), "layers: .* to 128"),
    Row(
        "internvl of no size", predict(said(internvl__vision_config__hidden_size=0)), "hidden_size: .*equal to 1, got 0"
    ),
    Row("internvl missing", convert(said(internvl={})), ABOUT + r"internvl\.vision_config: Field required"),
    Row("a million frames", predict(said(frames=10**6)), ABOUT + "frames: .*1024, got 1000000"),
    Row("no actor", predict(said(roles=["target"])), r"roles are \['target'\]: each once, and an actor"),
    Row("aml on no layer", predict(said(aml=[7, [0]])), "aml is on layer 7 of 3"),
    Row("a card without end", convert(said(card={"license": "x" * 10**5})), ABOUT + "card: 'license' has more than"),
    Row("a card of another kind", convert(said(card=[1])), ABOUT + "card: at most 100 facts by name"),
    Row(
        "reviosa.json too large", inspect(written("reviosa.json", " " * 2**19)), "524,288 bytes, more than the 262,144"
    ),
    Row("reviosa.json left behind by git", inspect(written("reviosa.json", LFS)), ABOUT + "this is a Git LFS pointer"),
    Row(
        "a pipe in place of reviosa.json",
        inspect(lambda folder: ((folder / "reviosa.json").unlink(), os.mkfifo(folder / "reviosa.json"))),
        ABOUT + "not a plain file",
    ),
    # Values.
    Row("weights with NaN", predict(tensors(poisoned)), NAN),
    Row("weights with NaN, converted", convert(tensors(poisoned)), NAN),
    # Files that are not what they should be.
    Row(
        "weights left behind by git",
        inspect(written("model.safetensors", LFS)),
        r"safetensors: this is a Git LFS pointer",
    ),
    Row("weights compressed", predict(zipped), r"model\.safetensors: this is compressed \(gzip\)"),
    Row("a web page for weights", inspect(written("model.safetensors", "<!DOCTYPE html>")), "this is a web page"),
    Row(
        "weights cut",
        predict(cut("model.safetensors", 5000)),
        r"safetensors: .*claims [\d,]+ bytes, the file has 5,000",
    ),
    Row("weights of nothing", inspect(cut("model.safetensors", 0)), r"safetensors: .*claims 0 bytes, the file has 0"),
    Row("a header of petabytes", convert(claims(2**50)), "claims 1,125,899,906,842,624 bytes, the file has 15"),
    Row("a header that is no header", inspect(claims(7)), r"ck/model\.safetensors: "),
    Row(
        "a pickle with a program",
        one("a.pt", pickled({"model": Evil()})),
        "safely: it names .*mkdir, which is no tensor$",
    ),
    Row("a pickle of numbers", one("b.pt", pickled({"model": {"x": 1}})), r"b\.pt: no state dict"),
    Row(
        "a pickle that is none",
        one("c.pt", lambda f: f.write_text("x" * 99)),
        r"c\.pt: .*it is no archive such as torch",
    ),
    Row("a pickle left behind by git", one("d.pt", lambda f: f.write_text(LFS)), r"d\.pt: this is a Git LFS pointer"),
    Row("a pipe", one("e.pt", os.mkfifo), r"e\.pt: no such file or folder"),
    # Tokenizers.
    Row("a tokenizer with code", predict(written("tokenizer_config.json", '{"auto_map": {}}')), "auto_map names code"),
    Row("a tokenizer that is none", predict(written("tokenizer.json", "no")), r"ck/tokenizer\.json: "),
    Row("a tokenizer cut", convert(cut("tokenizer.json", 900)), r"ck/tokenizer\.json: "),
    Row("a tokenizer of nothing", convert(written("tokenizer.json", "{}")), r"ck/tokenizer\.json: no tokenizer: "),
    Row(
        "a tokenizer left behind by git",
        predict(written("tokenizer.json", LFS)),
        r"tokenizer\.json: this is a Git LFS pointer",
    ),
    Row(
        "a tokenizer whose regular expression takes for ever",
        predict(tokenizer(pre_tokenizer=split(r"(.*)*(.*)*(.*)*=x"))),
        r"tokenizer\.json: pre_tokenizer: Split: pattern .*; a text, or Qwen2's regular expression, can be loaded",
    ),
    Row(
        "a tokenizer that decodes by a regular expression",
        convert(tokenizer(decoder={"type": "Sequence", "decoders": [replace("a", "") | split("(.*)*=")]})),
        r"tokenizer\.json: decoder is 'Split'; only ByteLevel",
    ),
    Row(
        "a tokenizer that makes a text longer and longer",
        predict(tokenizer(normalizer={"type": "Sequence", "normalizers": [replace("e", "ee")] * 30})),
        r"tokenizer\.json: normalizer has 30 parts, more than 16",
    ),
    Row(
        "a tokenizer that doubles letters",
        predict(tokenizer(normalizer=replace("e", "ee"))),
        r"tokenizer\.json: normalizer: Replace: content 'ee' has more than one character",
    ),
    Row(
        "a tokenizer with a table that is no table",
        predict(tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        r"tokenizer\.json: normalizer is 'Precompiled'; only NFC",
    ),
    Row(
        "a tokenizer that draws lots",
        predict(tokenizer(model={"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5})),
        r"tokenizer\.json: model: dropout 0\.5 draws lots",
    ),
    Row(
        "a tokenizer with an id beyond the embeddings",
        convert(lambda f: spoil(f / "tokenizer.json", lambda raw: raw["model"]["vocab"].update(user=9999))),
        r"tokenizer\.json: \d+ tokens with ids up to 9999: 0 and on, each once, is due",
    ),
    Row(
        "a tokenizer with an id that would be a place in a table of gigabytes",
        convert(lambda f: spoil(f / "tokenizer.json", lambda raw: raw["model"]["vocab"].update(user=2**31))),
        r"tokenizer\.json: model: token 'user' has id 2147483648; 0 to 2097152 can be loaded",
    ),
    Row(
        "a tokenizer whose listed ids are others",
        convert(lambda f: spoil(f / "tokenizer.json", lambda raw: raw["added_tokens"][0].update(id=1))),
        r"tokenizer\.json: token .* is to have id 1, and gets \d",
    ),
    Row(
        "a tokenizer that cannot write the end of an answer",
        convert(lambda f: spoil(f / "reviosa.json", lambda about: about.update(template="phi3_chat"))),
        r"tokenizer\.json: the tokenizer cannot write '<\|end\|>'",
    ),
    Row(
        "weights beyond the precision they are loaded in",
        predict(tensors(too_large)),
        r"segmenter\.sam\.no_mem_embed: 1 of 32 values are beyond float32, as 1e\+300 > 3\.40282e\+38",
    ),
]
