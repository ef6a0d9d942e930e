"""Logs: one event per transition, with its facts as fields; JSON in a pod, readable on a terminal.

Events go through the standard library's loggers `fibflow.*`, so a program that embeds fibflow decides what becomes of
them; our own programs call `configure`. Failures, recoveries, pauses and cancels are INFO, other transitions DEBUG.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

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


def logger(name: str) -> Logger:
    """The logger of a module: `log.info("task_recovered", task_id=7)`."""
    wrapped: Logger = structlog.wrap_logger(
        logging.getLogger(name), processors=STEPS, wrapper_class=Logger, cache_logger_on_first_use=True
    )
    return wrapped


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Write the events of this program to `stream` (stderr), from `level` on."""
    target = stream or sys.stderr
    terminal = target.isatty()
    show: Processor = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    steps: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, show]
    lines = logging.StreamHandler(target)
    lines.setFormatter(structlog.stdlib.ProcessorFormatter(processors=steps))
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(logging.WARNING)
    logging.getLogger("fibflow").setLevel(level)
    logging.getLogger("fibflow_worker").setLevel(level)
    logging.getLogger("fibflow_operator").setLevel(level)
