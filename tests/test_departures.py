"""docs/departures.md and docs/reliability.md name files and tests; they must be there, or the pages have rotted."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

HEAD = ["what", "the paper says", "the released code does", "we do", "why", "where", "test"]


def rows(page: str) -> list[list[str]]:
    """The cells of every row of every table; heads and rules are checked and left out."""
    found = []
    for line in page.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            assert len(cells) == len(HEAD), line
            if cells != HEAD and set(line) - set("|-"):
                found.append(cells)
    return found


def problems(row: list[str], root: Path) -> list[str]:
    """What a row names that is not there; or empty cells."""
    found = [f"{row[0]}: no {name}" for name, cell in zip(HEAD, row, strict=True) if not cell]
    files, tests = (re.findall(r"`([^`]+)`", cell) for cell in row[-2:])
    if not files or not tests:
        found.append(f"{row[0]}: names {len(files)} files and {len(tests)} tests")
    found += [f"{row[0]}: no file {name}" for name in files if not (root / name).is_file()]
    return found + [f"{row[0]}: no test {name}" for name in tests if not is_test(name, root)]


def test_attention_is_set_beside_quality_without_aml_and_over_area(root: Path):
    """What the row on B.1 says is what the notebook does: nothing else would hold it."""
    (row,) = (
        r for r in rows((root / "docs" / "departures.md").read_text()) if r[0].startswith("attention against score")
    )
    assert "without AML" in row[3] and "over the object's area" in row[3] and "**Open**" not in row[4]
    cells = nbformat.read(root / "notebooks" / "06_ablations.ipynb", as_version=4).cells
    (cell,) = (c.source for c in cells if "attention_vs_quality(" in c.source)
    assert 'measured["without AML"].assign(lift=lambda m: m.own / m.vision / m.own_area)' in cell
    assert 'rows["tokens"]' in cell


def is_test(name: str, root: Path) -> bool:
    """Whether "path::function" is there."""
    path, _, function = name.partition("::")
    tree = ast.parse((root / path).read_text() if (root / path).is_file() else "")
    return function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_every_row_names_files_and_tests_that_are_there(root: Path):
    page = (root / "docs" / "departures.md").read_text()
    found = rows(page)
    assert len(found) > 40 and page.count("| " + " | ".join(HEAD) + " |") == page.count("\n|---")
    assert not (broken := [line for row in found for line in problems(row, root)]), "\n" + "\n".join(broken)


def test_every_promise_names_a_test_that_is_there(root: Path):
    page = (root / "docs" / "reliability.md").read_text()
    promises = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    named = [re.search(r"`(tests/[^`]+)` \|$", line) for line in promises]
    assert len(promises) > 20 and all(named)
    assert not [found[1] for found in named if found and not is_test(found[1], root)]


def test_no_two_rows_of_a_table_have_one_name(root: Path):
    for table in (root / "docs" / "departures.md").read_text().split("\n## ")[1:]:
        names = [row[0] for row in rows(table)]
        assert len(names) == len(set(names)), names


@pytest.mark.parametrize(
    ("where", "test", "message"),
    [
        ("`params.yaml`", "`tests/test_departures.py::test_nothing`", "no test tests/test_departures.py::test_nothing"),
        ("`params.yaml`", "`tests/gone.py::test_it`", "no test tests/gone.py::test_it"),
        ("`params.yaml`", "`tests/test_departures.py`", "no test tests/test_departures.py"),
        ("`params.yml`", "`tests/test_departures.py::test_a_broken_row_is_seen`", "no file params.yml"),
        ("`docs`", "`tests/test_departures.py::test_a_broken_row_is_seen`", "no file docs"),
        ("params.yaml", "`tests/test_departures.py::test_a_broken_row_is_seen`", "names 0 files and 1 tests"),
        ("", "`tests/test_departures.py::test_a_broken_row_is_seen`", "no where"),
    ],
)
def test_a_broken_row_is_seen(root: Path, where: str, test: str, message: str):
    row = ["what", "paper", "code", "we", "why"]
    assert any(message in line for line in problems([*row, where, test], root))
    assert not problems([*row, "`params.yaml`", "`tests/test_departures.py::test_a_broken_row_is_seen`"], root)
