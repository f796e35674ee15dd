"""Files behind an EVE Gateway: stored once, kept on this machine while the gateway is away, sent when it is back.

    from s3_storage import s3_storage

    path = s3_storage.generate_s3_path(chat_id, "images", "plan.png")     # chats/{chat_id}/images/plan.png
    url = await s3_storage.upload_file("plan.png", path)
    url = s3_storage.get_signed_url(path, expires_in=600)

It needs ``eve_gateway.py`` and ``local_journal.py`` beside it and nothing but Python 3.10 or later. Where the gateway is, and as whom
to call it, is in EVE_GATEWAY_URL and EVE_GATEWAY_SECRET (a consumer with the scope ``media``), or in SUPABASE_URL and
SUPABASE_SERVICE_KEY. With USE_S3_STORAGE=false nothing is sent.

A file goes straight to the store at an address that the gateway signs; where there is no S3 that address is the gateway's own. A large
one goes in parts, and what has arrived of it is not sent again after a break.
While nobody answers, the file is kept in a folder here with a journal beside it, and its local path is answered. It is sent, once, by
the next call that works or by :meth:`S3Storage.sync`. A process that is killed in between loses nothing that was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import logging
import mimetypes
import os
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from eve_gateway import EveError, _NoRedirect
from local_journal import SendsLater, SyncReport, is_away, is_set, query

__all__ = ["S3Storage", "SyncReport", "s3_storage"]

FOLDER_VARIABLE = "EVE_STORAGE_FOLDER"

#: Seconds without a byte after which the gateway counts as away: anyone who uploads waits for it.
TIMEOUT_S = 20.0
#: The same for the store, which may be far.
STORE_TIMEOUT_S = 60.0
#: What is kept here at most: a disk that is full is worse than an upload that failed.
DEFAULT_MAX_LOCAL_BYTES = 1_000_000_000
#: A local path that was answered stays good for so long after its file was sent.
KEEP_SENT_S = 86_400.0
#: Larger files do not go through the function: it holds them in memory, and takes 10 MiB by default.
MAX_THROUGH_FUNCTION_BYTES = 64 * 1024 * 1024

_PIECE_BYTES = 1024 * 1024
#: Types that the gateway stores packed: they go through its function, as far as that takes them in one body.
_PACKED = re.compile(r"(text/html|application/xhtml\+xml|application/(.+\+)?json)\s*(;|$)", re.IGNORECASE)
#: What not every store takes in a key, and what would be another folder.
_FORBIDDEN_IN_NAME = re.compile(r'[:*?"<>|!\\/\x00-\x1f\x7f]')

_SCHEMA = """
create table if not exists uploads (
  id integer primary key autoincrement,
  sha256 text not null,
  size_bytes integer not null,
  content_type text not null,
  kind text not null,
  tenant_id text,
  s3_path text,
  metadata text not null,
  file text not null,
  kept_at real not null,
  sent_at real,
  error text
);
create index if not exists uploads_waiting on uploads (id) where sent_at is null;
"""

_log = logging.getLogger("eve_gateway.storage")

Kind = Literal["media", "crawl"]


@dataclass(frozen=True)
class _File:
    """A file on this disk that is to be stored."""

    path: Path
    sha256: str
    size_bytes: int
    content_type: str
    kind: str
    tenant_id: str | None
    s3_path: str | None
    metadata: dict[str, Any]


class S3Storage(SendsLater):
    """Files of one tenant. Safe to use from several threads, and by several processes with one folder.

    Args:
        url: the project's address; by default EVE_GATEWAY_URL, else SUPABASE_URL.
        secret: a consumer's secret with the scope ``media``, or the project's secret key; by default EVE_GATEWAY_SECRET, else
            SUPABASE_SERVICE_KEY, SUPABASE_SECRET_KEY or SUPABASE_KEY.
        tenant_id: whose files; by default the consumer's own tenant, or the default one.
        folder: where files wait while nobody answers; by default EVE_STORAGE_FOLDER, else ``~/.eve_gateway/storage``.
        max_local_bytes: what may wait there.
        timeout: seconds without a byte after which the gateway counts as away.
    """

    _log = _log
    _schema = _SCHEMA
    _folder_variable = FOLDER_VARIABLE
    _folder_name = "storage"

    def __init__(
        self,
        url: str | None = None,
        secret: str | None = None,
        *,
        tenant_id: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        max_local_bytes: int = DEFAULT_MAX_LOCAL_BYTES,
        timeout: float = TIMEOUT_S,
    ) -> None:
        super().__init__(url, secret, folder, timeout)
        self.tenant_id = tenant_id
        self.max_local_bytes = max_local_bytes
        self._opener = urllib.request.build_opener(_NoRedirect)

    # What people call

    @staticmethod
    def generate_s3_path(chat_id: str | uuid.UUID, file_type: str, filename: str) -> str:
        """``chats/{chat_id}/{file_type}/{filename}``. What a key cannot hold (``/ : * ? " < > | ! \\``) becomes ``_``."""
        parts = [_FORBIDDEN_IN_NAME.sub("_", str(part)) for part in (chat_id, file_type, filename)]
        if any(part.strip(".") == "" for part in parts):
            raise ValueError("chat_id, file_type and filename must be names, and none may be empty")
        return "/".join(["chats", *parts])

    async def upload_file(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        s3_key: str | None = None,
        content_type: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        kind: Kind = "media",
        expires_in: int = 3600,
    ) -> str:
        """Stores a file, once: the same content is not sent again.

        Args:
            file_path: a path, the bytes, or a file that is open for reading bytes.
            s3_key: a key of your own, as :meth:`generate_s3_path` gives; it is found by it. Without it by its SHA-256.
            content_type: its MIME type; by default by the name's end.
            metadata: an object that is kept beside it, at most 16,000 characters of JSON.
            kind: ``media`` or ``crawl``: what limits and lifetimes go by.
            expires_in: seconds for which the answered address is good, at most 604,800.

        Returns:
            An address at which it can be read; while the gateway is away, its path on this machine.

        Raises:
            EveError: it is refused: ``storage_quota_exceeded``, ``file_too_large``, ``media_type_mismatch`` and so on; or
                ``local_storage_full``.
            OSError: the file cannot be read, or not be kept here.
        """
        return await asyncio.to_thread(
            self.upload_file_sync, file_path, s3_key, content_type, metadata, kind=kind, expires_in=expires_in
        )

    def upload_file_sync(
        self,
        file_path: str | os.PathLike[str] | bytes | BinaryIO,
        s3_key: str | None = None,
        content_type: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        kind: Kind = "media",
        expires_in: int = 3600,
    ) -> str:
        """:meth:`upload_file` for code without an event loop."""
        with self._on_disk(file_path) as path:
            sha256, size_bytes = _hashed(path)
            name = s3_key or (os.fspath(file_path) if isinstance(file_path, (str, os.PathLike)) else getattr(file_path, "name", ""))
            upload = _File(
                path=path,
                sha256=sha256,
                size_bytes=size_bytes,
                content_type=content_type or mimetypes.guess_type(str(name))[0] or "application/octet-stream",
                kind=kind,
                tenant_id=self.tenant_id,
                s3_path=s3_key,
                metadata=metadata or {},
            )
            # Those that wait go first: of two files with one key the newer must win.
            if self._waits_for_its_turn(upload):
                return str(self._keep(upload))
            try:
                self._store(upload)
                self._supersede(upload)
                url = self._address(s3_key or sha256, expires_in)
            except EveError as error:
                if not is_away(error):
                    raise
                _log.warning("The gateway does not take files (%s): %s is kept here and sent later.", error.code, s3_key or sha256)
                return str(self._keep(upload))
        self._sync_in_background()
        return url

    def get_signed_url(self, s3_key: str, expires_in: int = 3600) -> str | None:
        """An address at which anybody may read a file until ``expires_in`` seconds (at most 604,800) are over.

        Args:
            s3_key: the key that it was uploaded with, or its SHA-256.

        Returns:
            The address; the local path of a file that still waits here; None where there is no such file, or nobody answers.

        Raises:
            EveError: the credential is refused, or ``expires_in`` is.
        """
        kept = self._waiting_path(s3_key)
        if kept is not None:
            self._send_waiting(fresh_only=True)
            kept = self._waiting_path(s3_key)
        if kept is not None:
            return str(kept)
        try:
            url = self._address(s3_key, expires_in)
        except EveError as error:
            if error.code == "object_not_found":
                return None
            if is_away(error):
                _log.warning("There is no address for %s: the gateway does not answer (%s).", s3_key, error.code)
                return None
            raise
        self._sync_in_background()
        return url

    def is_connected(self) -> bool:
        """Whether files can be stored now, at the gateway: not whether S3 answers, for which the gateway has a place of its own."""
        try:
            health = self._eve()._post("api/v1/storage/health", None, method="GET")
        except EveError as error:
            if not is_away(error):
                _log.warning("The gateway refuses: %s", error)
            return False
        if health.get("is_connected") is not True:
            return False
        self._sync_in_background()
        return True

    # At the gateway

    def _switched_off(self) -> str | None:
        return None if is_set("USE_S3_STORAGE", True) else "USE_S3_STORAGE is off"

    def _waits(self) -> bool:
        return self._next_waiting(0, fresh_only=True) is not None

    def _address(self, name: str, expires_in: int) -> str:
        path = f"api/v1/media/{urllib.parse.quote(name)}/url{query(tenant_id=self.tenant_id)}"
        return str(self._eve()._post(path, {"expires_in": expires_in})["url"])

    def _store(self, file: _File) -> None:
        """Raises EveError where it is refused, or nobody takes it."""
        if _PACKED.match(file.content_type.strip()) and file.size_bytes <= MAX_THROUGH_FUNCTION_BYTES:
            try:
                return self._through_the_function(file)
            except EveError as error:
                if error.code != "body_too_large":
                    raise
        announced = self._eve()._post(
            "api/v1/media/uploads",
            {
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "content_type": file.content_type,
                "kind": file.kind,
                **_links(file),
            },
        )
        if announced.get("status") == "present":
            return
        upload = announced["upload"]
        try:
            for part in upload.get("parts", [upload]):
                self._put(file, part)
        except EveError as error:
            # The store is away and the gateway is not: the function keeps the file for it.
            if "parts" in upload or file.size_bytes > MAX_THROUGH_FUNCTION_BYTES:
                raise
            _log.info("%s Sending it through the function.", error)
            try:
                return self._through_the_function(file)
            except EveError as second:
                raise error if second.code == "body_too_large" else second from None
        self._eve()._post(f"api/v1/media/uploads/{file.sha256}/verify", announced["verify"]["body"])

    def _put(self, file: _File, upload: dict[str, Any]) -> None:
        """Sends a file, or the part of it that ``offset`` and ``size_bytes`` of the upload name."""
        host = urllib.parse.urlsplit(upload["url"]).netloc
        size_bytes = upload.get("size_bytes", file.size_bytes)
        headers = {**upload["headers"], "content-length": str(size_bytes)}
        try:
            with file.path.open("rb") as content:
                content.seek(upload.get("offset", 0))
                body = _pieces(content, size_bytes)
                request = urllib.request.Request(upload["url"], data=body, headers=headers, method=upload["method"])
                self._opener.open(request, timeout=STORE_TIMEOUT_S).close()
        except urllib.error.HTTPError as problem:
            with problem:
                # 412: it is there, from an upload that did not come to its end.
                if problem.code != 412:
                    raise _store_away(f"The store at {host} answered {problem.code}.", problem.code) from None
        except (OSError, http.client.HTTPException) as problem:
            raise _store_away(f"The store at {host} could not be reached: {getattr(problem, 'reason', problem)}.") from problem

    def _through_the_function(self, file: _File) -> None:
        fields = {"kind": file.kind, **_links(file)}
        if "metadata" in fields:
            fields["metadata"] = json.dumps(fields["metadata"])
        boundary = uuid.uuid4().hex
        form = b"".join(
            f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()
        )
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="file"\r\ncontent-type: {file.content_type}\r\n\r\n'
        body = b"".join([form, head.encode(), file.path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
        self._eve()._post("api/v1/media", body, {"content-type": f"multipart/form-data; boundary={boundary}"})

    # On this machine

    def _keep(self, file: _File) -> Path:
        """Keeps a file and says so in the journal: both are on the disk when this returns."""
        kept = self.folder / "files" / file.sha256[:2] / f"{file.sha256}{mimetypes.guess_extension(file.content_type.split(';')[0]) or '.bin'}"
        # The journal is held meanwhile, so that nobody tidies the file away before its row is there.
        with self._journal() as journal:
            journal.execute("begin immediate")
            (held,) = journal.execute(
                "select coalesce(sum(size_bytes), 0) from (select distinct sha256, size_bytes from uploads where sha256 <> ?)",
                (file.sha256,),
            ).fetchone()
            if held + file.size_bytes > self.max_local_bytes:
                raise EveError(
                    "local_storage_full",
                    f"{self.folder} holds {held} bytes that wait for the gateway, of at most {self.max_local_bytes}.",
                )
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not kept.exists():
                _copy_durably(file, kept)
            journal.execute(
                "insert into uploads (sha256, size_bytes, content_type, kind, tenant_id, s3_path, metadata, file, kept_at)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    file.sha256,
                    file.size_bytes,
                    file.content_type,
                    file.kind,
                    file.tenant_id,
                    file.s3_path,
                    json.dumps(file.metadata),
                    str(kept.relative_to(self.folder)),
                    time.time(),
                ),
            )
            journal.execute("commit")
        return kept

    def _send_waiting(self, fresh_only: bool) -> SyncReport:
        """Sends the journal's files in their order until one finds nobody."""
        if not self._has_journal():
            return SyncReport()
        sent, refused, tried = 0, [], 0
        with self._sending_alone() as alone:
            while alone and (row := self._next_waiting(tried, fresh_only)) is not None:
                tried, file = row
                try:
                    if not file.path.exists():
                        raise EveError("local_file_gone", f"{file.path} was deleted before it was sent.")
                    self._store(file)
                except EveError as error:
                    if is_away(error):
                        break
                    _log.warning("%s, kept here, is refused: %s", file.s3_path or file.path, error)
                    refused.append((str(file.path), error))
                    self._note("update uploads set error = ? where id = ?", (str(error), tried))
                else:
                    sent += 1
                    self._note("update uploads set sent_at = ?, error = null where id = ?", (time.time(), tried))
                    # What was refused before under this key is older.
                    self._supersede(file, before=tried)
            if alone:
                self._tidy()
        with self._journal() as journal:
            (waiting,) = journal.execute("select count(*) from uploads where sent_at is null").fetchone()
        return SyncReport(sent, waiting, refused)

    def _next_waiting(self, after: int, fresh_only: bool) -> tuple[int, _File] | None:
        with self._journal() as journal:
            row = journal.execute(
                "select id, file, sha256, size_bytes, content_type, kind, tenant_id, s3_path, metadata from uploads"
                f" where sent_at is null and id > ? {'and error is null' if fresh_only else ''} order by id limit 1",
                (after,),
            ).fetchone()
        if row is None:
            return None
        number, path, sha256, size_bytes, content_type, kind, tenant_id, s3_path, metadata = row
        file = _File(self.folder / path, sha256, size_bytes, content_type, kind, tenant_id, s3_path, json.loads(metadata))
        return number, file

    def _waits_for_its_turn(self, file: _File) -> bool:
        """Whether an older file with its key waits, and cannot be sent now. What was refused holds nobody up."""
        if file.s3_path is None or self._waiting_path(file.s3_path, fresh_only=True) is None:
            return False
        self._send_waiting(fresh_only=True)
        return self._waiting_path(file.s3_path, fresh_only=True) is not None

    def _waiting_path(self, name: str, fresh_only: bool = False) -> Path | None:
        """Of the newest file that waits under a key or a SHA-256."""
        if not self._has_journal():
            return None
        with self._journal() as journal:
            row = journal.execute(
                "select file from uploads where sent_at is null and tenant_id is ? and (s3_path = ? or sha256 = ?)"
                f" {'and error is null' if fresh_only else ''} order by id desc limit 1",
                (self.tenant_id, name, name),
            ).fetchone()
        return None if row is None else self.folder / row[0]

    def _supersede(self, file: _File, before: int | None = None) -> None:
        """Another file has the key now: an older one that was refused must not take it back."""
        if file.s3_path is None or not self._has_journal():
            return
        self._note(
            "update uploads set sent_at = ?, error = 'superseded' where sent_at is null and tenant_id is ? and s3_path = ? and id < ?",
            (time.time(), file.tenant_id, file.s3_path, before if before is not None else 1 << 62),
        )

    def _tidy(self) -> None:
        """Forgets what was sent a day ago, and files that no row names: their process was killed while it kept them."""
        old = time.time() - KEEP_SENT_S
        with self._journal() as journal:
            journal.execute("begin immediate")
            journal.execute("delete from uploads where sent_at < ?", (old,))
            named = {file for (file,) in journal.execute("select file from uploads")}
            for path in (self.folder / "files").glob("*/*"):
                if str(path.relative_to(self.folder)) not in named and path.stat().st_mtime < old:
                    path.unlink(missing_ok=True)
            journal.execute("commit")

    def _note(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._journal() as journal:
            journal.execute(statement, values)

    @contextlib.contextmanager
    def _on_disk(self, file: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[Path]:
        """A path to the content: that of a file, or of a copy that lives as long as this."""
        if isinstance(file, (str, os.PathLike)):
            yield Path(file)
            return
        with tempfile.TemporaryDirectory(prefix="eve-storage-") as folder:
            path = Path(folder) / "content"
            with path.open("wb") as copy:
                if isinstance(file, bytes):
                    copy.write(file)
                else:
                    while piece := file.read(_PIECE_BYTES):
                        copy.write(piece)
            yield path


def _store_away(message: str, status: int | None = None) -> EveError:
    return EveError("store_unavailable", message, status=status, retryable=True)


def _links(file: _File) -> dict[str, Any]:
    links = {"tenant_id": file.tenant_id, "key": file.s3_path, "metadata": file.metadata or None}
    return {name: value for name, value in links.items() if value is not None}


def _pieces(content: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """So many bytes of it from where it stands."""
    while size_bytes > 0 and (piece := content.read(min(_PIECE_BYTES, size_bytes))):
        size_bytes -= len(piece)
        yield piece


def _hashed(path: Path) -> tuple[str, int]:
    """SHA-256 and size, read in pieces."""
    sha256, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            size += len(piece)
    return sha256.hexdigest(), size


def _copy_durably(file: _File, target: Path) -> None:
    """A copy that is either not there or whole, also after the power went. Raises OSError if the file has changed meanwhile."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    sha256 = hashlib.sha256()
    try:
        with file.path.open("rb") as content, open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            while piece := content.read(_PIECE_BYTES):
                sha256.update(piece)
                copy.write(piece)
            copy.flush()
            os.fsync(copy.fileno())
        if sha256.hexdigest() != file.sha256:
            raise OSError(f"{file.path} changed while it was being stored. Try again.")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


s3_storage = S3Storage()
