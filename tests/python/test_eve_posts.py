"""Posts from Python: against a gateway played here, and, where EVE_POSTS_SECRET is set, against a running stack.

Run by: python3 -m unittest discover -s tests/python
"""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import json
import os
import sys
import tempfile
import threading
import unittest
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

CLIENT = str(Path(__file__).resolve().parents[2] / "clients" / "python")
sys.path.insert(0, CLIENT)

import eve_posts as module  # noqa: E402
from eve_gateway import EveError, EveGateway  # noqa: E402
from eve_posts import EvePosts  # noqa: E402

SERVICE = "eve_service_0123456789abcdef_" + "cd" * 32
POST = str(uuid.UUID(int=7))


class PlayedGateway:
    """Answers ``replies`` one after the other, the last one again and again."""

    def __init__(self, *replies: tuple[int, dict]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[tuple[str, bytes]] = []
        played, left = self, list(replies)

        class Handler(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                played.asked.append((self.command, self.path))
                played.bodies.append((self.headers["content-type"], body))
                status, answer = left.pop(0) if len(left) > 1 else left[0]
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_any

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def posts(self) -> EvePosts:
        return EvePosts(gateway=EveGateway(f"http://127.0.0.1:{self.server.server_port}", SERVICE, patience=5))

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def parts_of(content_type: str, body: bytes) -> list[tuple[str, str, bytes]]:
    """Name, type and content of each part, as somebody else's parser reads them."""
    head = f"content-type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    return [
        (part.get_param("name", header="content-disposition"), part.get_content_type(), part.get_payload(decode=True))
        for part in message.iter_parts()
    ]


def enriched(*statuses: str) -> tuple[int, dict]:
    return 200, {"id": POST, "enrichment": [{"status": one, "reason": "no tesseract" if one == "waiting" else None} for one in statuses]}


class Posts(unittest.TestCase):
    def played(self, *replies: tuple[int, dict]) -> PlayedGateway:
        gateway = PlayedGateway(*replies)
        self.addCleanup(gateway.stop)
        return gateway

    def test_a_post_goes_with_its_pictures_and_is_tried_again_under_the_same_name(self) -> None:
        away = (503, {"error": {"code": "temporarily_unavailable", "message": "No.", "request_id": "r", "retryable": True}})
        gateway = self.played(away, (201, {"id": POST}))
        content = b"\xff\xd8 a picture\r\n--with lines"
        with tempfile.TemporaryDirectory() as folder, mock.patch("time.sleep"):
            path = Path(folder) / "plan.png"
            path.write_bytes(b"\x89PNG")
            post = gateway.posts().add("telegram:x", text="Привет", pictures=[path, content], media=["a" * 64])
        self.assertEqual(post["id"], POST)
        self.assertEqual(gateway.asked, [("POST", "/functions/v1/api/v1/intake/posts")] * 2)
        sent = [parts_of(*body) for body in gateway.bodies]
        self.assertEqual(sent[0], sent[1])
        (name, _, text), *files = sent[0]
        self.assertEqual(files, [("media", "image/png", b"\x89PNG"), ("media", "application/octet-stream", content)])
        given = json.loads(text)
        self.assertEqual((name, given["source"], given["text"], given["media"]), ("post", "telegram:x", "Привет", ["a" * 64]))
        self.assertTrue(given["external_id"])

    def test_what_was_found_is_waited_for_or_said_to_wait(self) -> None:
        gateway = self.played(enriched("done", "waiting"), enriched("done", "waiting"), enriched("done", "skipped"))
        with mock.patch.object(module.time, "sleep") as slept:
            with self.assertRaises(EveError) as refused:
                gateway.posts().result(POST, wait=0)
            self.assertEqual((refused.exception.code, refused.exception.retryable), ("job_running", True))
            self.assertIn("no tesseract", str(refused.exception))
            self.assertEqual(slept.call_count, 0)
            found = asyncio.run(gateway.posts().aresult(POST))
        self.assertEqual([row["status"] for row in found["enrichment"]], ["done", "skipped"])
        self.assertEqual(gateway.asked[-1], ("GET", f"/functions/v1/api/v1/vision/posts/{POST}"))

    def test_a_refusal_is_an_error_with_its_code(self) -> None:
        refusal = {"error": {"code": "object_not_found", "message": "No.", "request_id": "r", "retryable": False}}
        gateway = self.played((404, refusal))
        with self.assertRaises(EveError) as refused:
            asyncio.run(gateway.posts().aadd("s", "1", media=["b" * 64]))
        self.assertEqual((refused.exception.code, len(gateway.asked)), ("object_not_found", 1))
        self.assertEqual(json.loads(gateway.bodies[0][1])["external_id"], "1")


if __name__ == "__main__":
    unittest.main()
