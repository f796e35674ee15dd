"""The Python helper: against a gateway played here, and, where EVE_GATEWAY_URL is set, against a running stack.

Run by: python3 -m unittest discover -s tests/python
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import unittest
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))

import eve_gateway  # noqa: E402
from eve_gateway import Answer, EveError, EveGateway  # noqa: E402

NOTEBOOK = "eve_notebook_0123456789abcdef_" + "ab" * 32
SERVICE = "eve_service_0123456789abcdef_" + "cd" * 32
OK = {"request_id": "r", "model": "m", "text": "hello", "usage": {"input_tokens": 3, "total_tokens": 5}, "attempts": 1}


def refusal(code: str, retryable: bool) -> dict:
    return {"error": {"code": code, "message": "No.", "request_id": "r", "retryable": retryable}}


class Stage:
    """A gateway that answers what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.tokens_issued = 0
        self.expires_in = 3600
        self.answers: list = []
        self.lock = threading.Lock()
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/functions/v1/issue-kaggle-token":
                    with stage.lock:
                        stage.tokens_issued += 1
                    stage.token_request = body
                    return self.reply(200, {"access_token": f"token-{stage.tokens_issued}", "expires_in": stage.expires_in})
                with stage.lock:
                    stage.asked.append({"auth": self.headers["authorization"], **body})
                    answer = stage.answers.pop(0) if stage.answers else (200, OK)
                if answer == "hang up":
                    self.close_connection = True
                    return self.connection.close()
                return self.reply(*answer)

            def reply(self, status: int, body: object, headers: dict | None = None) -> None:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(raw)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Played(unittest.TestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.addCleanup(self.stage.close)
        self.slept: list[float] = []
        patcher = mock.patch("eve_gateway.time.sleep", self.slept.append)
        patcher.start()
        self.addCleanup(patcher.stop)

    def gateway(self, secret: str = NOTEBOOK, **options: object) -> EveGateway:
        return EveGateway(self.stage.url, secret, **options)  # type: ignore[arg-type]


class Credentials(Played):
    def test_a_notebook_uses_one_token_for_many_calls(self) -> None:
        eve = self.gateway(models=["m"], requests=9)
        for _ in range(3):
            eve.generate("hi")
        self.assertEqual([one["auth"] for one in self.stage.asked], ["Bearer token-1"] * 3)
        self.assertEqual(
            self.stage.token_request,
            {"grant_type": "client_credentials", "client_secret": NOTEBOOK, "models": ["m"], "requests": 9},
        )

    def test_a_token_is_renewed_before_it_expires(self) -> None:
        self.stage.expires_in = 600
        eve = self.gateway()
        with mock.patch("eve_gateway.time.time") as now:
            for at, token in [(0.0, 1), (539.0, 1), (540.5, 2)]:
                now.return_value = 1e9 + at
                eve.generate("hi")
                self.assertEqual(self.stage.asked[-1]["auth"], f"Bearer token-{token}", at)

    def test_many_threads_fetch_one_token(self) -> None:
        self.gateway().map(["hi"] * 20, concurrency=10, progress=False)
        self.assertEqual(self.stage.tokens_issued, 1)

    def test_a_revoked_token_is_not_replaced_behind_the_owners_back(self) -> None:
        self.stage.answers = [(401, refusal("token_revoked", False))]
        with self.assertRaises(EveError) as raised:
            self.gateway().generate("hi")
        self.assertEqual((raised.exception.code, self.stage.tokens_issued), ("token_revoked", 1))

    def test_a_service_uses_its_own_key(self) -> None:
        self.gateway(SERVICE).generate("hi")
        self.assertEqual((self.stage.asked[0]["auth"], self.stage.tokens_issued), (f"Bearer {SERVICE}", 0))

    def test_the_environment_is_asked_first_and_then_kaggle(self) -> None:
        kaggle = ModuleType("kaggle_secrets")
        kaggle.UserSecretsClient = lambda: mock.Mock(get_secret=lambda name: {"EVE_GATEWAY_SECRET": SERVICE}[name])  # type: ignore[attr-defined]
        with mock.patch.dict(os.environ, {"EVE_GATEWAY_URL": self.stage.url, "EVE_GATEWAY_SECRET": ""}), mock.patch.dict(
            sys.modules, {"kaggle_secrets": kaggle}
        ):
            self.assertEqual(EveGateway().generate("hi").text, "hello")

    def test_nothing_configured_says_what_to_set(self) -> None:
        with mock.patch.dict(os.environ, {"EVE_GATEWAY_URL": "", "EVE_GATEWAY_SECRET": ""}):
            with self.assertRaisesRegex(EveError, "EVE_GATEWAY_URL is not set"):
                EveGateway()

    def test_secrets_travel_over_https_or_not_at_all(self) -> None:
        for url in ["http://example.com", "ftp://localhost", "example.com", ""]:
            with self.assertRaises(EveError), mock.patch.dict(os.environ, {"EVE_GATEWAY_URL": ""}):
                EveGateway(url, SERVICE)

    def test_no_secret_shows_in_what_is_printed(self) -> None:
        eve = self.gateway()
        self.stage.answers = [(403, refusal("model_not_allowed", False))]
        with self.assertRaises(EveError) as raised:
            eve.generate("hi")
        self.assertNotIn("abab", repr(eve) + str(raised.exception) + repr(vars(raised.exception)))

    def test_a_redirect_is_not_followed(self) -> None:
        self.stage.answers = [(302, {}, {"location": "http://127.0.0.1:1/elsewhere"})]
        with self.assertRaises(EveError) as raised:
            self.gateway(SERVICE).generate("hi")
        self.assertEqual(raised.exception.status, 302)


class TryingAgain(Played):
    def ids(self) -> list[str]:
        return [one["request_id"] for one in self.stage.asked]

    def test_a_lost_connection_is_tried_again_under_the_same_id(self) -> None:
        self.stage.answers = ["hang up", "hang up"]
        self.assertEqual(self.gateway().generate("hi").text, "hello")
        self.assertEqual((len(self.ids()), len(set(self.ids()))), (3, 1))

    def test_where_nothing_listens_it_says_so_at_once(self) -> None:
        self.stage.close()
        for secret in (NOTEBOOK, SERVICE):
            with self.assertRaisesRegex(EveError, "Nothing listens at .*npm start") as raised:
                self.gateway(secret).generate("hi")
            self.assertEqual((raised.exception.code, self.slept), ("connection_failed", []))

    def test_a_host_that_never_answered_is_tried_for_seconds(self) -> None:
        eve = EveGateway("https://nowhere.invalid", SERVICE)
        now = [0.0]
        self.slept_until(now)
        failure = urllib.error.URLError("Name or service not known")
        with mock.patch.object(eve._opener, "open", side_effect=failure) as opened, self.assertRaises(EveError):
            eve.generate("hi")
        self.assertTrue(opened.call_count > 2 and 3 < now[0] <= 10, (opened.call_count, now))

    def test_a_host_that_has_answered_is_tried_for_as_long_as_patience_lasts(self) -> None:
        eve = EveGateway("https://nowhere.invalid", SERVICE)
        eve._has_answered = True
        now = [0.0]
        self.slept_until(now)
        failure = urllib.error.URLError("Temporary failure in name resolution")
        with mock.patch.object(eve._opener, "open", side_effect=failure), self.assertRaises(EveError):
            eve.generate("hi", patience=180)
        self.assertTrue(140 < now[0] <= 180, now)

    def test_a_local_stack_that_is_restarted_is_waited_for(self) -> None:
        eve = self.gateway(SERVICE)
        eve.generate("hi")
        now = [0.0]
        self.slept_until(now)
        self.stage.close()
        with self.assertRaises(EveError):
            eve.generate("hi")
        self.assertTrue(3 < now[0] <= 10, now)

    def slept_until(self, now: list[float]) -> None:
        """From here on sleeping is all that takes time."""
        def sleep(seconds: float) -> None:
            now[0] += seconds
        for name, what in [("sleep", sleep), ("monotonic", lambda: now[0])]:
            patcher = mock.patch(f"eve_gateway.time.{name}", what)
            patcher.start()
            self.addCleanup(patcher.stop)

    def test_a_limit_is_waited_for_as_long_as_the_gateway_says(self) -> None:
        self.stage.answers = [(429, refusal("rate_limited", True), {"retry-after": "7"})]
        self.gateway().generate("hi")
        self.assertEqual((len(self.slept), len(set(self.ids()))), (1, 1))
        self.assertTrue(7 <= self.slept[0] <= 8)

    def test_a_wait_beyond_patience_is_not_begun(self) -> None:
        self.stage.answers = [(429, refusal("daily_limit", True), {"retry-after": "30000"})]
        with self.assertRaises(EveError) as raised:
            self.gateway().generate("hi")
        self.assertEqual((raised.exception.retry_after, self.slept), (30000.0, []))

    def test_a_failed_call_is_asked_anew_under_a_new_id(self) -> None:
        self.stage.answers = [(503, refusal("upstream_unavailable", True))]
        self.gateway().generate("hi", request_id="mine")
        self.assertEqual(self.ids(), ["mine", "mine~2"])

    def test_a_call_that_failed_unseen_is_asked_anew(self) -> None:
        self.stage.answers = ["hang up", (409, refusal("request_finished", False))]
        self.gateway().generate("hi", request_id="mine")
        self.assertEqual(self.ids(), ["mine", "mine", "mine~3"])

    def test_a_finished_id_of_the_callers_own_is_told(self) -> None:
        self.stage.answers = [(409, refusal("request_finished", False))]
        with self.assertRaises(EveError):
            self.gateway().generate("hi", request_id="mine")

    def test_what_cannot_get_better_is_not_tried_again(self) -> None:
        for status, code in [(400, "invalid_request"), (403, "model_not_allowed"), (429, "budget_exhausted"), (422, "content_blocked")]:
            self.stage.asked.clear()
            self.stage.answers = [(status, refusal(code, False))]
            with self.assertRaises(EveError) as raised:
                self.gateway().generate("hi")
            self.assertEqual((raised.exception.code, len(self.stage.asked)), (code, 1))

    def test_without_patience_nothing_is_tried_again(self) -> None:
        self.stage.answers = [(503, refusal("database_unavailable", True))]
        with self.assertRaises(EveError):
            self.gateway().generate("hi", patience=0)

    def test_the_platforms_own_errors_are_understood(self) -> None:
        self.stage.answers = [(503, b"<html>starting</html>")]
        self.assertEqual(self.gateway().generate("hi").text, "hello")

    def test_wait_becomes_the_gateways_own_terms(self) -> None:
        eve = self.gateway(traffic_class="batch")
        eve.generate("hi")
        eve.generate("hi", wait=0)
        first, second = self.stage.asked
        self.assertEqual((first["max_wait_ms"], first["class"]), (30_000, "batch"))
        self.assertEqual((second["mode"], second.get("max_wait_ms")), ("no_wait", None))


class Streams(Played):
    @staticmethod
    def frames(*events: tuple[str, object]) -> bytes:
        return b": hello\n\n" + "".join(f"event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n" for name, data in events).encode()

    def test_pieces_come_as_they_are_and_the_answer_at_the_end(self) -> None:
        self.stage.answers = [
            (200, self.frames(("queued", {}), ("delta", {"text": "При"}), ("delta", {"parts": [{"text": "hm", "thought": True}, {"text": "вет"}]}), ("done", {"model": "m", "finish_reason": "STOP"})))
        ]
        stream = self.gateway().stream("hi")
        pieces = []
        while True:
            try:
                pieces.append(next(stream))
            except StopIteration as end:
                answer = end.value
                break
        self.assertEqual((pieces, answer.text, answer.finish_reason), (["При", "вет"], "Привет", "STOP"))
        self.assertTrue(self.stage.asked[0]["stream"])

    def test_an_error_in_mid_stream_is_an_error(self) -> None:
        self.stage.answers = [(200, self.frames(("delta", {"text": "a"}), ("error", refusal("upstream_unavailable", True))))]
        with self.assertRaises(EveError) as raised:
            list(self.gateway().stream("hi"))
        self.assertEqual((raised.exception.code, len(self.stage.asked)), ("upstream_unavailable", 1))

    def test_an_end_without_done_is_an_error(self) -> None:
        self.stage.answers = [(200, self.frames(("delta", {"text": "a"})))]
        with self.assertRaisesRegex(EveError, "ended before"):
            list(self.gateway().stream("hi"))


class Many(Played):
    def test_answers_keep_their_order_and_errors_their_place(self) -> None:
        eve = self.gateway()

        def generate(prompt: str, **_: object) -> Answer:
            if prompt == "2":
                raise EveError("content_blocked", "No.")
            return Answer(text=prompt, model="m", request_id="r")

        seen: list[tuple[int, int]] = []
        with mock.patch.object(eve, "generate", generate):
            answers = eve.map([str(n) for n in range(5)], concurrency=3, progress=lambda *at: seen.append(at))
        self.assertEqual([getattr(one, "text", getattr(one, "code", "")) for one in answers], ["0", "1", "content_blocked", "3", "4"])
        self.assertEqual(seen, [(n, 5) for n in range(1, 6)])

    def test_no_more_run_at_once_than_was_said(self) -> None:
        eve, running, most, lock = self.gateway(), 0, 0, threading.Lock()
        barrier = threading.Event()

        def generate(_prompt: str, **_: object) -> Answer:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            barrier.wait(0.01)
            with lock:
                running -= 1
            return Answer(text="", model="m", request_id="r")

        with mock.patch.object(eve, "generate", generate):
            eve.map(["x"] * 30, concurrency=4, progress=False)
        self.assertEqual(most, 4)

    def test_the_first_error_can_end_it(self) -> None:
        self.stage.answers = [(400, refusal("empty_prompt", False))]
        with self.assertRaises(EveError):
            self.gateway().map(["x"] * 50, concurrency=1, on_error="raise", progress=False)
        self.assertEqual(len(self.stage.asked), 1)


class Chatting(Played):
    def test_turns_are_remembered_and_a_failed_one_is_not(self) -> None:
        chat = self.gateway().chat("Be brief.")
        chat.send("one")
        self.stage.answers = [(400, refusal("invalid_request", False))]
        with self.assertRaises(EveError):
            chat.send("bad")
        chat.send("two")
        last = self.stage.asked[-1]
        self.assertEqual([turn["content"] for turn in last["messages"]], ["one", "hello", "two"])
        self.assertEqual(last["system"], "Be brief.")


class Logging(Played):
    def test_each_try_is_a_line_without_secrets_or_texts(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "calls.jsonl"
            self.stage.answers = [(503, refusal("upstream_unavailable", True))]
            self.gateway(log_path=path).generate("a private text")
            text = path.read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual([line["outcome"] for line in lines], ["upstream_unavailable", "answered"])
        self.assertEqual(lines[1]["usage"]["total_tokens"], 5)
        for hidden in ("private", "abab", "token-1"):
            self.assertNotIn(hidden, text)


@unittest.skipUnless(os.environ.get("EVE_GATEWAY_URL"), "EVE_GATEWAY_URL is not set: no stack to talk to")
class Running(unittest.TestCase):
    """Against a real gateway, with the secret of a notebook."""

    def setUp(self) -> None:
        self.eve = EveGateway(wait=60)

    def test_an_answer_with_its_usage(self) -> None:
        answer = self.eve.generate("Say hello")
        self.assertTrue(answer.text)
        self.assertEqual(answer.model, "gemma-4-31b-it")
        self.assertGreater(answer.usage.total_tokens or 0, 0)

    def test_json_by_a_schema(self) -> None:
        schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
        answer = self.eve.generate("Концерт «Море» 14 февраля в 19:00. Дай название.", response_schema=schema)
        self.assertIsInstance(answer.json()["title"], str)

    def test_the_same_id_gets_the_same_answer(self) -> None:
        request_id = f"same-{os.getpid()}-{id(self)}"
        first = self.eve.generate("Say a number", request_id=request_id)
        self.assertEqual(self.eve.generate("Say a number", request_id=request_id).text, first.text)

    def test_an_event_loop(self) -> None:
        async def both() -> list[Answer]:
            return list(await asyncio.gather(self.eve.agenerate("one"), self.eve.agenerate("two")))

        self.assertEqual(len(asyncio.run(both())), 2)

    def test_a_conversation(self) -> None:
        chat = self.eve.chat("Be brief.")
        chat.send("Hello")
        self.assertTrue(chat.send("And again").text)
        self.assertEqual(len(chat.messages), 4)

    def test_many(self) -> None:
        answers = self.eve.map([f"Say {n}" for n in range(6)], concurrency=3, progress=False)
        self.assertEqual([type(one) for one in answers], [Answer] * 6)

    def test_a_model_that_is_not_its_own(self) -> None:
        with self.assertRaises(EveError) as raised:
            self.eve.generate("hi", model="gemini-3.5-flash")
        self.assertEqual((raised.exception.code, raised.exception.status), ("model_not_allowed", 403))

    def test_a_scope_beyond_the_consumers(self) -> None:
        with self.assertRaisesRegex(EveError, "not among those of this consumer"):
            EveGateway(models=["gemini-3.5-flash"]).generate("hi")

    def test_a_wrong_secret(self) -> None:
        with self.assertRaises(EveError) as raised:
            EveGateway(secret=NOTEBOOK).generate("hi")
        self.assertEqual((raised.exception.code, raised.exception.status), ("invalid_client", 401))

    @unittest.skipUnless(os.environ.get("EVE_TEST_STREAM"), "this gateway's native door does not stream")
    def test_a_stream(self) -> None:
        self.assertTrue("".join(self.eve.stream("Tell a short story")))


if __name__ == "__main__":
    unittest.main()
