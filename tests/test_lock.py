"""requirements.lock installs on any Python 3.11, from any index that has the very files it names."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# A line as pip reads it: continued where it ends in a backslash.
LINES = (Path(__file__).parents[1] / "requirements.lock").read_text().replace("\\\n", "").splitlines()
PINS = [line.split()[0] for line in LINES]


def test_names_and_versions_and_nothing_else():
    assert len(PINS) > 100 and len(set(PINS)) == len(PINS)
    assert not [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.!+-]+", pin)]


def test_every_line_has_its_hashes():
    """One line without would be refused, and one that is not sha256 would be weaker."""
    hashes = {pin: line.split()[1:] for pin, line in zip(PINS, LINES, strict=True)}
    assert not [pin for pin, own in hashes.items() if not own or len(set(own)) != len(own)]
    assert not [own for own in sum(hashes.values(), []) if not re.fullmatch("--hash=sha256:[0-9a-f]{64}", own)]
    assert "sam2==1.1.0" in hashes, "the source package too"


@pytest.mark.parametrize("pin", PINS)
def test_what_is_pinned_is_installed_and_takes_every_python_3_11(pin: str):
    """Debian 12's own Python is 3.11.2: a pin that wants 3.11.5 cannot be installed there."""
    name, version = pin.split("==")
    found = distribution(name)
    assert found.version == version
    assert SpecifierSet(found.metadata.get("Requires-Python") or "").contains("3.11.0")


def test_what_the_project_asks_for_is_pinned(root: Path):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    asked = [Requirement(text) for text in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"])]
    pinned = {canonicalize_name(name): version for name, _, version in (pin.partition("==") for pin in PINS)}
    assert len(asked) > 30
    assert not [r for r in asked if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "missing"))]
