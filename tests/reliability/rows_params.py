"""Parameters: a params.yaml that is none, or whose numbers break a rule. Nothing is made before it is right."""

from __future__ import annotations

from pathlib import Path

from bad_input import Row

ROOT = Path(__file__).parents[2]


def intershapes(folder: Path, old: str, new: str, *options: object) -> list[object]:
    """A command that reads params.yaml, of which some text is exchanged."""
    text = (ROOT / "params.yaml").read_text()
    assert old in text, old
    (folder / "params.yaml").write_text(text.replace(old, new, 1))
    return ["data", "intershapes", folder / "out", "--split", "test", "--profile", "smoke", *options]


ROWS = [
    Row(
        "parameters that are no YAML",
        lambda f: intershapes(f, "seeds: [1, 2]", "seeds: [1, 2"),
        r"params.yaml, line \d+: expected ',' or '\]'",
    ),
    Row(
        "parameters with a key twice",
        lambda f: intershapes(f, "reports: reports", "reports: reports\nreports: other"),
        'params.yaml, line 6: found duplicate key "reports"',
    ),
    Row(
        "parameters with a negative split",
        lambda f: intershapes(f, "test: 4, shift: 3", "test: -4, shift: 3"),
        "profiles.smoke.data.splits.test: should be greater than or equal to 1, got -4",
    ),
    Row(
        "parameters with heads that do not divide",
        lambda f: intershapes(f, "heads: 4, kv_heads: 2, ffn: 96", "heads: 5, kv_heads: 1, ffn: 96"),
        "profiles.smoke.model.mllm.language.heads: must divide hidden 64, got 5",
    ),
    Row(
        "a study on a backbone that nobody describes",
        lambda f: intershapes(f, "backbones: [read12, read37", "backbones: [read12, read38"),
        r"studies.runs.grounding.backbones: must be among backbones, \[.*\], got \['read38'\]",
    ),
    Row(
        "parameters with a form of AML that is none",
        lambda f: intershapes(f, "kl: {aml_form: kl}", "kl: {aml_form: klm}"),
        "studies.rules.kl.aml_form: should be 'bce', 'renormalised', 'kl' or 'mass', got 'klm'",
    ),
    Row(
        "parameters with a rate that is no number",
        lambda f: intershapes(f, "lr: 1.5e-3", "lr: .nan"),
        "profiles.smoke.train.lr: should be .*got nan",
    ),
    Row(
        "query systems whose heads do not divide",
        lambda f: intershapes(f, "dim: 16\n      heads: 4", "dim: 16\n      heads: 5"),
        "profiles.smoke.baselines.heads: must divide dim 16, got 5",
    ),
    Row(
        "query systems with a width that SOC cannot halve four times",
        lambda f: intershapes(f, "dim: 16\n      heads: 4", "dim: 24\n      heads: 4"),
        "profiles.smoke.baselines.dim: must be a multiple of 16: .* got 24",
    ),
    Row(
        "query systems that are shown more frames than there are",
        lambda f: intershapes(f, "mask_stride: 2\n      shown: 2", "mask_stride: 2\n      shown: 5"),
        "profiles.smoke.baselines.shown: must not exceed data.frames 4, got 5",
    ),
    Row(
        "query systems with ReVIOSa's rates",
        lambda f: intershapes(f, "train: {steps: 3,", "train: {decoder_lr: 1.0e-3, steps: 3,"),
        "profiles.smoke.baselines.train.decoder_lr: Extra inputs are not permitted",
    ),
    Row(
        "parameters with a seed below zero",
        lambda f: intershapes(f, "smoke:\n    seed: 0", "smoke:\n    seed: -1"),
        "profiles.smoke.seed: should be greater than or equal to 0, got -1",
    ),
    Row(
        "parameters with fewer objects than pairs need",
        lambda f: intershapes(f, "objects: [3, 5]", "objects: [3, 3]"),
        r"difficulties.standard.objects: 2 interacting pairs need 4 objects, got \(3, 3\)",
    ),
    Row(
        "clips too long to be made in memory",
        lambda f: intershapes(f, "seed: 0", "seed: 0", "--frames", 10_000_000),
        "frames: should be less than or equal to 4096, got 10000000",
    ),
    Row(
        "clips too many",
        lambda f: intershapes(f, "seed: 0", "seed: 0", "--clips", 10**12),
        "test: should be less than or equal to 10000000, got 10{12}",
    ),
    Row(
        "parameters with a truth for a number",
        lambda f: intershapes(f, "seed: 0", "seed: true"),
        "seed: should be a number, got True",
    ),
]  # fmt: skip
