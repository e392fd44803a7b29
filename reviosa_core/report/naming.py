"""What people called things, as MLflow takes it and as a screen may show it."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit, urlunsplit

NAME, VALUE, TAG = 250, 6000, 5000  # characters that MLflow takes


def legal_name(name: str) -> str:
    """A name as MLflow takes it, for anything that a user may have called a data set.

    `J&F` becomes `JF`. Whatever else has to be replaced (by `_`, or is a path that could be written in another way)
    is followed by a few letters of the whole name's md5: no two names become one.
    """
    plain = re.sub(r"[^/\w.\- :]", "_", name.replace("J&F", "JF"))
    parts = ["_" * len(part) if part in (".", "..") else part for part in plain.split("/") if part]
    legal = re.sub(r"^\.\.", "__", "/".join(parts)) or "_"
    if legal == name.replace("J&F", "JF") and "JF" not in name and len(legal) <= NAME:
        return legal
    mark = f" {hashlib.md5(name.encode(errors='surrogateescape')).hexdigest()[:6]}"
    return legal[: NAME - len(mark)] + mark


def fitting(text: str, limit: int) -> str:
    """A text as long as MLflow takes it; where it is cut, it says so, and the md5 tells it from others."""
    end = f"... {len(text)} characters, md5 {hashlib.md5(text.encode(errors='replace')).hexdigest()}"
    return text if len(text) <= limit else text[: limit - len(end)] + end


def without_password(address: str) -> str:
    """An address without what stands before its host's @, and without the values of what follows a question mark."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return f"{address.partition(':')[0]}:***"
    if "@" not in parts.netloc and not parts.query:
        return address
    host = re.sub("^.*@", "***@", parts.netloc)
    return urlunsplit(parts._replace(netloc=host, query=re.sub("=[^&]*", "=***", parts.query)))
