"""What a program serves on /metrics, read as Prometheus reads it."""

import re
import socket
import urllib.error
import urllib.request

LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, dict[str, str], float]


def scrape(port: int) -> str:
    """The text of a scrape; "" while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def families(text: str) -> set[tuple[str, str]]:
    """Name and type of each of fibflow's metrics."""
    return {(name, kind) for name, kind in re.findall(r"^# TYPE (fibflow_\w+) (\w+)$", text, re.MULTILINE)}


def samples(text: str) -> list[Sample]:
    """Every sample of fibflow's metrics."""
    lines = [line for line in text.splitlines() if line.startswith("fibflow_")]
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    return [(each["name"], dict(LABEL.findall(each["labels"] or "")), float(each["value"])) for each in found]


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    return sum(value for found, has, value in samples(text) if found == name and labels.items() <= has.items())


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
