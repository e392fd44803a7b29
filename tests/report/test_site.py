"""`make site`: every page of the project in one folder, which opens without a server and has no dead link."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import chromium
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from reviosa_core import config
from reviosa_core.report import site
from reviosa_core.schema import DataError

NOTEBOOK = "notebooks/05_evaluate@full.html"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def notebook() -> nbformat.NotebookNode:
    """What executed notebooks hold: progress, a table, a figure, widgets, and, from data, what would be code."""
    outputs = [
        new_output("stream", name="stderr", text="\rclips:   0%"),
        new_output("stream", name="stderr", text="\rclips: 100%\n"),
        new_output("display_data", data={"text/markdown": "[findings](findings.md) ![bars](figures/ablation.png)"}),
        new_output("display_data", data={"text/html": "<table><tr><td onclick='bad()'>7</td></tr></table>"}),
        new_output("display_data", data={"image/png": PIXEL, site.WIDGETS: {"model_id": "abc"}, "text/plain": "Panel"}),
        new_output(
            "display_data", data={"text/markdown": "said: <script>bad()</script><img src='data:,' onerror='b()'>"}
        ),
    ]
    short = new_output("execute_result", data={"text/markdown": "It **sees** who acts.", "text/plain": "Markdown"})
    cells = [
        new_markdown_cell("# 05 · Evaluate\nHow good it is."),
        new_code_cell("evaluate()", outputs=outputs),
        new_markdown_cell(site.SHORT),
        new_code_cell("Markdown(said)", outputs=[short]),
    ]
    state = {site.WIDGETS.replace("view", "state"): {"state": {}, "version_major": 2, "version_minor": 0}}
    return new_notebook(cells=cells, metadata={"widgets": state})


@pytest.fixture
def project(root: Path, tmp_path: Path) -> config.Project:
    """The project's own texts and reports, and one executed notebook."""
    copy = tmp_path / "my project"
    for name in ("docs", "reports", "benchmarks"):
        shutil.copytree(root / name, copy / name)
    for path in [*root.glob("*.md"), root / "params.yaml", root / "CITATION.cff"]:
        shutil.copy(path, copy)
    params = config.load(copy / "params.yaml")
    project = config.Project(copy, params.profile, params)
    nbformat.write(notebook(), project.run("notebooks", "05_evaluate@full.ipynb"))
    return project


