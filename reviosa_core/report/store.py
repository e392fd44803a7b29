"""Where runs are logged, and whether anybody is there. MLflow itself enters in `tracking` and `models`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import URL

from reviosa_core import config

SWITCH = "REVIOSA_TRACKING"
PATIENCE = 10  # seconds until a server has answered for the first time
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # their usual ports


def wanted() -> bool:
    """Whether runs are logged at all: not with REVIOSA_TRACKING=off. ValueError for anything but on and off."""
    said = os.environ.get(SWITCH) or "on"
    if said not in ("on", "off"):
        raise ValueError(f"{SWITCH} is {said!r}; it can be on or off")
    return said == "on"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI when the user has set one, else SQLite at the project's root, whatever the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own(config.project().root)


def own(root: Path) -> str:
    """A URL: `?`, `#` and `%` of the path are quoted, or the database would be another file, outside the project."""
    url = URL.create("sqlite", database=str(root / "mlflow.db"))
    if "%" in (quoted := url.render_as_string()):
        # The driver is SQLAlchemy's default; MLflow would make a folder of the quoted name for the shorter scheme.
        quoted = url.set(drivername="sqlite+pysqlite").render_as_string()
    return quoted


def knock(parts: SplitResult) -> None:
    """A connection to a database's port: its client would try for minutes. OSError where nobody takes it."""
    port = parts.port or next((p for name, p in DATABASES.items() if parts.scheme.startswith(name)), None)
    if port and not parts.scheme.startswith("http"):
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE).close()


@contextmanager
def hurried() -> Iterator[None]:
    """Inside, MLflow tries once, and not for long."""
    asked = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


def reason(error: BaseException, uri: str) -> str:
    """The first cause of an error, in a line, without the password of an address."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    text = " ".join(f"{type(error).__name__}: {error}".split())
    before, at, _ = uri.partition("://")[2].rpartition("@")
    for secret in filter(None, [before + at, *before.partition(":")[2:], before]):
        text = text.replace(secret, "***")
    return text if len(text) <= 300 else f"{text[:300]}..."


def host(uri: str) -> SplitResult | None:
    """The parts of an address with a server behind it; None where the store is a file. ValueError for no address."""
    parts = urlsplit(uri)
    return parts if parts.hostname else None
