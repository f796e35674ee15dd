"""What ``s3_storage`` and ``supabase_client`` share: a folder on this machine that keeps what the gateway could not be given, and the gateway."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eve_gateway import SECRET_VARIABLE, URL_VARIABLE, EveError, EveGateway, _setting

__all__ = ["SendsLater", "SyncReport"]

#: How long another thread or process may hold the journal.
JOURNAL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class SyncReport:
    """What a ``sync`` did.

    Attributes:
        sent: what is stored at the gateway now.
        waiting: what is still here: nobody answered, another process is sending, or it is refused.
        refused: ``(what, error)`` of what the gateway does not take: a file's path here, a row's id. It stays here.
    """

    sent: int = 0
    waiting: int = 0
    refused: list[tuple[str, EveError]] = field(default_factory=list)


class SendsLater:
    """Keeps on this disk what is given to it while the gateway is away, and sends it, once, in order, when it is back. Safe to use
    from several threads, and by several processes with one folder.

    Args:
        url: the project's address; by default EVE_GATEWAY_URL, else SUPABASE_URL.
        secret: a consumer's secret, or the project's secret key; by default EVE_GATEWAY_SECRET, else SUPABASE_SERVICE_KEY,
            SUPABASE_SECRET_KEY or SUPABASE_KEY.
        folder: where it is kept.
        timeout: seconds without a byte after which the gateway counts as away.
    """

    _log: logging.Logger
    _schema: str
    #: Where it is kept if nobody says: this variable, else this name in ``~/.eve_gateway``.
    _folder_variable: str
    _folder_name: str

    def __init__(self, url: str | None, secret: str | None, folder: str | os.PathLike[str] | None, timeout: float) -> None:
        self._url = url
        self._secret = secret
        self._folder = folder
        self.timeout = timeout
        self._gateway: EveGateway | None = None
        self._lock = threading.Lock()
        self._background: threading.Thread | None = None
        # Threads take turns; SQLite lets anyone who finds it locked sleep and try again, which is left to other processes.
        self._turn = threading.RLock()

    @property
    def folder(self) -> Path:
        """Where things wait, and the journal is."""
        return Path(self._folder or os.environ.get(self._folder_variable) or Path.home() / ".eve_gateway" / self._folder_name).expanduser()

    # What the others fill in

    def _switched_off(self) -> str | None:
        """The setting that says not to call the gateway, if one does."""
        return None

    def _waits(self) -> bool:
        """Whether something waits that a call which worked should send."""
        raise NotImplementedError

    def _send_waiting(self, fresh_only: bool) -> SyncReport:
        """Sends what waits, in its order, until nobody answers. ``fresh_only``: not what was refused before."""
        raise NotImplementedError

    def sync(self) -> SyncReport:
        """Sends what waits here, in order, each thing once; also what was refused before. One process or thread does it at a time."""
        return self._send_waiting(fresh_only=False)

    # The gateway

    def _eve(self) -> EveGateway:
        if self._url is None and (setting := self._switched_off()) is not None:
            raise EveError("not_configured", f"{setting}: nothing is sent to the gateway.")
        with self._lock:
            if self._gateway is None:
                self._gateway = EveGateway(
                    self._url or _first_of(URL_VARIABLE, "SUPABASE_URL"),
                    self._secret or _first_of(SECRET_VARIABLE, "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_KEY"),
                    timeout=self.timeout,
                )
            return self._gateway

    # The journal

    def _has_journal(self) -> bool:
        return (self.folder / "journal.sqlite").exists()

    @contextlib.contextmanager
    def _journal(self) -> Iterator[sqlite3.Connection]:
        """The journal, which syncs each change to the disk. A transaction that is not committed is rolled back."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / "journal.sqlite"
        if not path.exists():
            # It is nobody else's to read, also in a folder that was there.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        with self._turn, contextlib.closing(sqlite3.connect(path, timeout=JOURNAL_TIMEOUT_S, isolation_level=None)) as journal:
            journal.execute("pragma synchronous = full")
            journal.executescript(self._schema)
            yield journal

    @contextlib.contextmanager
    def _sending_alone(self) -> Iterator[bool]:
        """False where somebody is sending. The lock is SQLite's own, so it ends with its process, however that ends."""
        lock = sqlite3.connect(self.folder / "sending.sqlite", timeout=0, isolation_level=None)
        try:
            try:
                lock.execute("begin exclusive")
            except sqlite3.OperationalError as problem:
                if "locked" not in str(problem):
                    raise
                yield False
            else:
                yield True
        finally:
            lock.close()

    def _sync_in_background(self) -> None:
        """After a call that worked: what waits is sent without holding the caller up."""
        if not self._has_journal() or not self._waits():
            return
        with self._lock:
            if self._background is not None and self._background.is_alive():
                return
            # Not a daemon: a program that ends waits until they are sent.
            self._background = threading.Thread(target=self._sync_quietly, name="eve-sync")
            self._background.start()

    def _sync_quietly(self) -> None:
        try:
            self._send_waiting(fresh_only=True)
        except Exception:  # noqa: BLE001 -- nobody waits for it; the next call tries again.
            self._log.warning("What is kept here could not be sent.", exc_info=True)


def is_away(error: EveError) -> bool:
    """Whether it is nobody's fault here and passes: nobody answered, the gateway or its store is down, or no gateway is set up."""
    return error.retryable or error.code in {"connection_failed", "not_configured", "store_unavailable"}


def is_set(name: str, default: bool) -> bool:
    """A variable of the environment that says yes or no."""
    said = os.environ.get(name, "").strip().lower()
    return default if said == "" else said in {"1", "true", "yes", "on"}


def query(**values: str | int | None) -> str:
    """``?name=value`` of those that are given."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urllib.parse.urlencode(given)}" if given else ""


def _first_of(*names: str) -> str:
    for name in names:
        if value := os.environ.get(name):
            return value
    # Kaggle Secrets, or an error that names the variable.
    return _setting(names[0])