class Links(HTMLParser):
    """Names and links of a page, read by another parser than wrote it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.names.add(value or "")
            if name in ("href", "src"):
                self.links.append((tag, value or ""))


def dead(folder: Path) -> list[str]:
    """What links nowhere, and what would be loaded from somewhere else."""
    pages, found = {page.resolve(): Links(page) for page in folder.rglob("*.html")}, []
    for page, links in pages.items():
        for tag, link in links.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto") and tag == "a" or parts.scheme == "data" and tag == "img":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = not parts.scheme and target.is_relative_to(folder.resolve()) and target.is_file()
            named = not parts.fragment or (target in pages and unquote(parts.fragment) in pages[target].names)
            if not (there and named):
                found.append(f"{page.name}: {tag} {link[:60]}")
    return found


def test_the_whole_project_has_no_dead_link(project: config.Project, tmp_path: Path):
    out = tmp_path / "out here"
    count = site.write(project, out)
    pages = sorted(page.relative_to(out).as_posix() for page in out.rglob("*.html"))
    assert count == len(pages) and len(pages) > 15
    assert {"index.html", "LOG.html", "docs/metrics.html", NOTEBOOK} < set(pages)
    assert {"reports/README.html", "reports/intershapes.html", "reports/figures/ablation.png"} < {
        path.relative_to(out).as_posix() for path in out.rglob("*")
    }
    assert not dead(out)
    reached, todo = set(), [out / "index.html"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            linked = [(page.parent / unquote(urlsplit(link).path)).resolve() for _, link in Links(page).links]
            todo += [path for path in linked if path.suffix == ".html" and path.is_file()]
    assert {page.relative_to(out).as_posix() for page in reached} == set(pages), "the index leads everywhere"
    (out / "LOG.html").unlink()
    assert any("LOG.html" in line for line in dead(out)), "or this test would say nothing"


@pytest.mark.parametrize("cache", ["my project/.dvc/cache", "elsewhere"])
def test_a_notebook_that_is_a_link_into_dvcs_cache_is_a_page(project: config.Project, tmp_path: Path, cache: str):
    """As with `dvc config cache.type symlink`; a file there has no ending."""
    notebook, held = project.run("notebooks", "05_evaluate@full.ipynb"), tmp_path / cache / "ab" / "cdef"
    held.parent.mkdir(parents=True)
    notebook.rename(held)
    notebook.symlink_to(held)
    out = tmp_path / "out"
    site.write(project, out)
    assert not dead(out) and not [*out.rglob("cdef")]
    assert "notebooks/05_evaluate%40full.html" in [link for _, link in Links(out / "index.html").links]


def test_nothing_runs_in_it_and_nothing_is_loaded(project: config.Project, tmp_path: Path):
    site.write(project, tmp_path / "out")
    for page in (tmp_path / "out").rglob("*.html"):
        links = Links(page)
        assert not links.tags & {"script", "iframe", "object", "embed", "link", "base"}, page
        assert not [name for name in links.attributes if name.startswith("on")], page
        text = page.read_text()
        assert "default-src 'none'" in text and not re.search(r"@import|url\(", text.partition("</style>")[0]), page


def test_a_notebook_reads_as_a_page(project: config.Project, tmp_path: Path):
    site.write(project, tmp_path / "out")
    text = (tmp_path / "out" / NOTEBOOK).read_text()
    assert text.count("clips:") == 1 and "clips: 100%" in text and "output_stderr" not in text.partition("</style>")[2]
    assert f"data:image/png;base64,{PIXEL}" in text and "widget" not in text and "<td>7</td>" in text
    assert 'href="../reports/findings.html"' in text and 'src="../reports/figures/ablation.png"' in text, (
        "what it shows"
    )
    assert "said: " in text and "bad()" not in text
    index = (tmp_path / "out" / "index.html").read_text()
    assert '<a href="notebooks/05_evaluate%40full.html">05 · Evaluate (full)</a>' in index
    assert "It <strong>sees</strong> who acts." in index, "what was learned stands beside it"
    assert "75.6 [73.1, 77.9]" in index or "J&amp;F" in index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[x](nowhere.md)", "links to 'nowhere.md', which is no file"),
        ("[x](../secret.md)", "links to '../secret.md', which is no file"),
        ("[x](docs)", "links to 'docs', which is no file"),
        ("![x](https://example.org/x.png)", "'https://example.org/x.png' is none of the project's files"),
        ("[x](javascript:alert)", "'javascript:alert' is none of the project's files"),
    ],
)
def test_a_dead_link_is_an_error(project: config.Project, tmp_path: Path, text: str, message: str):
    (tmp_path / "secret.md").write_text("# Mine")
    (project.root / "NOTES.md").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"NOTES.md: {message}")):
        site.write(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_notebooks_and_over_somebodys_files(project: config.Project, tmp_path: Path):
    out = tmp_path / "out"
    site.write(project, out)
    site.write(project, out)  # its own is replaced
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine\.txt"):
        site.write(project, out)
    shutil.rmtree(project.root / "runs")
    with pytest.raises(DataError, match="no executed notebook; make repro makes them"):
        site.write(project, tmp_path / "other")


@chromium.here
def test_in_a_browser_pictures_are_there(project: config.Project, tmp_path: Path):
    """A policy that forbids too much would leave them out, files and what a notebook holds alike."""
    site.write(project, tmp_path / "out")
    pages = [tmp_path / "out" / name for name in ("index.html", "reports/README.html", NOTEBOOK)]
    widths = "[...document.images].filter(i => i.src != 'data:,').map(i => i.complete && i.naturalWidth)"
    with chromium.opened("about:blank", tmp_path / "browser") as shown:
        for page in pages:
            shown.go(page.as_uri())
            drawn = shown.js(widths)
            assert drawn and all(drawn), page
            text = page.read_text()
            strict = re.sub("img-src [^;]*;", "", text)
            assert strict != text
            page.write_text(strict)
            shown.go(page.as_uri())
            assert shown.js(widths) == [0] * len(drawn), "or this test would say nothing"
