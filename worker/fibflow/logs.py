"""Logs: one event per transition, with its facts as fields; JSON in a pod, readable on a terminal.

Events go through the standard library's loggers `fibflow.*`, so a program that embeds fibflow decides what becomes of
them; our own programs call `configure`. Failures, recoveries, pauses and cancels are INFO, other transitions DEBUG.
"""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple, TextIO

import structlog
from structlog.typing import Processor

Logger = structlog.stdlib.BoundLogger
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

STEPS: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]

OF_OTHERS: list[Processor] = STEPS[1:-1]
"""What a record of an application's own logger, or of a library's, gets before it is shown: the same facts as ours."""


def logger(name: str) -> Logger:
    """The logger of a module: `log.info("task_recovered", task_id=7)`."""
    wrapped: Logger = structlog.wrap_logger(
        logging.getLogger(name), processors=STEPS, wrapper_class=Logger, cache_logger_on_first_use=True
    )
    return wrapped


class Levels(NamedTuple):
    """From which level on our own events are written, and records of other loggers, an application's and libraries'."""

    ours: str = "INFO"
    others: str = "WARNING"


_configured: Levels | None = None


def configured() -> Levels | None:
    """What this program was told to write; None in a program that embeds fibflow, whose logs are its own business."""
    return _configured


def configure(levels: Levels, stream: TextIO | None = None) -> None:
    """Write the events of this program to `stream` (stderr) from these levels on."""
    global _configured
    _configured = levels
    target = stream or sys.stderr
    terminal = target.isatty()
    show: Processor = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    steps: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, show]
    lines = logging.StreamHandler(target)
    lines.setFormatter(structlog.stdlib.ProcessorFormatter(processors=steps, foreign_pre_chain=OF_OTHERS))
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(levels.others)
    for ours in ("fibflow", "fibflow_worker", "fibflow_operator"):
        logging.getLogger(ours).setLevel(levels.ours)
