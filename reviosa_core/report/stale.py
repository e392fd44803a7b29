"""What `make repro` would run again, why, and what it would make: DVC's own knowledge, by stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo

from reviosa_core.schema import DataError

SHOWN = 5  # causes, and files, of a stage; the rest is counted


@dataclass(frozen=True)
class Stage:
    """A stage of a pipeline. It is stale when there is a reason; `after` it come those that its results may reach."""

    name: str
    why: tuple[str, ...]
    makes: tuple[str, ...]  # figures, tables, metrics: what git keeps
    after: tuple[str, ...]


def stages(root: Path, pipeline: str = "dvc.yaml") -> list[Stage]:
    """Of a pipeline's file, named from the root, in its order. Nothing is written but DVC's notes of what it hashed.

    Raises DataError where DVC cannot say: no such file, a broken one, another DVC at work.
    """
    if not (root / pipeline).is_file():
        raise DataError(f"{root / pipeline}: no such file")
    try:
        with Repo(str(root)) as repo, repo.lock:
            graph = repo.index.graph  # from a stage to what it depends on
            ours = [stage for stage in repo.index.stages if stage.path_in_repo == str(Path(pipeline))]
            later = {stage: networkx.ancestors(graph, stage) for stage in ours}
            return [
                Stage(
                    stage.name,
                    tuple(_why([entry for entries in stage.status().values() for entry in entries])),
                    tuple(out.def_path for out in stage.outs if not out.use_cache),
                    tuple(other.name for other in ours if other in later[stage]),
                )
                for stage in ours
            ]
    except DvcException as error:
        raise DataError(f"{root / pipeline}: {' '.join(str(error).split())}") from None


def _why(entries: list[Any]) -> list[str]:
    """Of one stage: "changed command", or {"changed deps": {path: how, or {parameter: how}}}."""
    found = []
    for entry in entries:
        if isinstance(entry, str):
            found.append(entry)
            continue
        for kind, paths in entry.items():
            for path, how in paths.items():
                parts = how.items() if isinstance(how, dict) else [(path, how)]
                found += [f"{name} {said}" + (", its result" if kind == "changed outs" else "") for name, said in parts]
    return found


def as_text(found: list[Stage], pipeline: str) -> str:
    """A paragraph a stale stage, with what comes after it; those that are up to date in a line."""
    makes, lines, stale = {stage.name: stage.makes for stage in found}, [], [stage for stage in found if stage.why]
    names = {stage.name for stage in stale}
    for stage in stale:
        lines += [f"{stage.name} is stale", f"  because  {_few(stage.why)}", f"  makes    {_files(stage.makes)}"]
        later = [name if name in names else f"{name} ({_files(makes[name])})" for name in stage.after]
        lines += [f"  then     {', '.join(later)}"] if later else []
        lines += [""]
    fresh = ", ".join(stage.name for stage in found if not stage.why)
    if not lines:
        return f"up to date: {fresh}. `dvc repro {pipeline}` has nothing to run."
    return "\n".join([*lines, f"up to date: {fresh or 'nothing'}. What comes then runs if what it reads has changed."])


def _files(paths: tuple[str, ...]) -> str:
    """Each with the folder it lies in."""
    return _few(tuple("/".join(Path(path).parts[-2:]) for path in paths)) or "nothing that git keeps"


def _few(texts: tuple[str, ...]) -> str:
    more = f", and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
