"""A machine's own control groups, for groups outlive namespaces and two kubelets must not share one.

With version 1 a group is made in each hierarchy that is mounted, with version 2 in the only one.
"""

import hashlib
from pathlib import Path

from .waiting import until

ROOT = Path("/sys/fs/cgroup")


def name(folder: Path) -> str:
    """The group of the machine whose files are there: no two machines here have the same."""
    return _prefix(folder.parent) + folder.name


def of(folder: Path) -> set[str]:
    """The groups that are there of the cluster in that folder."""
    return {path.name for hierarchy in _hierarchies() for path in hierarchy.glob(_prefix(folder) + "*")}


def create(group: str) -> None:
    """Make the group; in a cpuset hierarchy it must be told its processors before it can hold anybody."""
    for hierarchy in _hierarchies():
        path = hierarchy / group
        path.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (path / setting).write_text((hierarchy / setting).read_text())


def remove(group: str) -> None:
    """Take the group away with all in it; its processes have been killed, and the kernel may need a moment."""
    until(lambda: all([_removed(hierarchy / group) for hierarchy in _hierarchies()]), 10, f"control group {group} goes")


def working_set(groups: str) -> int:
    """The bytes that a process's group (of its /proc/PID/cgroup) needs: what is in use, less what only caches files."""
    named = [line.split(":", 2) for line in groups.splitlines()]
    path = next(path.lstrip("/") for _, controllers, path in named if controllers in ("", "memory"))
    old, new = ROOT / "memory" / path, ROOT / path
    version_1 = (old, "usage_in_bytes", "total_inactive_file")
    group, used, cached = version_1 if old.exists() else (new, "current", "inactive_file")
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int((group / f"memory.{used}").read_text()) - int(stat[cached])


def _prefix(folder: Path) -> str:
    return f"cluster-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-"


def _hierarchies() -> list[Path]:
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def _removed(group: Path) -> bool:
    for path in sorted(group.rglob("*"), reverse=True) if group.exists() else []:
        if path.is_dir() and not _rmdir(path):
            return False
    return not group.exists() or _rmdir(group)


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
