"""fibflow: a task platform whose every write is fenced."""

__version__ = "0.1.0"
