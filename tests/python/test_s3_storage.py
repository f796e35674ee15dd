"""Files from Python: against a gateway and a store played here, and, where EVE_STORAGE_SECRET is set, against a running stack.

Run by: python3 -m unittest discover -s tests/python
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

CLIENT = str(Path(__file__).resolve().parents[2] / "clients" / "python")
sys.path.insert(0, CLIENT)

import s3_storage as module  # noqa: E402
from eve_gateway import EveError  # noqa: E402
from s3_storage import S3Storage  # noqa: E402

SERVICE = "eve_service_0123456789abcdef_" + "cd" * 32
API = "/functions/v1/api/v1"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refusal(code: str, retryable: bool = False) -> dict:
    return {"error": {"code": code, "message": "No.", "request_id": "r", "retryable": retryable}}


class PlayedGateway:
    """The API and a store at one address. ``reply`` of a test goes before what they do by themselves."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict] = []
        self.announced: list[dict] = []
        self.verified: list[dict] = []
        self.put: list[bytes] = []
        self.forms: list[bytes] = []
        #: By SHA-256.
        self.stored: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        #: Larger files are answered parts of so many bytes; what has arrived of them, by file and number.
        self.part_bytes = 1 << 30
        self.parts: dict[tuple[str, int], bytes] = {}
        self.is_away = False
        self.reply: Callable[[str, str], tuple[int, dict] | str | None] = lambda method, path: None
        self.lock = threading.Lock()
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                length = self.headers["content-length"]
                body = self.rfile.read(int(length or 0))
                path = urllib.parse.urlsplit(self.path)
                with played.lock:
                    played.asked.append((self.command, path.path.removeprefix(API)))
                    played.headers.append(dict(self.headers))
                    answer = "hang up" if played.is_away else played.reply(self.command, path.path.removeprefix(API))
                    if answer is None:
                        answer = played.answer(self.command, path, body)
                if answer == "hang up":
                    self.close_connection = True
                    return self.connection.close()
                status, payload = answer
                raw = json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, method: str, url: urllib.parse.SplitResult, body: bytes) -> tuple[int, dict]:
        path = url.path.removeprefix(API)
        if method == "PUT":
            sha256 = path.rsplit("/", 1)[1]
            if part := urllib.parse.parse_qs(url.query).get("partNumber"):
                self.put.append(body)
                self.parts[sha256, int(part[0])] = body
                return 200, {}
            if sha256 in self.stored:
                return 412, {}
            self.put.append(body)
            self.stored[sha256_of(body)] = body
            return 200, {}
        if path == "/storage/health":
            return 200, {"is_connected": True}
        if path == "/media/uploads":
            asked = json.loads(body)
            self.announced.append(asked)
            sha256 = asked["sha256"]
            if sha256 in self.stored and any(one["sha256"] == sha256 for one in self.verified):
                if "key" in asked:
                    self.keys[asked["key"]] = sha256
                return 200, {"status": "present", "object": {}}
            links = {name: asked[name] for name in ("tenant_id", "key", "metadata") if name in asked}
            headers = {"content-type": asked["content_type"], "if-none-match": "*"}
            upload = {"method": "PUT", "url": f"{self.url}/bucket/{sha256}?signature=s", "headers": headers}
            if asked["size_bytes"] > self.part_bytes:
                starts = enumerate(range(0, asked["size_bytes"], self.part_bytes), 1)
                upload = {"parts": [
                    {
                        "part_number": number,
                        "offset": offset,
                        "size_bytes": min(self.part_bytes, asked["size_bytes"] - offset),
                        "method": "PUT",
                        "url": f"{self.url}/bucket/{sha256}?partNumber={number}",
                        "headers": {},
                    }
                    for number, offset in starts
                    if (sha256, number) not in self.parts
                ]}
            return 200, {"status": "upload", "object": {}, "upload": upload, "verify": {"body": links}}
        if path.endswith("/verify"):
            sha256, links = path.split("/")[-2], json.loads(body)
            self.verified.append({"sha256": sha256, **links})
            if "key" in links:
                self.keys[links["key"]] = sha256
            return 200, {}
        if path == "/media":
            self.forms.append(body)
            return 201, {"created": True}
        if path.endswith("/url"):
            name = urllib.parse.unquote(path.removeprefix("/media/").removesuffix("/url"))
            if name not in self.keys and name not in self.stored and not self.forms:
                return 404, refusal("object_not_found")
            return 200, {"url": f"https://s3.example/{name}?expires={json.loads(body)['expires_in']}"}
        return 599, {}

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

    def storage(self, **options: object) -> S3Storage:
        storage = S3Storage(self.played.url, SERVICE, folder=self.folder / "kept", **options)  # type: ignore[arg-type]
        self.addCleanup(self.settled, storage)
        return storage

    def settled(self, storage: S3Storage) -> None:
        if storage._background is not None:
            storage._background.join()

    def puts(self) -> list[bytes]:
        return self.played.put


