"""Everything there is to read as one folder of pages: executed notebooks, report, data card, log, docs, and an index.

It opens from the file system and loads nothing from anywhere: no script runs in it, and its pages say so to the browser
(a Content-Security-Policy). Pages lie as their sources lie in the project, so that links between them hold; a file of
the project that is linked comes along, and a link to what is not there is an error.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote, unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from reviosa_core import config, outputs
from reviosa_core.report.executed import readable
from reviosa_core.report.tables import markdown, named, with_interval
from reviosa_core.schema import DataError
from reviosa_core.scoring.metrics import SETTINGS

WHAT = "site"
WIDGETS = "application/vnd.jupyter.widget-view+json"
SHORT = "## In short"  # the heading above what a notebook's numbers say (`learned`)
ACTIVE = ("script", "iframe", "object", "embed", "link", "meta", "base", "form")  # what a page of ours never needs


def write(project: config.Project, out: str | Path) -> int:
    """Write the pages to the folder `out`, index.html first among them; the number of pages.

    A folder that was written before is replaced. DataError where no notebook has been executed, for a link to nothing,
    and as `outputs.folder`.
    """
    notebooks = {path: f"notebooks/{path.stem}.html" for path in sorted(project.run("notebooks").glob("*.ipynb"))}
    if not notebooks:
        raise DataError(f"{project.run('notebooks')}: no executed notebook; make repro makes them")
    texts = [path for pattern in ("*.md", "docs/*.md", "benchmarks/*.md") for path in project.root.glob(pattern)]
    reports = project.root / project.params.reports
    texts += reports.rglob("*.md")
    named = {path: path.relative_to(project.root).with_suffix(".html").as_posix() for path in sorted(set(texts))}
    with outputs.folder(out, WHAT, {"profile": project.profile}) as folder:
        pages = {Path(os.path.abspath(path)): name for path, name in {**named, **notebooks}.items()}
        site = _Site(Path(os.path.abspath(project.root)), folder, pages)
        for path, name in named.items():
            site.page(name, markdown2html(path.read_text(encoding="utf-8")), path, path.parent)
        read = {path: nbformat.read(path, as_version=4) for path in notebooks}
        for path, name in notebooks.items():
            site.page(name, _notebook(read[path]), path, project.root / "notebooks", reports)  # it shows pages of these
        index = _index(project, named, {name: read[path] for path, name in notebooks.items()})
        site.page("index.html", markdown2html(index), Path("the list of all pages"), project.root)
    return len(named) + len(notebooks) + 1


class _Site:
    def __init__(self, root: Path, folder: Path, pages: dict[Path, str]) -> None:
        self.root, self.folder, self.pages = root, folder, pages
        self.template = Template((files("reviosa_core.report") / "site.html").read_text(encoding="utf-8"))
        self.highlight = HtmlFormatter().get_style_defs(".highlight")

    def page(self, name: str, body: str, source: Path, *bases: Path) -> None:
        """Write one page, of which links are relative to the first of `bases` that has what they name."""
        soup = BeautifulSoup(body, "html.parser")
        for tag in soup.find_all(True):
            if tag.name in ACTIVE:
                tag.decompose()
            else:
                tag.attrs = {key: value for key, value in tag.attrs.items() if not key.lower().startswith("on")}
        _anchors(soup)
        for tag, key in [*((a, "href") for a in soup.find_all("a")), *((i, "src") for i in soup.find_all("img"))]:
            if tag.get(key) is not None:
                tag[key] = self._link(str(tag[key]), name, source, bases, picture=key == "src")
        for cell in soup.find_all("div", class_="input"):
            folded = soup.new_tag("details")
            cell.wrap(folded)
            summary = soup.new_tag("summary")
            summary.string = "code"
            folded.insert(0, summary)
        heading = soup.find("h1")
        title = heading.get_text().rstrip("¶") if heading else source.stem
        home = "" if name == "index.html" else f'<a href="{_between(name, "index.html")}">all pages</a>'
        filled = self.template.substitute(title=html.escape(title), nav=home, body=str(soup), highlight=self.highlight)
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(filled, encoding="utf-8")

    def _link(self, link: str, name: str, source: Path, bases: Sequence[Path], picture: bool) -> str:
        parts = urlsplit(link)
        if parts.scheme == "data" and picture:
            return link
        if parts.scheme in ("https", "http", "mailto") and not picture:
            return link  # to read elsewhere; nothing is loaded from there
        if parts.scheme or parts.netloc:
            raise DataError(f"{source}: {link[:80]!r} is none of the project's files")
        if not parts.path:
            return link
        named = [Path(os.path.abspath(base / unquote(parts.path))) for base in bases]
        page = next((self.pages[path] for path in named if path in self.pages), None)  # whatever it is a link to
        if page is None:
            places = [path.resolve() for path in named]
            found = next((p for p in places if p.is_relative_to(self.root.resolve()) and p.is_file()), None)
            if found is None:
                raise DataError(f"{source}: links to {link!r}, which is no file of the project")
            page = found.relative_to(self.root.resolve()).as_posix()
            (self.folder / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, self.folder / page)
        return _between(name, page) + (f"#{parts.fragment}" if parts.fragment else "")


def _between(name: str, other: str) -> str:
    return quote(os.path.relpath(other, Path(name).parent).replace(os.sep, "/"))


def _anchors(soup: BeautifulSoup) -> None:
    """Headings are named as on GitHub, where the links between the pages were written for."""
    seen: dict[str, int] = {}
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        for mark in heading.find_all("a", class_="anchor-link"):
            mark.decompose()
        slug = re.sub(r"[^\w\- ]", "", heading.get_text().strip().lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        heading["id"] = f"{slug}-{count}" if count else slug


def _notebook(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook as the inside of a page: as it was left, widgets as their pictures, no red progress."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = readable(cell.outputs)
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGETS, None)
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", ())]
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return body


def _index(project: config.Project, texts: dict[Path, str], notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """What there is, with the key figures on top. Links are to the sources, as everywhere."""
    reports = project.params.reports
    metrics = {row: project.root / reports / "metrics" / f"{row}.json" for row in project.params.experiments}
    scores = {row: json.loads(path.read_text()) for row, path in metrics.items() if path.is_file()}
    names = named(project.settings)
    rows = [
        {"J&F, %": names.get(row, row)} | {name: with_interval(found[name]) for name in SETTINGS}
        for row, found in scores.items()
    ]
    picture = f"{reports}/figures/moving/roles.gif"
    lines = ["# The ReVIOSa workbook", f"Who does what to whom in a video. Profile `{project.profile}`."]
    if (project.root / picture).is_file():
        lines += [f"![Two sentences about one event: only the motion tells which object is meant]({picture})"]
    lines += [markdown(rows)] if rows else []
    kinds = {"To read first": [], "What the data are": [], "Docs": [], "Tables": []}
    first = (f"{reports}/README.md", f"{reports}/findings.md", "README.md", "LOG.md")
    by_name = {path.relative_to(project.root).as_posix(): path for path in texts}
    for name in (*filter(by_name.get, first), *(name for name in by_name if name not in first)):
        path = by_name[name]
        title = next(
            (line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), name
        )
        if name.startswith(f"{reports}/tables/"):
            kind, title = "Tables", path.stem
        elif name == f"{reports}/intershapes.md":
            kind = "What the data are"
        else:
            kind = "To read first" if name in first else "Docs"
        title = f"Benchmark: {title}" if name.startswith("benchmarks/") else title
        kinds[kind].append(f"- [{title}]({quote(name)})")
    lines += [f"## {kind}\n\n" + "\n".join(links) for kind, links in kinds.items() if links]
    lines += ["## Notebooks, as they were run"]
    for name, notebook in notebooks.items():
        stem = Path(name).stem
        title = next(c.source.splitlines()[0].lstrip("# ") for c in notebook.cells if c.cell_type == "markdown")
        which = f" ({stem.partition('@')[2]})" if "@" in stem else ""
        source = f"runs/{project.profile}/notebooks/{quote(stem)}.ipynb"
        lines += [f"**[{title}{which}]({source})**", _short(notebook)]
    return "\n\n".join(filter(None, lines)) + "\n"


def _short(notebook: nbformat.NotebookNode) -> str:
    """The paragraph at its end."""
    cells = notebook.cells
    after = [b for a, b in zip(cells, cells[1:], strict=False) if a.cell_type == "markdown" and a.source == SHORT]
    said = [output.data["text/markdown"] for cell in after for output in cell.outputs if "text/markdown" in output.data]
    return said[-1] if said else ""
