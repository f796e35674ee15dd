"""Chats from Python: against a gateway played here, and, where EVE_CHATS_SECRET is set, against a running stack.

Run by: python3 -m unittest discover -s tests/python
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

CLIENT = str(Path(__file__).resolve().parents[2] / "clients" / "python")
sys.path.insert(0, CLIENT)

import supabase_client as module  # noqa: E402
from eve_gateway import EveError  # noqa: E402
from s3_storage import S3Storage  # noqa: E402
from supabase_client import SupabaseClient, SyncReport  # noqa: E402

SERVICE = "eve_service_0123456789abcdef_" + "cd" * 32
API = "/functions/v1/api/v1"
SETTINGS = (
    "EVE_GATEWAY_URL EVE_GATEWAY_SECRET SUPABASE_URL SUPABASE_SERVICE_KEY SUPABASE_SECRET_KEY SUPABASE_KEY SUPABASE_DISABLED"
    " USE_DATABASE USE_S3_STORAGE DATABASE_URL"
).split()


def run(awaitable: Any) -> Any:
    return asyncio.run(awaitable)


def refusal(code: str, retryable: bool = False) -> dict:
    return {"error": {"code": code, "message": "No.", "request_id": "r", "retryable": retryable}}


class PlayedGateway:
    """The API of chats over dictionaries, as docs/chats.md says it is. ``reply`` of a test goes before what it does by itself."""

    def __init__(self) -> None:
        self.chats: dict[str, dict] = {}
        self.messages: list[dict] = []
        self.images: list[dict] = []
        self.results: list[dict] = []
        self.asked: list[tuple[str, str]] = []
        #: No answer comes. "after": what was asked has been done all the same.
        self.is_away: bool | str = False
        self.reply: Callable[[str, str], tuple[int, dict] | str | None] = lambda method, path: None
        self.lock = threading.Lock()
        self.clock = datetime(2026, 1, 1, tzinfo=timezone.utc)
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                url = urllib.parse.urlsplit(self.path)
                path = url.path.removeprefix(API)
                with played.lock:
                    played.asked.append((self.command, path))
                    said = "hang up" if played.is_away is True else played.reply(self.command, path)
                    answer = said
                    if said in (None, "hang up after"):
                        asked = dict(urllib.parse.parse_qsl(url.query))
                        answer = played.answer(self.command, path.strip("/").split("/"), json.loads(body) if body else {}, asked)
                    if played.is_away == "after" or said == "hang up after":
                        answer = "hang up"
                if answer == "hang up":
                    self.close_connection = True
                    return self.connection.close()
                raw = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(raw)

            do_GET = do_POST = do_PATCH = do_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def now(self) -> str:
        self.clock += timedelta(milliseconds=1)
        # As the database writes it: no zeros at the end.
        return self.clock.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "+00:00"

    def answer(self, method: str, parts: list[str], body: dict, asked: dict) -> tuple[int, dict]:
        match method, parts:
            case "POST", ["chats"]:
                if body["id"] in self.chats:
                    return 200, self.chats[body["id"]]
                at = self.now()
                empty = {"leaf_id": None, "archived_at": None, "deleted_at": None, "user_id": None, "created_at": at, "updated_at": at}
                self.chats[body["id"]] = {"metadata": {}, **empty, **body}
                return 201, self.chats[body["id"]]
            case "GET", ["chats"]:
                chats = [
                    chat
                    for chat in reversed(self.chats.values())
                    if asked.get("user_id") in (None, chat["user_id"])
                    and asked.get("archived", "false") in ("all", str(chat["archived_at"] is not None).lower())
                ]
                return self.page("chats", chats, asked)
            case _, ["chats", chat_id, *_] if chat_id not in self.chats:
                return 404, refusal("chat_not_found")
            case "GET", ["chats", chat_id]:
                return 200, self.chats[chat_id]
            case "PATCH", ["chats", chat_id]:
                assert body == {"archived": True}
                self.chats[chat_id]["archived_at"] = self.chats[chat_id]["archived_at"] or self.now()
                return 200, self.chats[chat_id]
            case "POST", ["chats", chat_id, "messages"]:
                return self.add(chat_id, body)
            case "GET", ["chats", chat_id, "messages"]:
                there = [message for message in self.messages if message["chat_id"] == chat_id]
                return self.page("messages", there[::-1] if asked.get("order") == "desc" else there, asked)
            case "POST", ["chats", chat_id, "search-results"]:
                if any(row["id"] == body["id"] for row in self.results):
                    return 201, {"results": []}
                self.results.append({"message_id": None, **body, "chat_id": chat_id, "created_at": self.now()})
                return 201, {"results": self.results[-1:]}
            case "GET", ["chats", chat_id, "search-results"]:
                of = asked.get("message_id")
                there = [row for row in self.results if row["chat_id"] == chat_id and of in (None, row["message_id"])]
                return self.page("results", there, asked)
            case _, ["messages", message_id, "images"]:
                if not any(message["id"] == message_id for message in self.messages):
                    return 404, refusal("message_not_found")
                there = [row for row in self.images if row["message_id"] == message_id]
                if method == "GET":
                    return 200, {"images": there}
                if not any(row["id"] == body["id"] for row in there):
                    self.images.append({"s3_url": None, **body, "message_id": message_id, "created_at": self.now()})
                return 201, next(row for row in self.images if row["id"] == body["id"])
        return 599, {}

    def add(self, chat_id: str, body: dict) -> tuple[int, dict]:
        chat = self.chats[chat_id]
        for there in self.messages:
            if there["chat_id"] == chat_id and there["client_id"] == body["client_id"]:
                return 200, there
        parent = body.get("parent_id", chat["leaf_id"])
        if "edits" in body:
            parent = next(message["parent_id"] for message in self.messages if message["id"] == body["edits"])
        elif parent is not None and not any(message["id"] == parent for message in self.messages):
            return 404, refusal("message_not_found")
        message = {"state": "complete", **body, "chat_id": chat_id, "parent_id": parent, "created_at": self.now()}
        self.messages.append(message)
        chat["leaf_id"] = message["id"]
        return 201, message

    @staticmethod
    def page(name: str, rows: list[dict], asked: dict) -> tuple[int, dict]:
        start = int(asked.get("after", 0))
        end = start + int(asked["limit"])
        return 200, {name: rows[start:end], "next": str(end) if end < len(rows) else None}

    def texts(self) -> list[str]:
        return [message["content"] for message in self.messages]

    def paths(self) -> dict[str, str | None]:
        """What each text follows."""
        texts = {message["id"]: message["content"] for message in self.messages}
        return {message["content"]: texts.get(message["parent_id"]) for message in self.messages}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Played(unittest.TestCase):
    def setUp(self) -> None:
        self.played = PlayedGateway()
        self.addCleanup(self.played.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        # What the tests bring about on purpose is no news.
        module._log.disabled = True
        self.addCleanup(setattr, module._log, "disabled", False)

    def storage(self) -> S3Storage:
        return S3Storage(self.played.url, SERVICE, folder=self.folder / "files")

    def client(self, folder: str = "kept", **options: Any) -> SupabaseClient:
        client = SupabaseClient(self.played.url, SERVICE, folder=self.folder / folder, **{"storage": self.storage(), **options})
        self.addCleanup(self.settled, client)
        return client

    def settled(self, client: SupabaseClient) -> None:
        if client._background is not None:
            client._background.join()

    def assertRefused(self, code: str, awaitable: Any) -> None:  # noqa: N802
        with self.assertRaises(EveError) as raised:
            run(awaitable)
        self.assertEqual(raised.exception.code, code)


class Answering(Played):
    def test_the_calls_that_people_have_answer_ids_and_rows(self) -> None:
        async def conversation() -> None:
            client = self.client()
            chat_id = await client.create_chat(title="Plans", user_id="ann", description="Where is what", metadata={"pages": 3})
            self.assertEqual((await client.get_chat(chat_id))["title"], "Plans")
            message_id = await client.add_message(chat_id=chat_id, role="user", content="Где стена?", message_type="text")
            answer_id = await client.add_message(chat_id, "assistant", "На листе 4.")
            self.assertEqual(
                [(row["id"], row["role"], row["content"]) for row in await client.get_chat_messages(chat_id)],
                [(message_id, "user", "Где стена?"), (answer_id, "assistant", "На листе 4.")],
            )
            image_id = await client.add_image_to_message(
                chat_id=chat_id,
                message_id=message_id,
                image_name="v.png",
                s3_path=f"chats/{chat_id}/viewport/v.png",
                s3_url="https://s3.example/v.png?X-Amz-Signature=abc",
                image_type="viewport",
                description="First",
                width=2048,
                height=1024,
                file_size=1024000,
            )
            [image] = await client.get_message_images(message_id)
            self.assertEqual((image["id"], image["image_name"], image["width"], image["s3_url"]), (image_id, "v.png", 2048, None))
            result_id = await client.add_search_result(chat_id, message_id, "b", 5, "Система", [0.1, 0.2], [100, 200])
            await client.add_search_result(chat_id=chat_id, message_id=None, block_text="Of the chat")
            results = await client.get_search_results(chat_id)
            self.assertEqual((results[0]["id"], results[0]["coords_px"], results[1]["message_id"]), (result_id, [100, 200], None))
            self.assertEqual([row["id"] for row in await client.get_search_results(chat_id, message_id)], [result_id])
            other = await client.create_chat("Of another", "bob")
            self.assertEqual([row["id"] for row in await client.get_chats("ann", limit=10)], [chat_id])
            self.assertEqual([row["id"] for row in await client.get_chats()], [other, chat_id])
            self.assertIs(await client.archive_chat(chat_id), True)
            self.assertEqual([row["id"] for row in await client.get_chats()], [other])
            self.assertEqual([row["id"] for row in await client.get_chats(archived=True)], [chat_id])
            self.assertIs(client.is_connected(), True)

        run(conversation())

    def test_what_is_not_there(self) -> None:
        client = self.client()
        self.assertIsNone(run(client.get_chat(uuid.uuid4())))
        self.assertIs(run(client.archive_chat(uuid.uuid4())), False)
        self.assertEqual(run(client.get_chat_messages(uuid.uuid4())), [])
        self.assertEqual(run(client.get_message_images(uuid.uuid4())), [])
        self.assertRefused("chat_not_found", client.add_message(uuid.uuid4(), "user", "?"))
        self.assertEqual(client.sync(), SyncReport())

    def test_lists_are_read_to_their_end_or_as_far_as_wanted(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        for number in range(250):
            self.played.add(chat_id, {"id": str(uuid.uuid4()), "client_id": str(number), "content": str(number)})
        everything = [str(number) for number in range(250)]
        self.assertEqual([row["content"] for row in run(client.get_chat_messages(chat_id))], everything)
        self.assertEqual([row["content"] for row in run(client.get_chat_messages(chat_id, limit=120))], everything[-120:])
        self.assertEqual(run(client.get_chat_messages(chat_id, limit=0)), [])

    def test_bad_input_is_refused_also_while_nobody_answers(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        for self.played.is_away in (False, True):
            for awaitable in [
                client.create_chat("t" * 2_001),
                client.create_chat(metadata={"nan": float("nan")}),
                client.create_chat(metadata=["no object"]),  # type: ignore[arg-type]
                client.add_message("7", "user", "?"),
                client.add_message(chat_id, "robot", "?"),
                client.add_message(chat_id, "user", None),  # type: ignore[arg-type]
                client.add_message(chat_id, "user", "я" * 500_001),
                client.add_message(chat_id, "user", "a\x00b"),
                client.add_message(chat_id, "user", "\ud800"),
                client.add_message(chat_id, "user", "?", client_id=""),
                client.add_image_to_message(chat_id, uuid.uuid4(), width=-1),
                client.add_image_to_message(chat_id, uuid.uuid4(), file_size=1.5),  # type: ignore[arg-type]
                client.add_search_result(chat_id, coords_px=[[0] * 2_000]),
                client.get_chat("../secrets"),
            ]:
                if awaitable.__name__ == "add_message" and awaitable.cr_frame.f_locals["content"] is None:
                    # A text that is missing is the empty one's.
                    awaitable.close()
                    continue
                self.assertRefused("invalid_request", awaitable)
        self.assertEqual(client.sync(), SyncReport())

    def test_a_refusal_is_told_and_nothing_is_kept(self) -> None:
        client = self.client()
        self.played.reply = lambda method, path: (401, refusal("credential_invalid"))
        self.assertRefused("credential_invalid", client.create_chat("Plans"))
        self.assertRefused("credential_invalid", client.get_chats())
        self.assertIs(client.is_connected(), False)
        self.assertEqual(client.sync(), SyncReport())

    def test_without_a_disk_to_write_to_it_goes_on(self) -> None:
        (self.folder / "a file").write_text("no folder")
        client = self.client("a file")
        chat_id = run(client.create_chat("Plans"))
        self.assertEqual(run(client.get_chat(chat_id))["title"], "Plans")


class Away(Played):
    def test_a_whole_conversation_is_kept_read_and_sent_once_in_order(self) -> None:
        client = self.client()
        self.played.is_away = True

        async def conversation() -> tuple[str, str]:
            chat_id = await client.create_chat(title="Plans", user_id="ann")
            message_id = await client.add_message(chat_id, "user", "one")
            await client.add_image_to_message(chat_id, message_id, "v.png", None, "https://x.example/v.png", "viewport")
            await client.add_search_result(chat_id, message_id, block_text="found")
            await client.add_message(chat_id, "assistant", "two")
            await client.archive_chat(chat_id)
            return chat_id, message_id

        async def read(chat_id: str, message_id: str) -> list[Any]:
            chat = await client.get_chat(chat_id)
            messages = await client.get_chat_messages(chat_id)
            return [
                (chat["title"], chat["archived_at"] is not None, chat["metadata"]),
                [(row["content"], row["parent_id"]) for row in messages],
                [row["image_name"] for row in await client.get_message_images(message_id)],
                [row["block_text"] for row in await client.get_search_results(chat_id, message_id)],
                [row["id"] for row in await client.get_chats("ann")],
                [row["id"] for row in await client.get_chats(archived=None)],
            ]

        chat_id, message_id = run(conversation())
        expected = [("Plans", True, {}), [("one", None), ("two", message_id)], ["v.png"], ["found"], [], [chat_id]]
        self.assertEqual(run(read(chat_id, message_id)), expected)
        self.assertIs(client.is_connected(), False)
        self.assertEqual((self.played.chats, self.played.messages), ({}, []))

        self.played.is_away = False
        self.assertEqual(client.sync(), SyncReport(sent=6))
        self.assertEqual(client.sync(), SyncReport())
        self.assertEqual(self.played.paths(), {"one": None, "two": "one"})
        self.assertEqual((len(self.played.images), len(self.played.results)), (1, 1))
        self.assertEqual(run(read(chat_id, message_id)), expected)
        # And once more from here, now with what the gateway said.
        self.played.is_away = True
        self.assertEqual(run(read(chat_id, message_id)), expected)

    def test_the_next_call_that_works_sends_it(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        for call in (client.is_connected, lambda: run(client.get_chats()), lambda: run(client.add_message(chat_id, "user", "last"))):
            self.played.is_away = True
            run(client.add_message(chat_id, "user", "kept"))
            self.played.is_away = False
            call()
            self.settled(client)
            self.assertEqual(client.sync(), SyncReport())
        self.assertEqual(self.played.texts(), ["kept", "kept", "kept", "last"])

    def test_a_warning_is_logged(self) -> None:
        module._log.disabled = False
        self.played.is_away = True
        client = self.client()
        with self.assertLogs("eve_gateway.chats", "WARNING") as logged:
            chat_id = run(client.create_chat())
            run(client.get_chat(chat_id))
        self.assertRegex(logged.output[0], "The database does not answer .*: the chat is kept here and sent later")
        self.assertRegex(logged.output[1], "what is known here is answered")

    def test_a_database_that_is_down_behind_the_gateway_is_away(self) -> None:
        client = self.client()
        self.played.reply = lambda method, path: (503, refusal("database_unavailable", retryable=True))
        chat_id = run(client.create_chat("Plans"))
        self.assertEqual(run(client.get_chat(chat_id))["title"], "Plans")

    def test_an_answer_that_got_lost_adds_nothing_twice(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        first = run(client.add_message(chat_id, "user", "first"))
        self.played.is_away = "after"
        other = run(client.create_chat())
        message_id = run(client.add_message(chat_id, "user", "one"))
        self.played.is_away = True
        run(client.add_message(chat_id, "user", "two"))
        run(client.add_image_to_message(chat_id, message_id, "v.png"))
        self.played.is_away = "after"
        run(client.add_search_result(chat_id, None, "b"))
        self.played.is_away = False
        # Read before it is sent: what is at the gateway is there once.
        self.assertEqual([row["content"] for row in run(client.get_chat_messages(chat_id))][:2], ["first", "one"])
        self.settled(client)
        client.sync()
        self.assertEqual(sorted(self.played.chats), sorted([chat_id, other]))
        self.assertEqual(self.played.paths(), {"first": None, "one": "first", "two": "one"})
        self.assertEqual((len(self.played.images), len(self.played.results)), (1, 1))
        self.assertEqual(run(client.get_chat_messages(chat_id))[0]["id"], first)

    def test_what_is_sent_while_a_list_is_read_is_in_it(self) -> None:
        client, sender = self.client(), self.client()
        self.played.is_away = True
        chat_id = run(client.create_chat())
        run(client.add_message(chat_id, "user", "one"))
        self.played.is_away = False
        ask = client._pages

        def pages(*args: Any, **asked: Any) -> list[dict]:
            found = [] if chat_id not in self.played.chats else ask(*args, **asked)
            self.assertEqual(sender.sync(), SyncReport(sent=2))
            return found

        with mock.patch.object(client, "_pages", pages):
            self.assertEqual([row["content"] for row in run(client.get_chat_messages(chat_id))], ["one"])

    def test_the_same_client_id_is_one_message(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        before = run(client.add_message(chat_id, "user", "one", client_id="1"))
        self.played.is_away = True
        self.assertEqual(run(client.add_message(chat_id, "user", "one", client_id="1")), before)
        two = run(client.add_message(chat_id, "user", "two", client_id="2"))
        self.assertEqual(run(client.add_message(chat_id, "user", "two", client_id="2")), two)
        self.played.is_away = False
        self.assertEqual(run(client.add_message(chat_id, "user", "two", client_id="2")), two)
        self.assertEqual(self.played.texts(), ["one", "two"])

    def test_a_client_id_that_another_machine_has_sent_is_that_message_and_what_belongs_to_it_goes_there(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        self.played.is_away = True
        here = run(client.add_message(chat_id, "user", "one", client_id="1"))
        run(client.add_image_to_message(chat_id, here, "before.png"))
        self.played.add(chat_id, {"id": str(uuid.uuid4()), "client_id": "1", "role": "user", "content": "one"})
        self.played.is_away = False
        client.sync()
        run(client.add_image_to_message(chat_id, here, "after.png"))
        run(client.add_search_result(chat_id, here, "b"))
        self.assertEqual(self.played.texts(), ["one"])
        self.assertEqual([row["image_name"] for row in run(client.get_message_images(here))], ["before.png", "after.png"])
        self.assertEqual([row["block_id"] for row in run(client.get_search_results(chat_id, here))], ["b"])

    def test_a_chat_that_went_on_elsewhere_gets_a_branch_and_loses_nothing(self) -> None:
        here, there = self.client(), self.client("elsewhere")
        chat_id = run(here.create_chat())
        run(here.add_message(chat_id, "user", "question"))
        self.played.is_away = True
        run(here.add_message(chat_id, "user", "kept"))
        run(here.add_message(chat_id, "assistant", "kept too"))
        self.played.is_away = False
        run(there.add_message(chat_id, "user", "meanwhile"))
        module._log.disabled = False
        with self.assertLogs("eve_gateway.chats", "WARNING") as logged:
            # Reading what happened elsewhere does not make it what was known when they were written.
            with mock.patch.object(here, "_sync_in_background"):
                run(here.get_chat_messages(chat_id))
            self.assertEqual(here.sync(), SyncReport(sent=2))
        self.assertIn(f"Chat {chat_id} went on elsewhere", logged.output[0])
        self.assertEqual(
            self.played.paths(), {"question": None, "meanwhile": "question", "kept": "question", "kept too": "kept"}
        )
        self.assertEqual(
            [row["content"] for row in run(here.get_chat_messages(chat_id))], ["question", "meanwhile", "kept", "kept too"]
        )

    def test_an_edit_that_was_kept_is_a_branch_beside_its_message(self) -> None:
        client = self.client()
        self.played.is_away = True
        chat_id = run(client.create_chat())
        one = run(client.add_message(chat_id, "user", "one"))
        run(client.add_message(chat_id, "user", "two"))
        run(client.add_message(chat_id, "user", "one, better", edits=one))
        self.played.is_away = False
        client.sync()
        self.assertEqual(self.played.paths(), {"one": None, "two": "one", "one, better": None})

    def test_what_it_would_follow_is_gone(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        run(client.add_message(chat_id, "user", "after the backup"))
        self.played.is_away = True
        run(client.add_message(chat_id, "user", "kept"))
        self.played.is_away = False
        self.played.messages.clear()
        self.played.chats[chat_id]["leaf_id"] = None
        self.assertEqual(client.sync(), SyncReport(sent=1))
        self.assertEqual(self.played.paths(), {"kept": None})

    def test_a_chat_that_is_gone_keeps_its_rows_here_says_so_and_holds_nobody_up(self) -> None:
        client = self.client()
        gone, other = run(client.create_chat("Gone")), run(client.create_chat("Other"))
        self.played.is_away = True
        message_id = run(client.add_message(gone, "user", "kept"))
        run(client.add_message(other, "user", "taken"))
        self.played.is_away = False
        held = self.played.chats.pop(gone)
        module._log.disabled = False
        with self.assertLogs("eve_gateway.chats", "WARNING") as logged:
            report = client.sync()
        self.assertRegex(logged.output[0], f"A message, kept here as {message_id}, is refused: .*chat_not_found")
        self.assertEqual((report.sent, report.waiting, [(what, error.code) for what, error in report.refused]), (
            1, 1, [(message_id, "chat_not_found")],
        ))
        self.assertEqual([row["content"] for row in run(client.get_chat_messages(gone))], ["kept"])
        # By itself it is not tried again; sync tries it.
        self.settled(client)
        self.played.asked.clear()
        run(client.add_message(other, "user", "next"))
        self.settled(client)
        self.assertEqual(self.played.asked, [("POST", f"/chats/{other}/messages")])
        self.played.chats[gone] = held
        self.assertEqual(client.sync(), SyncReport(sent=1))
        self.assertEqual(self.played.texts(), ["taken", "next", "kept"])

    def test_a_picture_goes_after_its_file(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        message_id = run(client.add_message(chat_id, "user", "one"))
        waiting = {"file.png"}
        client.storage._waiting_path = lambda name, fresh_only=False: Path("x") if name in waiting else None  # type: ignore[method-assign]
        client.storage._send_waiting = lambda fresh_only: None  # type: ignore[method-assign]
        run(client.add_image_to_message(chat_id, message_id, "v.png", "file.png", "/home/me/file.png"))
        [image] = run(client.get_message_images(message_id))
        self.assertEqual((image["s3_path"], image["s3_url"], self.played.images), ("file.png", "/home/me/file.png", []))
        # It holds no message up.
        run(client.add_message(chat_id, "user", "two"))
        self.settled(client)
        self.assertEqual((self.played.texts(), self.played.images), (["one", "two"], []))
        waiting.clear()
        self.assertEqual(client.sync(), SyncReport(sent=1))
        self.assertEqual([(row["s3_path"], row["s3_url"]) for row in self.played.images], [("file.png", None)])

    def test_no_more_waits_than_was_allowed(self) -> None:
        client = self.client(max_local_bytes=3_000)
        self.played.is_away = True
        chat_id = run(client.create_chat())
        run(client.add_message(chat_id, "user", "a" * 500))
        self.assertRefused("local_storage_full", client.add_message(chat_id, "user", "a" * 500))
        self.played.is_away = False
        self.assertEqual(client.sync(), SyncReport(sent=2))

    def test_what_is_remembered_is_bounded_and_what_waits_is_not_forgotten(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        with mock.patch.multiple(module, MAX_KNOWN_BYTES=20_000, _MEASURED_EVERY=1):
            for number in range(40):
                run(client.add_message(chat_id, "user", f"{number} " + "a" * 1_000))
            self.played.is_away = True
            known = [row["content"].split()[0] for row in run(client.get_chat_messages(chat_id))]
            self.assertTrue(5 < len(known) < 20, known)
            self.assertEqual(known, [str(number) for number in range(40 - len(known), 40)])
            for number in range(30):
                run(client.add_message(chat_id, "user", f"kept {number}"))
            self.played.is_away = False
            run(client.get_chats())
            self.settled(client)
            client.sync()
        self.assertEqual(len(self.played.messages), 70)

    def test_the_folder_is_its_owners_alone(self) -> None:
        if os.name != "posix":
            self.skipTest("modes are POSIX's")
        client = self.client()
        client.folder.mkdir(mode=0o755)
        run(client.create_chat())
        self.assertEqual((client.folder / "journal.sqlite").stat().st_mode & 0o077, 0)


class Settings(Played):
    def set(self, **values: str) -> contextlib.AbstractContextManager[Any]:
        return mock.patch.dict(os.environ, {**{name: "" for name in SETTINGS}, **values})

    def test_what_is_not_set_up_or_switched_off_stays_here_until_it_is_on(self) -> None:
        client = SupabaseClient(folder=self.folder / "kept", storage=self.storage())
        on = {"SUPABASE_URL": self.played.url, "SUPABASE_KEY": "sb_secret_x"}
        for settings in ({}, {**on, "USE_DATABASE": "false"}, {**on, "SUPABASE_DISABLED": "true"}):
            with self.set(**settings):
                self.assertIs(client.is_connected(), False)
                run(client.create_chat(json.dumps(settings)))
        self.assertEqual(self.played.asked, [])
        with self.set(**on, USE_DATABASE="true", SUPABASE_DISABLED="0"):
            self.assertEqual(client.sync(), SyncReport(sent=3))

    def test_files_that_are_switched_off_stay_here(self) -> None:
        with self.set(SUPABASE_URL=self.played.url, SUPABASE_KEY="sb_secret_x", USE_S3_STORAGE="off"):
            storage = S3Storage(folder=self.folder / "files")
            with self.assertLogs("eve_gateway.storage"):
                self.assertTrue(Path(storage.upload_file_sync(b"one", "a.txt")).exists())
            self.assertIs(storage.is_connected(), False)
        self.assertEqual(self.played.asked, [])

    def test_src_has_the_same_clients_and_a_config(self) -> None:
        config = importlib.import_module("src.config")
        supabase, storage = importlib.import_module("src.supabase_client"), importlib.import_module("src.s3_storage")
        self.assertIs(supabase.supabase_client, module.supabase_client)
        self.assertIs(storage.s3_storage, importlib.import_module("s3_storage").s3_storage)
        with self.set():
            self.assertEqual((config.config.USE_DATABASE, config.config.USE_S3_STORAGE), (True, True))
            with self.assertRaisesRegex(ValueError, "^DATABASE_URL не установлена$"):
                config.config.get_database_url()
        with self.set(SUPABASE_DISABLED="1", USE_S3_STORAGE="no", SUPABASE_KEY="k", DATABASE_URL="postgresql://x"):
            said = config.config
            self.assertEqual((said.USE_DATABASE, said.USE_S3_STORAGE), (False, False))
            self.assertEqual((said.SUPABASE_SERVICE_KEY, said.get_database_url()), ("k", "postgresql://x"))

    def test_a_file_of_settings_is_read_and_goes_behind_the_environment(self) -> None:
        config = importlib.import_module("src.config")
        file = self.folder / ".env"
        file.write_text("# a word\nexport EVE_TEST_A='one # two'\nEVE_TEST_B=three # why\nEVE_TEST_C=\nEVE_TEST_D=file\nno line\n")
        with mock.patch.dict(os.environ, {"EVE_TEST_D": "environment"}):
            config.load_env(file)
            config.load_env(self.folder / "nowhere")
            read = [os.environ.get(f"EVE_TEST_{name}") for name in "ABCD"]
        self.assertEqual(read, ["one # two", "three", None, "environment"])

    def test_the_example_of_a_file_names_what_is_read(self) -> None:
        text = (Path(CLIENT) / "env.example").read_text()
        for name in SETTINGS:
            if name not in ("EVE_GATEWAY_URL", "SUPABASE_SECRET_KEY"):
                self.assertIn(name, text)


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from s3_storage import S3Storage
from supabase_client import SupabaseClient
client = SupabaseClient(sys.argv[2], sys.argv[3], folder=sys.argv[4], storage=S3Storage(sys.argv[2], sys.argv[3], folder=sys.argv[4] + "-files"))
async def main():
    for number in range(int(sys.argv[6])):
        text = "%s %d" % (sys.argv[7], number)
        print(await client.add_message(sys.argv[5], "user", text), text, flush=True)
asyncio.run(main())
if client._background is not None:
    client._background.join()
print(client.sync().sent, flush=True)
"""


