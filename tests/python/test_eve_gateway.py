"""The Python helper: against a gateway played here, and, where EVE_GATEWAY_URL is set, against a running stack.

Run by: python3 -m unittest discover -s tests/python
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import uuid
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
        #: Jobs by their request_id, as the gateway keeps them, and how often each is looked at before it has ended.
        self.jobs: dict[str, dict] = {}
        self.looks = 0
        self.looked: list[str] = []
        self.lock = threading.Lock()
        stage = self

        #: Connections that were opened here.
        self.connections: list[socket.socket] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one packet: of two, the second waits for the first to be acknowledged.
            wbufsize = 65536

            def setup(self) -> None:
                with stage.lock:
                    stage.connections.append(self.request)
                super().setup()

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
                if answer == (200, OK) and body.get("mode") == "queue":
                    answer = (202, {"job": stage.handed_in(body)})
                if answer == "hang up":
                    self.close_connection = True
                    return self.connection.close()
                return self.reply(*answer)

            def do_GET(self) -> None:  # noqa: N802
                with stage.lock:
                    stage.looked.append(self.path.removeprefix("/functions/v1/llm-invoke/jobs/"))
                job_id = stage.looked[-1].split("?")[0]
                found = [job for job in stage.jobs.values() if job["id"] == job_id]
                if not found:
                    return self.reply(404, refusal("not_found", False))
                job = found[0]
                job["left"] -= 1
                if job["left"] < 0 and job["status"] == "queued":
                    failed = "fail" in job["prompt"]
                    job["status"] = "failed" if failed else "succeeded"
                    job["error"] = {"code": "content_blocked", "message": "No."} if failed else None
                    job["response"] = None if failed else {**OK, "text": f"answer to {job['prompt']}"}
                return self.reply(200, {"job": job})

            def do_DELETE(self) -> None:  # noqa: N802
                for job in stage.jobs.values():
                    if self.path.endswith(job["id"]):
                        job["status"] = "cancelled"
                        return self.reply(200, {"job": job})
                return self.reply(404, refusal("not_found", False))

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

    def handed_in(self, body: dict) -> dict:
        with self.lock:
            number = len(self.jobs) + 1
            job = {"id": f"job-{number}", "request_id": body["request_id"], "status": "queued", "left": self.looks}
            return self.jobs.setdefault(body["request_id"], {**job, "prompt": body["prompt"]})

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


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
    def test_an_address_may_end_in_the_prefix_of_the_functions_names(self) -> None:
        base = "https://x.example/functions/v1/"
        for given in ["https://x.example", "https://x.example/", base, base[:-1], "https://x.example/functions/v1/eve-"]:
            expected = base + ("eve-" if given.endswith("-") else "")
            self.assertEqual(repr(EveGateway(given, "secret")), f"EveGateway({expected!r})")

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

    def test_connections_stay_open_with_httpx_also_after_an_error_and_each_process_has_its_own(self) -> None:
        eve = self.gateway(SERVICE)
        self.stage.answers = [(400, refusal("invalid_request", False))]
        with self.assertRaises(EveError):
            eve.generate("hi")
        for _ in range(3):
            eve.generate("hi")
        self.assertEqual(len(self.stage.connections), 4 if eve_gateway.httpx is None else 1)
        child = os.fork()
        if child == 0:
            os._exit(0 if eve.generate("hi").text == "hello" else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        eve.generate("hi")
        self.assertEqual(len(self.stage.connections), 6 if eve_gateway.httpx is None else 2)

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

    def test_a_stream_in_an_event_loop_ends_with_who_reads_it(self) -> None:
        self.stage.answers = [(200, self.frames(("delta", {"text": "a"}), ("delta", {"text": "b"}), ("done", {})))] * 2

        async def read(most: int) -> list[str]:
            pieces: list[str] = []
            async with contextlib.aclosing(self.gateway().astream("hi")) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == most:
                        break
            return pieces

        self.assertEqual((asyncio.run(read(9)), asyncio.run(read(1))), (["a", "b"], ["a"]))

    def test_a_piece_with_a_separator_of_lines_in_it_is_one_piece(self) -> None:
        # As JSON has it that escapes no more than it must.
        frames = 'event: delta\ndata: {"text":"a\u2028b\u0085c"}\n\nevent: done\ndata: {"text":"a\u2028b\u0085c"}\n\n'
        self.stage.answers = [(200, frames.encode())]
        self.assertEqual(list(self.gateway().stream("hi")), ["a\u2028b\u0085c"])

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


class Jobs(Played):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.journal = Path(folder.name) / "answers.jsonl"

    def map(self, prompts: list[str], eve: EveGateway | None = None, **options: object) -> list[str]:
        results = (eve or self.gateway()).map(prompts, journal=self.journal, progress=False, **options)  # type: ignore[arg-type]
        return [one.text if isinstance(one, Answer) else one.code for one in results]

    def test_a_job_is_handed_in_and_fetched(self) -> None:
        eve = self.gateway()
        self.stage.looks = 2
        job = eve.submit("one", system="Be brief.", request_id="mine")
        self.assertEqual((job.id, job.status, job.has_ended, job.request_id), ("job-1", "queued", False, "mine"))
        self.assertEqual({name: self.stage.asked[0].get(name) for name in ("mode", "max_wait_ms", "system")}, {"mode": "queue", "max_wait_ms": None, "system": "Be brief."})
        with self.assertRaises(EveError) as raised:
            eve.result(job, wait=0)
        self.assertEqual((raised.exception.code, raised.exception.retryable), ("job_running", True))
        self.assertEqual(asyncio.run(eve.aresult("job-1")).text, "answer to one")
        self.assertEqual(self.stage.looked, ["job-1?wait=0", "job-1?wait=10", "job-1?wait=10"])

    def test_a_job_that_fails_or_is_cancelled_says_so(self) -> None:
        eve = self.gateway()
        with self.assertRaises(EveError) as raised:
            eve.result(eve.submit("fail"))
        self.assertEqual(raised.exception.code, "content_blocked")
        job = eve.submit("two")
        self.assertEqual(eve.cancel(job).status, "cancelled")
        with self.assertRaises(EveError) as raised:
            eve.result(job.id)
        self.assertEqual(raised.exception.code, "job_cancelled")

    def test_a_submission_that_was_lost_is_the_same_job(self) -> None:
        self.stage.answers = ["hang up", (503, refusal("upstream_unavailable", True))]
        self.gateway().submit("one")
        self.assertEqual((len(self.stage.asked), len({one["request_id"] for one in self.stage.asked})), (3, 1))

    def test_a_map_keeps_order_and_errors_and_all_is_in_before_the_first_is_waited_for(self) -> None:
        seen: list[tuple[int, int]] = []
        answers = self.gateway().map([f"{n}" if n != 2 else "fail" for n in range(5)], journal=self.journal, progress=lambda *at: seen.append(at))
        self.assertEqual([getattr(one, "text", getattr(one, "code", "")) for one in answers], ["answer to 0", "answer to 1", "content_blocked", "answer to 3", "answer to 4"])
        self.assertEqual(seen, [(n, 5) for n in range(1, 6)])
        self.assertEqual((len(self.stage.asked), len(self.stage.jobs)), (5, 5))

    def test_a_map_goes_on_where_the_last_one_was(self) -> None:
        with mock.patch.object(EveGateway, "_look", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            self.map(["a", "b", "a"])
        self.assertEqual(len(self.stage.jobs), 3)
        # The same prompt twice is two jobs, a new one is handed in, and nothing else.
        self.assertEqual(self.map(["a", "b", "a", "c"]), [f"answer to {name}" for name in "abac"])
        self.assertEqual((len(self.stage.asked), len(self.stage.jobs)), (4, 4))
        # What was answered comes from the file: in another order, and with nobody there.
        self.stage.close()
        self.assertEqual(self.map(["c", "b", "a"]), ["answer to c", "answer to b", "answer to a"])

    def test_other_options_or_another_file_are_another_map(self) -> None:
        self.map(["a"])
        self.map(["a"], generation={"temperature": 0})
        self.journal = self.journal.with_name("second.jsonl")
        self.map(["a"])
        self.assertEqual(len(self.stage.jobs), 3)

    def test_a_journal_that_was_cut_off_or_lost_submits_nothing_twice(self) -> None:
        self.map(["a", "b"])
        lines = self.journal.read_text("utf-8").splitlines()
        self.assertEqual(len(lines), 4)
        self.journal.write_text(f"{lines[0]}\n{lines[1][:20]}", "utf-8")
        self.assertEqual(self.map(["a", "b"]), ["answer to a", "answer to b"])
        for line in self.journal.read_text("utf-8").splitlines()[2:]:
            json.loads(line)
        self.journal.unlink()
        self.assertEqual(self.map(["a", "b"]), ["answer to a", "answer to b"])
        self.assertEqual(len(self.stage.jobs), 2)

    def test_what_failed_stays_failed_until_it_is_to_be_tried_again(self) -> None:
        self.assertEqual(self.map(["fail", "a"]), ["content_blocked", "answer to a"])
        self.assertEqual((self.map(["fail", "a"]), len(self.stage.asked)), (["content_blocked", "answer to a"], 2))
        self.map(["fail", "a"], retry_failed=True)
        self.assertEqual((len(self.stage.asked), len(self.stage.jobs)), (3, 3))
        with self.assertRaises(EveError):
            self.map(["a", "fail"], on_error="raise")

    def test_a_job_that_is_gone_is_handed_in_again_if_that_is_wanted(self) -> None:
        with mock.patch.object(EveGateway, "_look", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            self.map(["a"])
        self.stage.jobs.clear()
        self.assertEqual(self.map(["a"]), ["not_found"])
        self.assertEqual(self.map(["a"], retry_failed=True), ["answer to a"])

    def test_a_refusal_is_a_prompts_own_or_ends_the_map(self) -> None:
        self.stage.answers = [(400, refusal("empty_prompt", False))]
        self.assertEqual(self.map(["", "a"], concurrency=1), ["empty_prompt", "answer to a"])
        self.stage.answers = [(401, refusal("token_revoked", False))]
        with self.assertRaises(EveError) as raised:
            self.map(["b"])
        self.assertEqual(raised.exception.code, "token_revoked")
        # It is no prompt's error: nothing of it is in the file.
        self.assertEqual(self.map(["b"]), ["answer to b"])

    def test_the_journal_holds_no_prompts_and_no_secrets(self) -> None:
        self.stage.answers = [(400, refusal("invalid_request", False))]
        self.map(["something private"])
        text = self.journal.read_text("utf-8")
        self.assertIn("invalid_request", text)
        for hidden in ("private", "abab", "token-1"):
            self.assertNotIn(hidden, text)


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

    def test_jobs_of_a_process_that_dies_are_taken_up_by_the_next(self) -> None:
        prompts = [f"Say {n} of {uuid.uuid4()}" for n in range(4)]
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / f"{uuid.uuid4()}.jsonl"
            dies = f"""
