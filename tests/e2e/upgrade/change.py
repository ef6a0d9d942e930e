"""Make of an installed fibflow the next version: `change.py expand`, and from that the one after, `change.py contract`.

The story is a column that gets another name: a worker's host is its machine. The next version adds it under the new name
and keeps both alike, for the former one goes on reading and writing the old name; the one after drops that, and admits
nothing older than the next.
"""

import sys
from pathlib import Path

import fibflow
from fibflow.store.schema import newest

RENAMED = {
    "store/tables/programs.py": ('sa.Column("host", ', 'sa.Column("machine", '),
    "store/leases.py": ('"host": host', '"machine": host'),
    "store/reading.py": ("host=row.host", "host=row.machine"),
}


def following(version: str) -> str:
    """The minor version after it."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def change(package: Path, step: str) -> None:
    """Take a package's folder one version further."""
    former = fibflow.__version__
    migration = Path(__file__).with_name(f"{step}.py").read_text()
    number = f"{int(newest()) + 1:04}"
    told = migration.replace("NUMBER", number).replace("NEWEST", newest()).replace("FORMER", former)
    (package / "store" / "migrations" / "versions" / f"{number}_{step}.py").write_text(told)
    _replace(package / "version.py", former, following(former))
    if step == "expand":
        for file, (old, new) in RENAMED.items():
            _replace(package / file, old, new)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{file} has {old!r} {text.count(old)} times")
    file.write_text(text.replace(old, new))


if __name__ == "__main__":
    change(Path(fibflow.__file__).parent, sys.argv[1])
