"""Chats behind an EVE Gateway: conversations, their messages, pictures and search results, also while the gateway is away.

    from supabase_client import supabase_client

    chat_id = await supabase_client.create_chat(title="Plans", user_id="user_1")
    message_id = await supabase_client.add_message(chat_id=chat_id, role="user", content="Where is the wall?")
    for message in await supabase_client.get_chat_messages(chat_id):
        print(message["role"], message["content"])

It needs ``eve_gateway.py``, ``local_journal.py`` and ``s3_storage.py`` beside it and nothing but Python 3.10 or later. Where the gateway
is, and as whom to call it, is in EVE_GATEWAY_URL and EVE_GATEWAY_SECRET (a consumer with the scope ``chats``), or in SUPABASE_URL and
SUPABASE_SERVICE_KEY. With USE_DATABASE=false or SUPABASE_DISABLED=true nothing is sent.

What adds answers the id of the row, made here; what reads answers rows as dicts with the columns' names. While nobody answers, rows are
kept in a folder here, and what is known of a chat is read from it. They are sent, once, in order, by the next call that works or by
:meth:`SupabaseClient.sync`. A process that is killed in between loses nothing that was answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from eve_gateway import EveError
from local_journal import SendsLater, SyncReport, is_away, is_set, query
from s3_storage import S3Storage, s3_storage

__all__ = ["SupabaseClient", "SyncReport", "supabase_client"]

FOLDER_VARIABLE = "EVE_CHATS_FOLDER"

#: Seconds without a byte after which the gateway counts as away: longer than the gateway waits for its database (8 s).
TIMEOUT_S = 12.0
#: What waits here at most: a disk that is full is worse than a message that is refused.
DEFAULT_MAX_LOCAL_BYTES = 100_000_000
#: What is remembered of rows that the gateway has, to be read while it is away; the oldest are forgotten first.
MAX_KNOWN_BYTES = 20_000_000
#: Of one answer, the last so many rows are remembered.
MOST_REMEMBERED = 500
#: What is remembered is measured once in so many calls.
_MEASURED_EVERY = 50
#: The gateway's largest page.
_PAGE = 100

_SCHEMA = """
create table if not exists rows (
  number integer primary key autoincrement,
  kind text not null,
  id text not null,
  chat_id text,
  message_id text,
  client_id text,
  row text not null,
  -- What is to be sent; null: the gateway has it.
  body text,
  size_bytes integer not null,
  touched_at real not null,
  error text
);
create unique index if not exists rows_id on rows (kind, id);
create index if not exists rows_waiting on rows (number, kind, error, size_bytes) where body is not null;
create index if not exists rows_chat_id on rows (chat_id, kind, client_id);
create index if not exists rows_message_id on rows (message_id) where message_id is not null;
create index if not exists rows_known on rows (touched_at, size_bytes) where body is null;
-- The message with which each chat ended when this folder last had word of it.
create table if not exists leaves (chat_id text primary key, message_id text not null, created_at text not null);
-- Messages that were at the gateway already, under another id.
create table if not exists renamed (id text primary key, is_now text not null);
"""

#: What the gateway takes, in bytes of UTF-8.
_TEXT_BYTES = {
    "title": 2_000,
    "user_id": 800,
    "description": 16_000,
    "content": 1_000_000,
    "message_type": 400,
    "client_id": 800,
    "request_id": 800,
    "image_name": 2_000,
    "s3_path": 1_024,
    "s3_url": 2_048,
    "image_type": 400,
    "block_id": 800,
    "block_text": 100_000,
}
#: The same of JSON, with a space behind each comma and colon.
_JSON_BYTES = {"metadata": 16_384, "parts": 262_144, "usage": 4_096, "coords_norm": 4_096, "coords_px": 4_096}
#: Of a text that has no bound of its own.
_MOST_BYTES = 1_000_000
_ROLES = ("user", "assistant", "system", "tool")

_COLUMNS: dict[str, list[str]] = {
    "chat": (
        "id title user_id owner consumer_id description metadata leaf_id created_at updated_at archived_at deleted_at expires_at"
    ).split(),
    "message": (
        "id chat_id parent_id role content message_type parts client_id request_id usage feedback state created_at"
    ).split(),
    "image": (
        "id message_id image_name s3_path s3_url image_type description width height file_size tenant_id file_sha256 created_at"
    ).split(),
    "search_result": "id chat_id message_id block_id page_number block_text coords_norm coords_px created_at".split(),
}

_log = logging.getLogger("eve_gateway.chats")

Row = dict[str, Any]
Id = str | uuid.UUID
Kind = Literal["chat", "archive", "message", "image", "search_result"]


@dataclass(frozen=True)
class _Write:
    """A row that is to be at the gateway."""

    kind: Kind
    id: str
    chat_id: str | None
    message_id: str | None
    row: Row
    body: Row
    number: int = 0


class SupabaseClient(SendsLater):
    """Chats of one consumer or project. Safe to use from several threads, and by several processes with one folder.

    Args:
        url: the project's address; by default EVE_GATEWAY_URL, else SUPABASE_URL.
        secret: a consumer's secret with the scope ``chats``, or the project's secret key; by default EVE_GATEWAY_SECRET, else
            SUPABASE_SERVICE_KEY, SUPABASE_SECRET_KEY or SUPABASE_KEY.
        folder: where rows wait while nobody answers; by default EVE_CHATS_FOLDER, else ``~/.eve_gateway/chats``.
        storage: where the files of pictures go; a picture is sent after its file.
        max_local_bytes: what may wait there.
        timeout: seconds without a byte after which the gateway counts as away.

    All methods raise EveError where the gateway refuses, such as ``invalid_request`` (also while it is away), ``chat_not_found``,
    ``message_not_found`` or a credential that is none; and ``local_storage_full``.
    """

    _log = _log
    _schema = _SCHEMA
    _folder_variable = FOLDER_VARIABLE
    _folder_name = "chats"

    def __init__(
        self,
        url: str | None = None,
        secret: str | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        storage: S3Storage = s3_storage,
        max_local_bytes: int = DEFAULT_MAX_LOCAL_BYTES,
        timeout: float = TIMEOUT_S,
    ) -> None:
        super().__init__(url, secret, folder, timeout)
        self.storage = storage
        self.max_local_bytes = max_local_bytes
        self._remembered = 0
        #: Messages that go straight to the gateway just now, and are not noted here yet.
        self._under_way: set[str] = set()

    # Chats

    async def create_chat(
        self,
        title: str | None = None,
        user_id: str | None = None,
        description: str | None = None,
        metadata: Row | None = None,
        *,
        document_path: str | None = None,
        chat_id: Id | None = None,
    ) -> str:
        """Begins a chat and answers its id.

        Args:
            title: at most 2,000 bytes.
            user_id: your own name for the user whose it is, at most 800 bytes: a filter, and no right.
            description: at most 16,000 bytes.
            metadata: an object of at most 16,384 bytes of JSON.
            document_path: kept in ``metadata`` under this name.
            chat_id: a UUID of your own; the same one again begins no second chat.
        """
        if document_path is not None:
            metadata = {**(metadata or {}), "document_path": document_path}
        given = {"title": title, "user_id": user_id, "description": description, "metadata": metadata}
        new_id = _new_id(chat_id, "chat_id")
        row = _row("chat", {**given, "id": new_id, "metadata": metadata or {}})
        write = _Write("chat", new_id, new_id, None, row, _body({"id": new_id, **given}))
        return str((await asyncio.to_thread(self._write, write))["id"])

    async def get_chat(self, chat_id: Id) -> Row | None:
        """A chat; None where there is none, or nobody answers and it is not known here."""
        return await asyncio.to_thread(self._get_chat, _id(chat_id, "chat_id"))

    async def get_chats(self, user_id: str | None = None, limit: int = 50, *, archived: bool | None = False) -> list[Row]:
        """Chats, newest first.

        Args:
            user_id: those of this user of yours.
            limit: so many at most.
            archived: those that are archived, or are not; None: both.
        """
        return await asyncio.to_thread(self._get_chats, user_id, limit, archived)

    async def archive_chat(self, chat_id: Id) -> bool:
        """Archives a chat. False where there is none."""
        chat = _id(chat_id, "chat_id")
        now = _now()
        write = _Write("archive", str(uuid.uuid4()), chat, None, {"archived_at": now}, {"archived": True})
        try:
            await asyncio.to_thread(self._write, write)
        except EveError as error:
            if error.code == "chat_not_found":
                return False
            raise
        return True

    # Messages

    async def add_message(
        self,
        chat_id: Id,
        role: str,
        content: str,
        message_type: str = "text",
        *,
        client_id: str | None = None,
        edits: Id | None = None,
        parts: list[Row] | None = None,
        request_id: str | None = None,
        usage: Row | None = None,
    ) -> str:
        """Adds a message to a chat, behind all that it has, and answers the message's id.

        Args:
            role: ``user``, ``assistant``, ``system`` or ``tool``.
            content: at most 1,000,000 bytes of UTF-8.
            message_type: a word of yours, at most 400 bytes.
            client_id: your own name for it: the same one again adds nothing and answers the message that is there.
            edits: it is a further branch beside this message.
            parts: what is not text, in the form of the gateway's API.
            request_id: the gateway's call that made it, with its ``usage``.
        """
        chat = _id(chat_id, "chat_id")
        new_id = str(uuid.uuid4())
        given = {"role": role, "content": content, "message_type": message_type, "parts": parts, "request_id": request_id, "usage": usage}
        body = _body({
            "id": new_id,
            **given,
            "client_id": new_id if client_id is None else client_id,
            "edits": None if edits is None else _id(edits, "edits"),
        })
        row = _row("message", {**given, "id": new_id, "chat_id": chat, "client_id": body["client_id"], "state": "complete"})
        return str((await asyncio.to_thread(self._write, _Write("message", new_id, chat, None, row, body)))["id"])

    async def get_chat_messages(self, chat_id: Id, limit: int | None = None) -> list[Row]:
        """The messages of a chat, branches and all, in the order in which they came; those that wait here last.

        Args:
            limit: the last so many; None: all of them.
        """
        return await asyncio.to_thread(self._get_messages, _id(chat_id, "chat_id"), limit)

    # Pictures

    async def add_image_to_message(
        self,
        chat_id: Id | None,
        message_id: Id,
        image_name: str | None = None,
        s3_path: str | None = None,
        s3_url: str | None = None,
        image_type: str | None = "viewport",
        description: str | None = None,
        width: int | None = None,
        height: int | None = None,
        file_size: int | None = None,
    ) -> str:
        """Adds a picture to a message and answers the picture's id.

        Args:
            s3_path: the key with which the file was uploaded. It then stays as long as the picture does.
            s3_url: where it can be read. A path on this machine, or an address that is signed and so ends, is not sent along with an
                ``s3_path``: the gateway answers a lasting one, if the file is its own.
            width, height: pixels.
            file_size: bytes.
        """
        given = {"image_name": image_name, "s3_path": s3_path, "s3_url": s3_url, "image_type": image_type}
        given |= {"description": description, "width": width, "height": height, "file_size": file_size}
        message = self._is_now(_id(message_id, "message_id"))
        chat = None if chat_id is None else _id(chat_id, "chat_id")
        new_id = str(uuid.uuid4())
        sent = given if s3_path is None or _lasts(s3_url) else {**given, "s3_url": None}
        row = _row("image", {**given, "id": new_id, "message_id": message})
        write = _Write("image", new_id, chat, message, row, _body({"id": new_id, **sent}))
        return str((await asyncio.to_thread(self._write, write))["id"])

    async def get_message_images(self, message_id: Id) -> list[Row]:
        """The pictures of a message, in the order in which they came."""
        return await asyncio.to_thread(self._get_images, self._is_now(_id(message_id, "message_id")))

    # Search results

    async def add_search_result(
        self,
        chat_id: Id,
        message_id: Id | None = None,
        block_id: str | None = None,
        page_number: int | None = None,
        block_text: str | None = None,
        coords_norm: Any = None,
        coords_px: Any = None,
    ) -> str:
        """Adds a place in a document that a search found, and answers its id.

        Args:
            message_id: for which message; None: for the chat.
            block_text: at most 100,000 bytes.
            coords_norm: where on the page, in parts of its width and height, as JSON of at most 4,096 bytes.
            coords_px: the same in pixels.
        """
        chat = _id(chat_id, "chat_id")
        message = None if message_id is None else self._is_now(_id(message_id, "message_id"))
        given = {"message_id": message, "block_id": block_id, "page_number": page_number, "block_text": block_text}
        given |= {"coords_norm": coords_norm, "coords_px": coords_px}
        new_id = str(uuid.uuid4())
        row = _row("search_result", {**given, "id": new_id, "chat_id": chat})
        write = _Write("search_result", new_id, chat, message, row, _body({"id": new_id, **given}))
        return str((await asyncio.to_thread(self._write, write))["id"])

    async def get_search_results(self, chat_id: Id, message_id: Id | None = None) -> list[Row]:
        """The search results of a chat, or of one of its messages, in the order in which they came."""
        message = None if message_id is None else self._is_now(_id(message_id, "message_id"))
        return await asyncio.to_thread(self._get_results, _id(chat_id, "chat_id"), message)

    # The gateway

    def is_connected(self) -> bool:
        """Whether chats can be read and written now, at the gateway."""
        try:
            self._get("chats", limit=1)
        except EveError as error:
            if not is_away(error):
                _log.warning("The gateway refuses: %s", error)
            return False
        self._sync_in_background()
        return True

    def _switched_off(self) -> str | None:
        if not is_set("USE_DATABASE", True):
            return "USE_DATABASE is off"
        return "SUPABASE_DISABLED is on" if is_set("SUPABASE_DISABLED", False) else None

    def _get(self, path: str, **asked: str | int | None) -> Row:
        return self._eve()._post(f"api/v1/{path}{query(**asked)}", None, method="GET")

    def _pages(self, path: str, name: str, most: int | None, **asked: str | int | None) -> list[Row]:
        """All entries of a list, page by page, or the first so many."""
        entries: list[Row] = []
        after: str | None = None
        while most is None or len(entries) < most:
            limit = _PAGE if most is None else min(_PAGE, most - len(entries))
            page = self._get(path, **asked, limit=limit, after=after)
            entries += page[name]
            after = page["next"]
            if after is None:
                break
        return entries

    def _send(self, write: _Write) -> Row:
        """Answers the row as the gateway has it, also where it had it before."""
        post = self._eve()._post
        match write.kind:
            case "chat":
                return post("api/v1/chats", write.body)
            case "archive":
                return post(f"api/v1/chats/{write.chat_id}", write.body, method="PATCH")
            case "message":
                return post(f"api/v1/chats/{write.chat_id}/messages", write.body)
            case "image":
                return post(f"api/v1/messages/{write.message_id}/images", write.body)
            case _:
                body = {**write.body, **({} if write.message_id is None else {"message_id": write.message_id})}
                added = post(f"api/v1/chats/{write.chat_id}/search-results", body)["results"]
                return added[0] if added else {**write.row, "created_at": write.row["created_at"] or _now()}

    # Writing

    def _write(self, write: _Write) -> Row:
        # Those that wait go first: a message stands behind all that were answered before it.
        waits, answers = self._must_wait(write)
        if waits:
            row = self._keep(write)
            if answers:
                self._sync_in_background()
            return row
        self._under_way.add(write.id)
        try:
            row = self._send(write)
            self._remember("chat" if write.kind == "archive" else write.kind, [row], write.chat_id, is_ours=True)
        except EveError as error:
            if not is_away(error):
                raise
            _log.warning("The database does not answer (%s): the %s is kept here and sent later.", error.code, _NAMES[write.kind])
            return self._keep(write)
        finally:
            self._under_way.discard(write.id)
        self._sync_in_background()
        return row

    def _must_wait(self, write: _Write) -> tuple[bool, bool]:
        """Whether something that waits goes before it, and whether somebody answers."""
        # Nothing rests on a picture, which may wait for its file.
        before = "select max(number) from rows where body is not null and error is null and kind <> 'image'"
        [(last,)] = self._asked(before) or [(None,)]
        if last is not None:
            # No further: others may go on adding.
            _, answers = self._drain(fresh_only=True, until=last)
            if self._asked(before) != [(None,)]:
                return True, answers
        return write.kind == "image" and self._file_waits(write) and self._file_waits(write, after_sync=True), True

    def _waits(self) -> bool:
        return self._asked("select 1 from rows where body is not null and error is null limit 1") != []

    def _file_waits(self, write: _Write, after_sync: bool = False) -> bool:
        """Whether the file of a picture is still on this machine: named before it is there, it would not be the picture's."""
        path = write.body.get("s3_path")
        if path is None:
            return False
        if after_sync:
            self.storage._send_waiting(fresh_only=True)
        # One that is refused holds its picture up no longer.
        return self.storage._waiting_path(path, fresh_only=True) is not None

    def _keep(self, write: _Write) -> Row:
        """Keeps a row until the gateway is back: it is on the disk when this returns."""
        row = {**write.row, **({} if write.kind == "archive" else {"created_at": _now()})}
        if write.kind == "chat":
            row["updated_at"] = row["created_at"]
        body = json.dumps(write.body)
        with self._journal() as journal:
            journal.execute("begin immediate")
            if write.kind == "message":
                there = journal.execute(
                    "select row from rows where kind = 'message' and chat_id = ? and client_id = ?", (write.chat_id, row["client_id"])
                ).fetchone()
                if there is not None:
                    return dict(json.loads(there[0]))
                row["parent_id"] = _end_here(journal, write.chat_id)
            text = json.dumps(row)
            (held,) = journal.execute("select coalesce(sum(size_bytes), 0) from rows where body is not null").fetchone()
            if held + len(text) + len(body) > self.max_local_bytes:
                raise EveError(
                    "local_storage_full",
                    f"{self.folder} holds {held} bytes that wait for the gateway, of at most {self.max_local_bytes}.",
                )
            journal.execute(
                "insert into rows (kind, id, chat_id, message_id, client_id, row, body, size_bytes, touched_at)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (kind, id) do nothing",
                (
                    write.kind,
                    write.id,
                    write.chat_id,
                    write.message_id,
                    row.get("client_id"),
                    text,
                    body,
                    len(text) + len(body),
                    time.time(),
                ),
            )
            journal.execute("commit")
        return row

    def _send_waiting(self, fresh_only: bool) -> SyncReport:
        return self._drain(fresh_only)[0]

    def _drain(self, fresh_only: bool, until: int | None = None) -> tuple[SyncReport, bool]:
        """Sends what waits, up to a number; and whether somebody answers."""
        if not self._has_journal():
            return SyncReport(), True
        sent, refused, tried = 0, [], 0
        ends: set[str] = set()
        files_tried, answers, is_over = False, True, False
        while not is_over:
            with self._sending_alone() as alone:
                while alone and answers and (write := self._next_waiting(tried, until, fresh_only)) is not None:
                    tried = write.number
                    if write.kind == "image" and self._file_waits(write):
                        waits, files_tried = files_tried or self._file_waits(write, after_sync=True), True
                        if waits:
                            continue
                    try:
                        answer = self._send_behind(write, ends)
                    except EveError as error:
                        if is_away(error):
                            answers = False
                            continue
                        _log.warning("A %s, kept here as %s, is refused: %s", _NAMES[write.kind], write.id, error)
                        refused.append((write.id, error))
                        with self._journal() as journal:
                            journal.execute("update rows set error = ? where number = ?", (str(error), write.number))
                    else:
                        sent += 1
                        self._mark_sent(write, answer)
            # Anyone who kept a row while this was about to end found the lock taken: it is sent here.
            is_over = not alone or not answers or self._next_waiting(tried, until, fresh_only) is None
        [(waiting,)] = self._asked("select count(*) from rows where body is not null")
        return SyncReport(sent, waiting, refused), answers

    def _next_waiting(self, after: int, until: int | None, fresh_only: bool) -> _Write | None:
        found = self._asked(
            "select kind, id, chat_id, message_id, row, body, number from rows"
            " where body is not null and number > ? and number <= coalesce(?, number)"
            f" {'and error is null' if fresh_only else ''} order by number limit 1",
            (after, until),
        )
        if not found:
            return None
        kind, row_id, chat_id, message_id, row, body, number = found[0]
        return _Write(kind, row_id, chat_id, message_id, json.loads(row), json.loads(body), number)

    def _send_behind(self, write: _Write, ends: set[str]) -> Row:
        """Sends what waited; a message behind the one that its writer saw last: where the chat went on elsewhere, it is a branch."""
        if write.kind != "message":
            return self._send(write)
        edits = write.body.get("edits")
        if edits is not None:
            return self._send(_with_body(write, edits=self._is_now(edits)))
        parent = self._end_of(write, ends)
        if parent is None:
            return self._send(write)
        try:
            return self._send(_with_body(write, parent_id=parent))
        except EveError as error:
            if error.code != "message_not_found":
                raise
            # What it would follow is no longer there, as after a backup was restored: at the end, then.
            return self._send(write)

    def _end_of(self, write: _Write, ends: set[str]) -> str | None:
        """The message that one follows; None: wherever its chat ends. ``ends``: the chats that were asked for theirs in this run."""
        chat_id = str(write.chat_id)
        last_seen = "select message_id from leaves where chat_id = ?"
        if not self._asked(last_seen, (chat_id,)):
            return None
        leaf = None
        if chat_id not in ends:
            leaf = self._get(f"chats/{chat_id}")["leaf_id"]
            ends.add(chat_id)
            # Ours, on its way or with its answer lost.
            ours = "select 1 from rows where kind = 'message' and id = ? and body is not null"
            if leaf is not None and (leaf in self._under_way or self._asked(ours, (leaf,))):
                return str(leaf)
        [(known,)] = self._asked(last_seen, (chat_id,))
        if leaf not in (None, known):
            _log.warning("Chat %s went on elsewhere: what was written here meanwhile is a branch of it.", chat_id)
        return str(known)

    def _mark_sent(self, write: _Write, answer: Row) -> None:
        with self._journal() as journal:
            journal.execute("begin immediate")
            if write.kind == "archive" or answer["id"] != write.id:
                journal.execute("delete from rows where number = ?", (write.number,))
            else:
                journal.execute("update rows set body = null, error = null where number = ?", (write.number,))
            if write.kind == "message" and answer["id"] != write.id:
                journal.execute("insert or replace into renamed (id, is_now) values (?, ?)", (write.id, answer["id"]))
                journal.execute("update rows set message_id = ? where message_id = ?", (answer["id"], write.id))
            _know(journal, "chat" if write.kind == "archive" else write.kind, [answer], write.chat_id, is_ours=True)
            journal.execute("commit")

    # Reading

    def _get_chat(self, chat_id: str) -> Row | None:
        chats = self._read("chat", lambda: [self._get(f"chats/{chat_id}")], chat_id=chat_id)
        return chats[0] if chats else None

    def _get_chats(self, user_id: str | None, limit: int, archived: bool | None) -> list[Row]:
        which = {None: "all", True: "true", False: "false"}[archived]
        chats = [
            chat
            for chat in self._read("chat", lambda: self._pages("chats", "chats", limit, user_id=user_id, archived=which))
            if user_id in (None, chat["user_id"]) and archived in (None, chat["archived_at"] is not None) and chat["deleted_at"] is None
        ]
        return sorted(chats, key=lambda chat: _instant(chat["created_at"]), reverse=True)[: max(limit, 0)]

    def _get_messages(self, chat_id: str, limit: int | None) -> list[Row]:
        def ask() -> list[Row]:
            found = self._pages(f"chats/{chat_id}/messages", "messages", limit, order="asc" if limit is None else "desc")
            return found if limit is None else found[::-1]

        messages = self._read("message", ask, chat_id=chat_id)
        return messages if limit is None else messages[max(len(messages) - limit, 0) :]

    def _get_images(self, message_id: str) -> list[Row]:
        return self._read("image", lambda: list(self._get(f"messages/{message_id}/images")["images"]), message_id=message_id)

    def _get_results(self, chat_id: str, message_id: str | None) -> list[Row]:
        path = f"chats/{chat_id}/search-results"
        of = {"chat_id": chat_id, **({} if message_id is None else {"message_id": message_id})}
        return self._read("search_result", lambda: self._pages(path, "results", None, message_id=message_id), **of)

    def _read(self, kind: Kind, ask: Callable[[], list[Row]], **of: str) -> list[Row]:
        """What the gateway has, or had when it answered last, and behind it what waits here."""
        # Before it is asked: what is sent while it answers would be in neither.
        waiting = self._rows(kind, "body is not null", **of)
        archived = self._archived_here() if kind == "chat" else {}
        try:
            found = ask()
        except EveError as error:
            if is_away(error):
                _log.warning("The database does not answer (%s): what is known here is answered.", error.code)
                found = sorted(self._rows(kind, "body is null", **of), key=lambda row: _instant(row["created_at"]))
            elif error.code in {"chat_not_found", "message_not_found"}:
                # It may wait here.
                found = []
            else:
                raise
        else:
            self._remember(kind, found[-MOST_REMEMBERED:], of.get("chat_id"))
            self._sync_in_background()
        there = {row.get("client_id") or row["id"] for row in found}
        rows = found + [row for row in waiting if (row.get("client_id") or row["id"]) not in there]
        return [{**row, "archived_at": row["archived_at"] or archived.get(row["id"])} for row in rows] if archived else rows

    def _archived_here(self) -> dict[str, str]:
        """When chats were archived whose archiving waits, by their ids."""
        waiting = self._asked("select chat_id, row from rows where kind = 'archive' and body is not null")
        return {chat_id: json.loads(row)["archived_at"] for chat_id, row in waiting}

    # What is known here

    def _rows(self, kind: Kind, which: str, **of: str) -> list[Row]:
        conditions = "".join(f" and {column} = ?" for column in of)
        found = self._asked(f"select row from rows where kind = ? and {which}{conditions} order by number", (kind, *of.values()))
        return [json.loads(row) for (row,) in found]

    def _is_now(self, message_id: str) -> str:
        found = self._asked("select is_now from renamed where id = ?", (message_id,))
        return str(found[0][0]) if found else message_id

    def _asked(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        if not self._has_journal():
            return []
        with self._journal() as journal:
            return journal.execute(statement, tuple(values)).fetchall()

    def _remember(self, kind: Kind, rows: list[Row], chat_id: str | None = None, is_ours: bool = False) -> None:
        """Keeps rows of the gateway to be read while it is away. Without a disk to write to, it goes on without."""
        try:
            with self._journal() as journal:
                journal.execute("begin immediate")
                _know(journal, kind, rows, chat_id, is_ours)
                if self._remembered % _MEASURED_EVERY == 0:
                    _forget(journal)
                journal.execute("commit")
            self._remembered += 1
        except (OSError, sqlite3.Error):
            _log.debug("What the gateway answered could not be kept in %s.", self.folder, exc_info=True)


_NAMES = {"chat": "chat", "archive": "chat's archiving", "message": "message", "image": "picture", "search_result": "search result"}


def _know(journal: sqlite3.Connection, kind: Kind, rows: list[Row], chat_id: str | None, is_ours: bool) -> None:
    """Takes rows over as the gateway has them; what waits stays as it is. ``is_ours``: they were sent from here, and not read."""
    now = time.time()
    for row in rows:
        text = json.dumps(row)
        chat = row["id"] if kind == "chat" else row.get("chat_id", chat_id)
        message = row["message_id"] if kind in ("image", "search_result") else None
        journal.execute(
            "insert into rows (kind, id, chat_id, message_id, client_id, row, size_bytes, touched_at) values (?, ?, ?, ?, ?, ?, ?, ?)"
            " on conflict (kind, id) do update set row = excluded.row, size_bytes = excluded.size_bytes, touched_at = excluded.touched_at"
            " where body is null",
            (kind, row["id"], chat, message, row.get("client_id"), text, len(text), now),
        )
    if kind != "message" or not rows:
        return
    last = max(rows, key=lambda row: _instant(row["created_at"]))
    waiting = "select 1 from rows where kind = 'message' and chat_id = ? and body is not null limit 1"
    if not is_ours and journal.execute(waiting, (last["chat_id"],)).fetchone() is not None:
        # Who wrote what waits had not read this.
        return
    known = journal.execute("select created_at from leaves where chat_id = ?", (last["chat_id"],)).fetchone()
    if known is None or _instant(known[0]) < _instant(last["created_at"]):
        journal.execute(
            "insert or replace into leaves (chat_id, message_id, created_at) values (?, ?, ?)",
            (last["chat_id"], last["id"], last["created_at"]),
        )


def _forget(journal: sqlite3.Connection) -> None:
    """The oldest of what the gateway has, once there is too much of it."""
    journal.execute(
        "delete from rows where number in ("
        "select number from (select number, sum(size_bytes) over (order by touched_at desc, number desc) as held from rows where body is null)"
        " where held > ?)",
        (MAX_KNOWN_BYTES,),
    )
    journal.execute("delete from renamed where rowid <= (select max(rowid) from renamed) - 10000")


def _end_here(journal: sqlite3.Connection, chat_id: str | None) -> str | None:
    """The message with which a chat ends, as far as it is known here."""
    waiting = "select id from rows where kind = 'message' and chat_id = ? and body is not null order by number desc limit 1"
    for statement in (waiting, "select message_id from leaves where chat_id = ?"):
        if (found := journal.execute(statement, (chat_id,)).fetchone()) is not None:
            return str(found[0])
    return None


def _with_body(write: _Write, **fields: str) -> _Write:
    return _Write(write.kind, write.id, write.chat_id, write.message_id, write.row, {**write.body, **fields}, write.number)


def _row(kind: Kind, given: Row) -> Row:
    return {column: given.get(column) for column in _COLUMNS[kind]}


def _body(given: Row) -> Row:
    """What is given, checked as the gateway would: while it is away nobody else does. Raises EveError ``invalid_request``."""
    body = {name: value for name, value in given.items() if value is not None}
    for name, value in body.items():
        if name in _JSON_BYTES:
            _check_json(name, value)
        elif name in {"width", "height", "file_size", "page_number"}:
            if not isinstance(value, int) or isinstance(value, bool) or value >= 2 ** (53 if name == "file_size" else 31):
                raise _invalid(f"{name} must be a whole number")
            if value < (-(2**31) if name == "page_number" else 0):
                raise _invalid(f"{name} is too small")
        else:
            _check_text(name, value)
    if body.get("role", "user") not in _ROLES:
        raise _invalid(f"role must be one of {', '.join(_ROLES)}")
    return body


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _invalid(f"{name} must be a text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise _invalid(f"{name} holds half of a character (a lone surrogate)") from None
    most = _TEXT_BYTES.get(name, _MOST_BYTES)
    if size > most:
        raise _invalid(f"{name} has {size} bytes, of at most {most}")
    if "\x00" in value:
        raise _invalid(f"{name} holds a NUL, which the database does not take")
    if name == "client_id" and value == "":
        raise _invalid("client_id must not be empty")


def _check_json(name: str, value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise _invalid(f"{name} is no JSON: {problem}") from None
    size = len(text.encode(errors="replace"))
    if size > _JSON_BYTES[name]:
        raise _invalid(f"{name} has {size} bytes of JSON, of at most {_JSON_BYTES[name]}")
    if "\\u0000" in text:
        raise _invalid(f"{name} holds a NUL, which the database does not take")
    if name in {"metadata", "usage"} and not isinstance(value, dict):
        raise _invalid(f"{name} must be an object")


def _invalid(message: str) -> EveError:
    return EveError("invalid_request", f"{message}.", status=400)


def _id(value: Id, name: str) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise _invalid(f"{name} must be a UUID, and is {str(value)[:50]!r}") from None


def _new_id(value: Id | None, name: str) -> str:
    return str(uuid.uuid4()) if value is None else _id(value, name)


def _lasts(url: str | None) -> bool:
    """Whether it is an address, and not signed for a while only."""
    parsed = urllib.parse.urlsplit(url or "")
    names = {name.lower() for name, _ in urllib.parse.parse_qsl(parsed.query)}
    return parsed.scheme in {"http", "https"} and not names & {"signature", "x-amz-signature"}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _instant(text: str) -> datetime:
    """Of the database's text, whose fraction of a second has as many digits as it needs; Python 3.10 reads six."""
    whole, _, rest = text.replace("Z", "+00:00").partition(".")
    if not rest:
        return datetime.fromisoformat(whole)
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return datetime.fromisoformat(f"{whole}.{rest[:digits]:0<6.6}{rest[digits:]}")


supabase_client = SupabaseClient()