import os, sys
sys.path.insert(0, {str(Path(eve_gateway.__file__).parent)!r})
import eve_gateway
# The second job is in, and nothing says so here.
def submitted(self, item, attempt, job_id, write=eve_gateway._Journal.submitted):
    if self._lines:
        os._exit(9)
    write(self, item, attempt, job_id)
eve_gateway._Journal.submitted = submitted
eve_gateway.EveGateway().map({prompts!r}, concurrency=1, journal={str(journal)!r}, progress=False)
"""
            self.assertEqual(subprocess.run([sys.executable, "-c", dies], check=False).returncode, 9)
            self.assertEqual(len(journal.read_text("utf-8").splitlines()), 1)
            answers = self.eve.map(prompts, journal=journal, progress=False)
            self.assertEqual([type(one) for one in answers], [Answer] * 4)
            with mock.patch.object(self.eve, "_send", side_effect=AssertionError("nobody is to be asked")):
                again = self.eve.map(prompts, journal=journal, progress=False)
        self.assertEqual([one.text for one in again], [one.text for one in answers])
        handed_in = self.eve._post("llm-invoke/jobs?limit=200", None, method="GET")["jobs"]
        mine = [job for job in handed_in if job["id"] in {one.request_id for one in answers}]
        self.assertEqual((len(mine), len([job for job in handed_in if job["request_id"].startswith("map-")])), (4, 4))

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

    @unittest.skipUnless(os.environ.get("EVE_TEST_STREAM"), "this gateway's native endpoint does not stream")
    def test_a_stream(self) -> None:
        self.assertTrue("".join(self.eve.stream("Tell a short story")))


if __name__ == "__main__":
    unittest.main()