class Names(unittest.TestCase):
    def test_a_path_is_made_of_chat_type_and_name(self) -> None:
        path = S3Storage.generate_s3_path
        self.assertEqual(path("42", "images", "plan.png"), "chats/42/images/plan.png")
        self.assertEqual(path("42", "documents", "план этажа.pdf"), "chats/42/documents/план этажа.pdf")

    def test_a_name_leads_nowhere_else_and_holds_what_a_key_can(self) -> None:
        path = S3Storage.generate_s3_path
        self.assertEqual(path("42", "images", "../../a:b?.png"), "chats/42/images/.._.._a_b_.png")
        for parts in [("42", "images", ".."), ("", "images", "a"), ("42", ".", "a")]:
            with self.assertRaises(ValueError):
                path(*parts)


class Uploading(Played):
    def test_a_file_goes_straight_to_the_store_with_the_headers_answered_and_is_verified(self) -> None:
        file = self.folder / "plan.png"
        file.write_bytes(b"picture" * 300_000)
        storage = self.storage(tenant_id="acme")
        path = storage.generate_s3_path("42", "images", "plan.png")
        url = asyncio.run(storage.upload_file(file, path, metadata={"page": 1}, expires_in=60))
        self.assertEqual(url, f"https://s3.example/{path}?expires=60")
        sha256 = sha256_of(file.read_bytes())
        self.assertEqual(
            self.played.announced,
            [
                {
                    "sha256": sha256,
                    "size_bytes": 2_100_000,
                    "content_type": "image/png",
                    "kind": "media",
                    "tenant_id": "acme",
                    "key": path,
                    "metadata": {"page": 1},
                }
            ],
        )
        self.assertEqual(self.puts(), [file.read_bytes()])
        self.assertEqual(self.played.verified, [{"sha256": sha256, "tenant_id": "acme", "key": path, "metadata": {"page": 1}}])
        put = {name.lower(): value for name, value in self.played.headers[1].items()}
        self.assertEqual((put["content-length"], put["if-none-match"]), ("2100000", "*"))
        self.assertNotIn("transfer-encoding", put)

    def test_a_large_file_goes_in_parts(self) -> None:
        self.played.part_bytes = 2_000_000
        content = os.urandom(4_500_000)
        url = self.storage().upload_file_sync(content, "a.bin")
        self.assertEqual(url, "https://s3.example/a.bin?expires=3600")
        self.assertEqual([len(part) for part in self.puts()], [2_000_000, 2_000_000, 500_000])
        self.assertEqual(b"".join(self.puts()), content)
        self.assertEqual(len(self.played.verified), 1)
        put = {name.lower(): value for name, value in self.played.headers[3].items()}
        self.assertEqual(put["content-length"], "500000")
        self.assertNotIn("transfer-encoding", put)

    def test_a_large_file_that_breaks_off_is_kept_and_goes_on_where_it_was(self) -> None:
        self.played.part_bytes = 2_000_000
        content = os.urandom(4_500_000)
        self.played.reply = lambda method, path: "hang up" if method == "PUT" and len(self.puts()) == 2 else None
        storage = self.storage()
        kept = storage.upload_file_sync(content, "a.bin")
        self.assertEqual(Path(kept).read_bytes(), content)
        # Not through the function, which holds a body in memory.
        self.assertEqual(self.played.forms, [])
        self.played.reply = lambda method, path: None
        self.assertEqual(storage.sync(), module.SyncReport(sent=1))
        self.assertEqual([len(part) for part in self.puts()], [2_000_000, 2_000_000, 500_000])
        self.assertEqual(b"".join(self.puts()), content)

    def test_the_secret_goes_to_the_gateway_alone(self) -> None:
        self.storage().upload_file_sync(b"text", "a.txt")
        sent = [{name.lower(): value for name, value in headers.items()}.get("authorization") for headers in self.played.headers]
        self.assertEqual(list(zip([method for method, _ in self.played.asked], sent)), [
            ("POST", f"Bearer {SERVICE}"),
            ("PUT", None),
            ("POST", f"Bearer {SERVICE}"),
            ("POST", f"Bearer {SERVICE}"),
        ])

    def test_what_is_there_already_is_not_sent_again(self) -> None:
        storage = self.storage()
        storage.upload_file_sync(b"text", "a.txt")
        url = storage.upload_file_sync(io.BytesIO(b"text"), "b.txt")
        self.assertEqual((url, len(self.puts())), ("https://s3.example/b.txt?expires=3600", 1))

    def test_what_a_dead_upload_left_in_the_store_is_verified(self) -> None:
        self.played.stored[sha256_of(b"text")] = b"text"
        self.storage().upload_file_sync(b"text", "a.txt")
        self.assertEqual((len(self.puts()), len(self.played.verified)), (0, 1))

    def test_json_and_html_which_are_stored_packed_go_through_the_function(self) -> None:
        self.storage().upload_file_sync(b'{"a": 1}', "a.json", metadata={"n": 1})
        [form] = self.played.forms
        self.assertIn(b'name="file"; filename="file"\r\ncontent-type: application/json\r\n\r\n{"a": 1}\r\n', form)
        self.assertIn(b'name="key"\r\n\r\na.json\r\n', form)
        self.assertIn(b'name="metadata"\r\n\r\n{"n": 1}\r\n', form)
        self.assertEqual(self.puts(), [])

    def test_json_of_more_than_the_function_takes_goes_straight_to_the_store(self) -> None:
        self.played.reply = lambda method, path: (413, refusal("body_too_large")) if path == "/media" else None
        self.storage().upload_file_sync(b'{"a": 1}', "a.json")
        self.assertEqual(len(self.puts()), 1)

    def test_while_the_store_alone_is_away_the_function_takes_the_file(self) -> None:
        self.played.reply = lambda method, path: "hang up" if method == "PUT" else None
        url = self.storage().upload_file_sync(b"text", "a.txt")
        self.assertEqual((url, len(self.played.forms)), ("https://s3.example/a.txt?expires=3600", 1))

    def test_a_refusal_is_told_and_nothing_is_kept(self) -> None:
        self.played.reply = lambda method, path: (507, refusal("storage_quota_exceeded"))
        with self.assertRaises(EveError) as raised:
            self.storage().upload_file_sync(b"text", "a.txt")
        self.assertEqual(raised.exception.code, "storage_quota_exceeded")
        self.assertFalse((self.folder / "kept").exists())

    def test_a_file_that_is_not_there_is_an_error_here(self) -> None:
        with self.assertRaises(FileNotFoundError):
            self.storage().upload_file_sync(self.folder / "nowhere")
        self.assertEqual(self.played.asked, [])


