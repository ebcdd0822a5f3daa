"""The example of the page about the simulation does what it says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / ".github" / "docs" / "simulation.md"


def test_the_example_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(program, str(PAGE), "exec"), names)
    assert names["world"].now() > 60
