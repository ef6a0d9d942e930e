"""fibflow: a task platform whose every write is fenced."""

from fibflow.app import App
from fibflow.client import AsyncClient, Client
from fibflow.context import AsyncContext, Context, child
from fibflow.errors import FibflowError, LeaseLost, PermanentError, Retry
from fibflow.model import Child, NewTask, Options, Outcome, Status
from fibflow.version import __version__

__all__ = [
    "App",
    "AsyncClient",
    "AsyncContext",
    "Child",
    "Client",
    "Context",
    "FibflowError",
    "LeaseLost",
    "NewTask",
    "Options",
    "Outcome",
    "PermanentError",
    "Retry",
    "Status",
    "__version__",
    "child",
]
