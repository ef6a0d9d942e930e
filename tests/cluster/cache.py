"""What is expensive to make and stays the same: kept outside the tree, under the hash of what it was made from.

An entry is a file or a folder; it appears whole or not at all, and two runs that want the same one make it once. It
knows nothing of what the entries are.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def folder() -> Path:
    """FIBFLOW_CACHE, else a folder in the user's cache directory."""
    if own := os.environ.get("FIBFLOW_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fibflow")


def entry(name: str, sources: object, make: Callable[[Path], None], build: bool = True) -> Path:
    """The path of the entry, made by `make(path)` unless it is there; `sources` says all that it depends on.

    With build=False a missing entry is a FileNotFoundError.
    """
    path = folder() / f"{name}-{digest(sources)}"
    if path.exists():
        return path
    if not build:
        raise FileNotFoundError(f"{name} is not built: `python -m cluster build` does it")
    with locked(path.name), _reported(name):
        if not path.exists():
            _make(path, make)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time, for what is shared in the cache."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(sources: object) -> str:
    """Twelve hex digits that change with any of the sources; a Path in them stands for its content."""
    return hashlib.sha256(b"\0".join(_texts(sources))).hexdigest()[:12]


def _texts(sources: object) -> Iterator[bytes]:
    match sources:
        case Path() if sources.is_dir():
            for file in sorted(path for path in sources.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
                yield from (str(file.relative_to(sources)).encode(), file.read_bytes())
        case Path():
            yield from (sources.name.encode(), sources.read_bytes())
        case list() | tuple():
            for source in sources:
                yield from _texts(source)
        case _:
            yield repr(sources).encode()


def _make(path: Path, make: Callable[[Path], None]) -> None:
    unfinished = path.with_name(f".{path.name}")
    _remove(unfinished)
    try:
        make(unfinished)
        unfinished.rename(path)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    print(f"cluster: making {name}", flush=True)
    begin = time.monotonic()
    yield
    print(f"cluster: made {name} in {time.monotonic() - begin:.0f} s", flush=True)
