"""The version of this code, as the schema compares it."""

__version__ = "0.1.0"
