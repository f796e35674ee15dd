"""scripts/manage_db.py: what it hands over to the command line of the gateway, and from where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "clients" / "python" / "scripts" / "manage_db.py"

# Says what it was called with, as JSON, and ends as it is told to.
NPM = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("DATABASE_URL"), os.getcwd()]))
sys.exit(7)
"""


class ManageDb(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()

    def run_it(self, *arguments: str, npm: bool = True) -> subprocess.CompletedProcess[str]:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        if npm:
            (programs / "npm").write_text(NPM)
            (programs / "npm").chmod(0o755)
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            cwd=self.folder,
            env={**environment, "PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_hands_everything_over_with_the_settings_of_the_folder(self) -> None:
        (self.folder / ".env").write_text("DATABASE_URL=postgresql://here\n")
        done = self.run_it("downgrade", "-1", "--json")
        arguments, url, folder = json.loads(done.stdout)
        expected = ["run", "-s", "eve", "--prefix", str(CHECKOUT), "--", "db", "downgrade", "-1", "--json"]
        self.assertEqual(arguments, expected)
        self.assertEqual((url, folder, done.returncode), ("postgresql://here", str(self.folder), 7))

    def test_says_what_it_knows_and_what_is_missing(self) -> None:
        for arguments in ((), ("drop",)):
            done = self.run_it(*arguments, npm=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("init|current|history|upgrade|downgrade", done.stderr)
        done = self.run_it("current", npm=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("npm is not there", done.stderr)


if __name__ == "__main__":
    unittest.main()
