"""The log: one line an event, by Python's logging, under the names of our modules (`fibflow…`).

Failures, recoveries, pauses and cancels are told at INFO, other transitions at DEBUG. A line is the event and its fields;
the fields are on the record, too (`record.event`), for a formatter that writes JSON. Nothing is configured here: a
program that configures no logging hears warnings only.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    wrapped: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _line],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return wrapped


def _line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    fields = " ".join(f"{name}={value!r}" for name, value in event.items() if name != "event" and value is not None)
    return ("%s", f"{event['event']} {fields}".rstrip()), {"extra": {"event": dict(event)}}
