"""The program on the page on where tasks run does what it says."""

import asyncio
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "workers.md"


def test_a_worker_runs_inside_the_program_of_the_page():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program: dict[str, Any] = {}
    exec(code, program)
    assert asyncio.run(program["main"]()) == "hello Ann"
