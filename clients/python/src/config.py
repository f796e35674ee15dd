"""Settings, from the environment and from a file ``.env`` in the folder where the program is started.

    from src.config import config

    if config.USE_DATABASE:
        ...
"""

from __future__ import annotations

import os
from pathlib import Path

from local_journal import is_set

__all__ = ["config"]

_NO_DATABASE_URL = "DATABASE_URL не установлена"


class Config:
    """What is set now: each is read when it is asked for. A text that is not set is empty."""

    @property
    def SUPABASE_URL(self) -> str:  # noqa: N802 -- the names of the environment.
        return os.environ.get("SUPABASE_URL", "")

    @property
    def SUPABASE_ANON_KEY(self) -> str:  # noqa: N802
        """The publishable key: for programs in which people sign in. It reads no chats by itself."""
        return os.environ.get("SUPABASE_ANON_KEY", "")

    @property
    def SUPABASE_SERVICE_KEY(self) -> str:  # noqa: N802
        return os.environ.get("SUPABASE_SERVICE_KEY") or os.environ.get("SUPABASE_KEY", "")

    @property
    def SUPABASE_KEY(self) -> str:  # noqa: N802
        return os.environ.get("SUPABASE_KEY") or self.SUPABASE_SERVICE_KEY

    @property
    def SUPABASE_DISABLED(self) -> bool:  # noqa: N802
        return is_set("SUPABASE_DISABLED", False)

    @property
    def USE_DATABASE(self) -> bool:  # noqa: N802
        """Whether chats go to the gateway; otherwise they stay on this machine."""
        return is_set("USE_DATABASE", True) and not self.SUPABASE_DISABLED

    @property
    def USE_S3_STORAGE(self) -> bool:  # noqa: N802
        """Whether files go to the gateway; otherwise they stay on this machine."""
        return is_set("USE_S3_STORAGE", True)

    @property
    def DATABASE_URL(self) -> str:  # noqa: N802
        """The database's own address, for what works on its schema: the clients here do not need it."""
        return os.environ.get("DATABASE_URL", "")

    def get_database_url(self) -> str:
        """DATABASE_URL, where there is no going on without it.

        Raises:
            ValueError: it is not set.
        """
        if self.DATABASE_URL == "":
            raise ValueError(_NO_DATABASE_URL)
        return self.DATABASE_URL


def load_env(path: Path) -> None:
    """Takes ``NAME=value`` of each line into the environment; what is set there already stays. No file: nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.split(" #")[0].rstrip()
        if value:
            os.environ.setdefault(name.strip(), value)


load_env(Path(".env"))
config = Config()