class Processes(Played):
    def child(self, chat_id: str, messages: int, name: str = "child") -> subprocess.Popen[str]:
        args = [sys.executable, "-c", CHILD, CLIENT, self.played.url, SERVICE, str(self.folder / "kept"), chat_id, str(messages), name]
        child = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(child.wait)
        self.addCleanup(child.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(child.kill)
        return child

    def test_killed_after_an_answer_loses_nothing(self) -> None:
        chat_id = run(self.client().create_chat())
        self.played.is_away = True
        child = self.child(chat_id, 1_000)
        answered = [child.stdout.readline().split()[0] for _ in range(20)]  # type: ignore[union-attr]
        child.send_signal(signal.SIGKILL)
        child.wait()
        self.played.is_away = False
        report = self.client().sync()
        self.assertEqual((report.waiting, report.refused), (0, []))
        self.assertEqual([message["id"] for message in self.played.messages][:20], answered)
        self.assertEqual(self.played.texts(), [f"child {number}" for number in range(report.sent)])

    def test_killed_between_sending_and_noting_it_adds_it_once(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        self.played.is_away = True
        for text in ("one", "two"):
            run(client.add_message(chat_id, "user", text))
        self.played.is_away = False
        child: list[subprocess.Popen[str]] = []
        started = threading.Event()

        def kill(method: str, path: str) -> str | None:
            if path.endswith("/messages"):
                started.wait()
                child[0].kill()
                child[0].wait()
                return "hang up after"
            return None

        self.played.reply = kill
        child.append(self.child(chat_id, 0))
        started.set()
        child[0].wait()
        with self.played.lock:
            self.assertEqual(self.played.texts(), ["one"])
        self.played.reply = lambda method, path: None
        self.assertEqual(client.sync(), SyncReport(sent=2))
        self.assertEqual(self.played.paths(), {"one": None, "two": "one"})

    def written(self, client: SupabaseClient, chat_id: str, name: str) -> None:
        for number in range(15):
            run(client.add_message(chat_id, "user", f"{name} {number}"))

    def threads(self, client: SupabaseClient, chat_id: str, names: list[str]) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.written, args=(client, chat_id, name)) for name in names]
        for thread in threads:
            thread.start()
        return threads

    def assertOnceInOrder(self, names: list[str]) -> None:  # noqa: N802
        texts = self.played.texts()
        self.assertEqual(len(texts), 15 * len(names))
        for name in names:
            self.assertEqual([text for text in texts if text.startswith(f"{name} ")], [f"{name} {number}" for number in range(15)])

    def test_many_threads_keep_and_send_one_conversation_each_message_once(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        self.played.is_away = True
        names = [f"thread-{number}" for number in range(8)]
        threads = self.threads(client, chat_id, names)
        while client._asked("select count(*) from rows where body is not null")[0][0] < 30:
            threads[0].join(0.01)
        # Back in the middle of it.
        self.played.is_away = False
        for thread in threads:
            thread.join()
        self.settled(client)
        client.sync()
        self.assertOnceInOrder(names)
        # Without branches.
        texts = self.played.texts()
        self.assertEqual([self.played.paths()[text] for text in texts], [None, *texts[:-1]])

    def test_several_processes_and_threads_keep_and_send_each_message_once_in_its_writers_order(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        self.played.is_away = True
        children = {f"process-{number}": self.child(chat_id, 15, f"process-{number}") for number in range(4)}
        threads = self.threads(client, chat_id, ["thread-0", "thread-1"])
        for child in children.values():
            child.stdout.readline()  # type: ignore[union-attr]
        self.played.is_away = False
        for thread in threads:
            thread.join()
        for child in children.values():
            child.stdout.read()  # type: ignore[union-attr]
            child.wait()
        self.settled(client)
        client.sync()
        self.assertOnceInOrder([*children, "thread-0", "thread-1"])

    def test_a_message_whose_answer_got_lost_is_ours_also_behind_one_that_did_not_arrive(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        run(client.add_message(chat_id, "user", "one"))
        self.played.is_away = True
        run(client.add_message(chat_id, "user", "did not arrive"))
        lost = run(client.add_message(chat_id, "user", "answer lost"))
        self.played.is_away = False
        self.played.add(chat_id, {"id": lost, "client_id": lost, "content": "answer lost"})
        self.assertEqual(client.sync(), SyncReport(sent=2))
        self.assertEqual(self.played.paths(), {"one": None, "answer lost": "one", "did not arrive": "answer lost"})

    def test_a_message_on_its_way_is_ours(self) -> None:
        client = self.client()
        chat_id = run(client.create_chat())
        run(client.add_message(chat_id, "user", "one"))
        self.played.is_away = True
        run(client.add_message(chat_id, "user", "kept"))
        self.played.is_away = False
        # Another thread's, which the gateway has and this machine has not noted yet.
        on_its_way = str(uuid.uuid4())
        self.played.add(chat_id, {"id": on_its_way, "client_id": on_its_way, "content": "on its way"})
        client._under_way.add(on_its_way)
        self.assertEqual(client.sync(), SyncReport(sent=1))
        self.assertEqual(self.played.paths(), {"one": None, "on its way": "one", "kept": "on its way"})

    def test_one_that_holds_the_journal_is_waited_for(self) -> None:
        client = self.client()
        self.played.is_away = True
        chat_id = run(client.create_chat())
        holder = sqlite3.connect(client.folder / "journal.sqlite", isolation_level=None, check_same_thread=False)
        self.addCleanup(holder.close)
        holder.execute("begin exclusive")
        timer = threading.Timer(0.2, holder.rollback)
        timer.start()
        self.addCleanup(timer.join)
        run(client.add_message(chat_id, "user", "one"))
        self.played.is_away = False
        self.assertEqual(client.sync(), SyncReport(sent=2))


@unittest.skipUnless(os.environ.get("EVE_CHATS_SECRET"), "EVE_CHATS_SECRET is not set: no stack to talk to")
class Running(unittest.TestCase):
    """Against a stack: EVE_GATEWAY_URL, and EVE_CHATS_SECRET, a secret that may have chats and files."""

    def test_a_conversation_with_a_picture_and_a_search_result_also_begun_while_nobody_answers(self) -> None:
        secret = os.environ["EVE_CHATS_SECRET"]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        module._log.disabled = True
        self.addCleanup(setattr, module._log, "disabled", False)
        storage = S3Storage(os.environ["EVE_GATEWAY_URL"], secret, folder=f"{folder.name}/files")

        def client(url: str) -> SupabaseClient:
            return SupabaseClient(url, secret, folder=f"{folder.name}/chats", storage=storage)

        async def conversation() -> None:
            away, here = client("http://127.0.0.1:9"), client(os.environ["EVE_GATEWAY_URL"])
            user = uuid.uuid4().hex
            chat_id = await away.create_chat("Вентиляция", user, "План", {"pages": 3})
            message_id = await away.add_message(chat_id, "user", "Где стена?", parts=[{"text": "x"}])
            self.assertEqual(here.sync(), SyncReport(sent=2))
            self.assertTrue(here.is_connected())
            path = storage.generate_s3_path(chat_id, "viewport", "v.txt")
            url = await storage.upload_file(b"picture " + user.encode(), path, "text/plain")
            image_id = await here.add_image_to_message(chat_id, message_id, "v.txt", path, url, "viewport", "First", 20, 10, None)
            [image] = await here.get_message_images(message_id)
            self.assertEqual((image["id"], image["s3_path"], image["width"]), (image_id, path, 20))
            # A lasting address of the file, and its size, as the gateway knows them.
            self.assertIn("/media/", image["s3_url"])
            self.assertEqual((len(image["file_sha256"]), image["file_size"]), (64, 8 + len(user)))
            result_id = await here.add_search_result(chat_id, message_id, "b", 5, "Система", [0.1, 0.2], {"x": 1})
            [result] = await here.get_search_results(chat_id)
            self.assertEqual((result["id"], result["coords_norm"], result["coords_px"]), (result_id, [0.1, 0.2], {"x": 1}))
            answer_id = await here.add_message(chat_id, "assistant", "На листе 4.", usage={"total_tokens": 7}, request_id="r")
            again = await here.add_message(chat_id, "user", "Где дверь?", edits=message_id, client_id="2")
            self.assertEqual(await here.add_message(chat_id, "user", "Где дверь?", client_id="2"), again)
            messages = await here.get_chat_messages(chat_id)
            self.assertEqual(
                [(row["id"], row["parent_id"]) for row in messages], [(message_id, None), (answer_id, message_id), (again, None)]
            )
            self.assertEqual([row["id"] for row in await here.get_chat_messages(chat_id, limit=1)], [again])
            self.assertEqual([row["title"] for row in await here.get_chats(user)], ["Вентиляция"])
            # What is known is read while nobody answers.
            self.assertEqual(await away.get_chat_messages(chat_id), messages)
            self.assertEqual((await away.get_chat(chat_id) or {})["metadata"], {"pages": 3})
            self.assertTrue(await here.archive_chat(chat_id))
            self.assertEqual(await here.get_chats(user), [])
            with self.assertRaises(EveError) as raised:
                await here.add_message(uuid.uuid4(), "user", "?")
            self.assertEqual(raised.exception.code, "chat_not_found")

        asyncio.run(conversation())


if __name__ == "__main__":
    unittest.main()
