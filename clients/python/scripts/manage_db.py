"""The database's migrations by hand: ``python scripts/manage_db.py init|current|history|upgrade|downgrade|restore``.

It takes settings from a file ``.env`` in the folder where it is started, and hands everything over to ``npm run eve -- db`` of the
checkout that it lies in: whatever that understands is understood here (``downgrade base --dry-run``, ``current --json``). Node 20
or newer is needed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# The package ``src`` is beside the folder of this file.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import src.config  # noqa: E402, F401 -- reads .env.

COMMANDS = ("init", "current", "history", "upgrade", "downgrade", "restore")
USAGE = f"python scripts/manage_db.py {'|'.join(COMMANDS)} [...]"


def checkout(*beginnings: Path) -> Path | None:
    """The gateway's checkout above one of these folders."""
    for beginning in beginnings:
        for folder in (beginning, *beginning.parents):
            if (folder / "cli" / "eve.ts").is_file() and (folder / "package.json").is_file():
                return folder
    return None


def main(arguments: Sequence[str]) -> int:
    """Runs one command line; answers the exit code: that of ``eve``, or 2 where nothing was asked that it knows."""
    if not arguments or arguments[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    root = checkout(Path(__file__).resolve().parent, Path.cwd())
    if root is None:
        print("manage_db.py needs a checkout of the gateway: start it within one.", file=sys.stderr)
        return 1
    try:
        # npm goes to the checkout and remembers where it was started, which is where rows are written to.
        return subprocess.run(["npm", "run", "-s", "eve", "--prefix", str(root), "--", "db", *arguments], check=False).returncode
    except FileNotFoundError:
        print("npm is not there: install Node 20 or newer.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