class Away(Played):
    def test_the_local_path_is_answered_and_the_next_call_that_works_sends_the_file_once(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        answers = [storage.upload_file_sync(content, key) for content, key in [(b"one", "a/1.txt"), (b"two", "a/2.txt")]]
        self.assertEqual([Path(path).read_bytes() for path in answers], [b"one", b"two"])
        self.assertEqual(storage.get_signed_url("a/1.txt"), answers[0])
        self.assertFalse(storage.is_connected())
        self.played.is_away = False
        self.assertTrue(storage.is_connected())
        self.settled(storage)
        self.assertEqual(self.puts(), [b"one", b"two"])
        self.assertEqual(storage.get_signed_url("a/1.txt"), "https://s3.example/a/1.txt?expires=3600")
        self.assertEqual(storage.sync(), module.SyncReport(sent=0, waiting=0))
        # Who holds the path can still read it.
        self.assertEqual(Path(answers[0]).read_bytes(), b"one")

    def test_a_file_that_waits_is_asked_for_by_its_hash_too(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        kept = storage.upload_file_sync(b"one")
        self.assertEqual(storage.get_signed_url(sha256_of(b"one")), kept)

    def test_an_upload_sends_what_waits_behind_it(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        storage.upload_file_sync(b"one", "1.txt")
        self.played.is_away = False
        storage.upload_file_sync(b"two", "2.txt")
        self.settled(storage)
        self.assertEqual(sorted(self.puts()), [b"one", b"two"])

    def test_the_newer_of_two_files_with_one_key_wins(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        for content in (b"old", b"newer"):
            storage.upload_file_sync(content, "a.txt")
        self.played.is_away = False
        storage.upload_file_sync(b"newest", "a.txt")
        self.settled(storage)
        self.assertEqual(self.puts(), [b"old", b"newer", b"newest"])
        self.assertEqual(self.played.keys["a.txt"], sha256_of(b"newest"))

    def test_what_is_refused_stays_holds_nobody_up_and_takes_no_key_back(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        kept = storage.upload_file_sync(b"refused", "a.txt")
        storage.upload_file_sync(b"taken", "b.txt")
        self.played.is_away = False
        refused = sha256_of(b"refused")
        refusals = [(507, refusal("storage_quota_exceeded"))]
        self.played.reply = lambda method, path: refusals.pop() if refusals else None
        report = storage.sync()
        self.assertEqual((report.sent, report.waiting), (1, 1))
        [(path, error)] = report.refused
        self.assertEqual((path, error.code), (kept, "storage_quota_exceeded"))
        # By itself it is not tried again; a newer file with its key goes before it.
        self.played.reply = lambda method, path: None
        self.assertTrue(storage.is_connected())
        self.settled(storage)
        self.assertNotIn(refused, self.played.stored)
        storage.upload_file_sync(b"newer", "a.txt")
        self.assertEqual(storage.sync(), module.SyncReport())
        self.assertEqual(self.played.keys["a.txt"], sha256_of(b"newer"))

    def test_refused_before_and_taken_now(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        storage.upload_file_sync(b"one", "a.txt")
        self.played.is_away = False
        self.played.reply = lambda method, path: (507, refusal("storage_quota_exceeded"))
        self.assertEqual(len(storage.sync().refused), 1)
        self.played.reply = lambda method, path: None
        self.assertEqual(storage.sync(), module.SyncReport(sent=1))
        self.assertEqual(self.puts(), [b"one"])

    def test_a_gateway_whose_store_and_database_are_down_is_away(self) -> None:
        self.played.reply = lambda method, path: (503, refusal("storage_unavailable", retryable=True))
        path = self.storage().upload_file_sync(b"one", "a.txt")
        self.assertEqual(Path(path).read_bytes(), b"one")

    def test_a_gateway_that_is_not_set_up_is_away_until_it_is(self) -> None:
        names = ["EVE_GATEWAY_URL", "EVE_GATEWAY_SECRET", "SUPABASE_URL", "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_KEY"]
        storage = S3Storage(folder=self.folder / "kept")
        with mock.patch.dict(os.environ, {name: "" for name in names}):
            self.assertFalse(storage.is_connected())
            self.assertTrue(Path(storage.upload_file_sync(b"one", "a.txt")).exists())
        with mock.patch.dict(os.environ, {"SUPABASE_URL": self.played.url, "SUPABASE_SERVICE_KEY": "sb_secret_x", "EVE_GATEWAY_URL": "", "EVE_GATEWAY_SECRET": ""}):
            self.assertEqual(storage.sync(), module.SyncReport(sent=1))

    def test_no_more_is_kept_than_was_allowed(self) -> None:
        storage = self.storage(max_local_bytes=10)
        self.played.is_away = True
        storage.upload_file_sync(b"12345678", "a.txt")
        storage.upload_file_sync(b"12345678", "the same content.txt")
        with self.assertRaises(EveError) as raised:
            storage.upload_file_sync(b"abc", "b.txt")
        self.assertEqual(raised.exception.code, "local_storage_full")
        self.assertIsNone(storage.get_signed_url("b.txt"))

    def test_files_are_the_owners_alone(self) -> None:
        if os.name != "posix":
            self.skipTest("modes are POSIX's")
        storage = self.storage()
        self.played.is_away = True
        kept = Path(storage.upload_file_sync(b"one", "a.txt"))
        self.assertEqual((kept.stat().st_mode & 0o077, storage.folder.stat().st_mode & 0o077), (0, 0))

    def test_what_was_sent_a_day_ago_is_forgotten_and_what_nobody_named(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        kept = Path(storage.upload_file_sync(b"one", "a.txt"))
        left = kept.with_name("left.part")
        left.write_bytes(b"half")
        self.played.is_away = False
        storage.sync()
        self.assertTrue(kept.exists() and left.exists())
        with mock.patch("s3_storage.time.time", return_value=module.time.time() + module.KEEP_SENT_S + 60):
            storage.sync()
        self.assertFalse(kept.exists() or left.exists())

    def test_no_address_where_there_is_no_such_file_or_nobody_answers(self) -> None:
        storage = self.storage()
        self.assertIsNone(storage.get_signed_url("nowhere.txt"))
        self.played.is_away = True
        self.assertIsNone(storage.get_signed_url("nowhere.txt"))
        self.played.is_away = False
        self.played.reply = lambda method, path: (401, refusal("credential_invalid"))
        with self.assertRaises(EveError):
            storage.get_signed_url("nowhere.txt")


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from s3_storage import S3Storage
storage = S3Storage(sys.argv[2], sys.argv[3], folder=sys.argv[4])
for number in range(int(sys.argv[5])):
    print(storage.upload_file_sync(b"content %d" % number, "k/%d.txt" % number), flush=True)
print(storage.sync().sent, flush=True)
"""


class Processes(Played):
    def child(self, uploads: int) -> subprocess.Popen[str]:
        args = [sys.executable, "-c", CHILD, CLIENT, self.played.url, SERVICE, str(self.folder / "kept"), str(uploads)]
        child = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(child.wait)
        self.addCleanup(child.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(child.kill)
        return child

    def test_killed_after_an_answer_loses_nothing(self) -> None:
        self.played.is_away = True
        child = self.child(1_000)
        answered = [child.stdout.readline().strip() for _ in range(20)]  # type: ignore[union-attr]
        child.send_signal(signal.SIGKILL)
        child.wait()
        self.played.is_away = False
        storage = self.storage()
        report = storage.sync()
        self.assertGreaterEqual(report.sent, 20)
        self.assertEqual((report.waiting, report.refused), (0, []))
        for number, path in enumerate(answered):
            content = b"content %d" % number
            self.assertEqual(Path(path).read_bytes(), content)
            self.assertEqual(self.puts().count(content), 1)

    def test_killed_between_the_store_and_the_verification_sends_it_once(self) -> None:
        self.played.is_away = True
        self.storage().upload_file_sync(b"one", "a.txt")
        self.played.is_away = False
        child: list[subprocess.Popen[str]] = []
        started = threading.Event()

        def kill(method: str, path: str) -> str | None:
            if path.endswith("/verify"):
                started.wait()
                child[0].kill()
                child[0].wait()
                return "hang up"
            return None

        self.played.reply = kill
        child.append(self.child(0))
        started.set()
        child[0].wait()
        self.assertEqual((self.puts(), self.played.verified), ([b"one"], []))
        self.played.reply = lambda method, path: None
        self.assertEqual(self.storage().sync(), module.SyncReport(sent=1))
        self.assertEqual((self.puts(), self.played.keys), ([b"one"], {"a.txt": sha256_of(b"one")}))

    def test_several_processes_send_each_file_once(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        contents = [b"file %d" % number for number in range(30)]
        for content in contents:
            storage.upload_file_sync(content, content.decode())
        self.played.is_away = False
        children = [self.child(0) for _ in range(4)]
        for child in children:
            child.wait()
        sent = [int(child.stdout.read()) for child in children]  # type: ignore[union-attr]
        self.assertEqual((sum(sent), self.puts()), (30, contents))
        self.assertEqual(len(self.played.announced), 30)

    def test_many_threads_keep_and_send_each_file_once(self) -> None:
        storage = self.storage()
        self.played.is_away = True
        contents = [b"file %d" % number for number in range(24)]

        def each(work: Callable[[bytes], object]) -> None:
            threads = [threading.Thread(target=work, args=(content,)) for content in contents]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        each(lambda content: storage.upload_file_sync(content, content.decode()))
        self.played.is_away = False
        each(lambda _: storage.sync())
        self.assertEqual(storage.sync().waiting, 0)
        self.assertEqual(sorted(self.puts()), sorted(contents))


@unittest.skipUnless(os.environ.get("EVE_STORAGE_SECRET"), "EVE_STORAGE_SECRET is not set: no stack to talk to")
class Running(unittest.TestCase):
    """Against a stack: EVE_GATEWAY_URL, and EVE_STORAGE_SECRET, a secret that may store files."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.secret = os.environ["EVE_STORAGE_SECRET"]
        # One for all: a notebook is given few tokens a minute.
        cls.storage = S3Storage(os.environ["EVE_GATEWAY_URL"], cls.secret, folder=cls.folder)

    def setUp(self) -> None:
        # Its own for each test, and each Python that runs it.
        self.content = os.urandom(16).hex().encode() * 1_000

    def read(self, url: str) -> bytes:
        with urllib.request.urlopen(url) as answer:
            content = answer.read()
            # S3 gives what is packed as it is; httpx and requests unpack it, urllib does not.
            return gzip.decompress(content) if answer.headers["content-encoding"] == "gzip" else content

    def test_a_file_goes_in_and_comes_out_by_its_key(self) -> None:
        self.assertTrue(self.storage.is_connected())
        path = self.storage.generate_s3_path("42", "documents", "план этажа.txt")
        url = asyncio.run(self.storage.upload_file(self.content, path, metadata={"page": 1}))
        self.assertEqual(self.read(url), self.content)
        self.assertEqual(self.read(self.storage.get_signed_url(path) or ""), self.content)
        self.assertEqual(self.read(self.storage.get_signed_url(sha256_of(self.content)) or ""), self.content)
        again = self.storage.upload_file_sync(self.content, "again.txt")
        self.assertEqual(self.read(again), self.content)
        self.assertIsNone(self.storage.get_signed_url("nowhere.txt"))

    def test_json_is_packed_there_and_comes_out_as_it_was(self) -> None:
        content = json.dumps({"content": self.content.decode()}).encode()
        url = self.storage.upload_file_sync(content, "packed.json", metadata={"source": "тест"})
        self.assertEqual(json.loads(self.read(url)), json.loads(content))

    def test_a_file_of_another_type_than_it_says_is_refused(self) -> None:
        with self.assertRaises(EveError) as raised:
            self.storage.upload_file_sync(b"no picture" * 10, "a.png")
        self.assertEqual(raised.exception.code, "media_type_mismatch")

    def test_what_was_kept_while_nobody_answered_is_sent(self) -> None:
        away = S3Storage("http://127.0.0.1:9", self.secret, folder=self.folder)
        module._log.disabled = True
        self.addCleanup(setattr, module._log, "disabled", False)
        kept = away.upload_file_sync(self.content, "kept/a.txt")
        self.assertEqual(Path(kept).read_bytes(), self.content)
        self.assertEqual(self.storage.sync(), module.SyncReport(sent=1))
        self.assertEqual(self.read(self.storage.get_signed_url("kept/a.txt") or ""), self.content)


if __name__ == "__main__":
    unittest.main()
