"""Runs a notebook without Jupyter: its code cells, in order, in one namespace, as a kernel does.

    MPLBACKEND=Agg python3 examples/run_notebook.py examples/kaggle_festivals.ipynb
    python3 examples/run_notebook.py NOTEBOOK --stay    # then runs each line of stdin as one more cell

It needs nothing but the standard library. A cell that fails ends the run with its traceback and exit code 1; a line after
``--stay`` that fails is reported, and the notebook stays open, as in a kernel. Magics (``%`` and ``!``) are not understood.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any


def code_cells(path: Path) -> list[str]:
    """The sources of the code cells. Raises ValueError if the file is no notebook of format 4."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if notebook.get("nbformat") != 4:
        raise ValueError(f"{path} is no notebook of format 4")
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(source: str, name: str, namespace: dict[str, Any]) -> None:
    exec(compile(source, name, "exec"), namespace)  # noqa: S102 -- running it is the purpose.


def main(arguments: list[str]) -> None:
    stay = "--stay" in arguments
    paths = [one for one in arguments if one != "--stay"]
    if len(paths) != 1:
        raise SystemExit("Usage: run_notebook.py NOTEBOOK [--stay]")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(code_cells(Path(paths[0])), start=1):
        run(source, f"<cell {number}>", namespace)
    print("The notebook has run.", flush=True)
    for number, line in enumerate(sys.stdin if stay else [], start=1):
        try:
            run(line, f"<line {number}>", namespace)
        except Exception:  # noqa: BLE001 -- a kernel goes on after any of them.
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
