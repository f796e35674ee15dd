"""EVE Gateway for notebooks and bots, in one file that needs nothing but Python 3.10 or later, and uses httpx if it is there.

    from eve_gateway import EveGateway

    eve = EveGateway()                       # EVE_GATEWAY_URL and EVE_GATEWAY_SECRET, or Kaggle Secrets of these names
    print(eve.generate("Name three festivals in Kaliningrad").text)

    for piece in eve.stream("Tell me about one of them"):
        print(piece, end="")

    answers = eve.map(prompts, concurrency=8, response_schema=SCHEMA)

    # As jobs: the notebook may be closed, and the same line goes on tomorrow where it was, without asking anything twice.
    answers = eve.map(prompts, journal="answers.jsonl", response_schema=SCHEMA)

    job = eve.submit("Write a long story")   # a job by itself
    print(eve.result(job.id).text)

The secret is a consumer's, made by `npm run eve -- consumers add`. A notebook's (``eve_notebook_...``) is exchanged for a
token that ends by itself and is renewed in time; a service's (``eve_service_...``) is used as it is. No key of Google's and
no key of the project ever comes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import http.client
import io
import json
import math
import os
import random
import re
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait as wait_for
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

try:
    import httpx
except ImportError:
    httpx = None  # type: ignore[assignment]

__all__ = ["Answer", "Chat", "EveError", "EveGateway", "Job", "Usage"]
__version__ = "0.1.0"

URL_VARIABLE = "EVE_GATEWAY_URL"
SECRET_VARIABLE = "EVE_GATEWAY_SECRET"

#: Beyond what the gateway gives one request (140 s), so that it is the gateway that gives up, and says why.
DEFAULT_TIMEOUT_S = 160.0
#: How long the gateway may hold a request back until a slot is free.
DEFAULT_WAIT_S = 30.0
#: How long a call goes on, over all its tries: longer than a minute's quota takes to come back, twice.
DEFAULT_PATIENCE_S = 180.0
#: How long a gateway that has never answered is tried: a mistyped address or a notebook without internet does not get better,
#: a name service that stumbles does. Likewise for one on this machine that has gone: it is restarted within seconds.
FIRST_ANSWER_S = 10.0
#: A token is renewed when this much of its life is left, or a tenth if that is less.
RENEW_BEFORE_S = 60.0
#: First pause after a connection that failed; it doubles up to the last.
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 20.0

#: How long one look at a job that has not ended lasts: the gateway answers as soon as it has. Anyone who interrupts waits so long at most.
LOOK_S = 10.0
#: Between two looks where the gateway answers sooner.
LEAST_LOOK_S = 1.0

#: How a submission is refused for what it asks, and not for who asks, for limits or for a fault: then it is that one's error.
_ITEMS_OWN = frozenset({400, 409, 413, 415, 422})

#: Refusals after which the same request_id may come again: the call was not begun, or nobody knows whether it was.
_SAME_ID = frozenset(
    {
        "rate_limited",
        "daily_limit",
        "lane_blocked",
        "too_many_waiting",
        "database_unavailable",
        "request_running",
        "body_timeout",
        "gateway_unavailable",
        "temporarily_unavailable",
    }
)


class EveError(Exception):
    """The gateway refused a call, or could not be reached. ``str(error)`` says what happened and what to do.

    Attributes:
        code: the stable code of the gateway's table of errors, or ``connection_failed``.
        status: the HTTP status; None if no answer came.
        retryable: whether the same call may succeed later without anybody changing anything.
        retry_after: seconds after which to come back, where the gateway knows.
        request_id: what the gateway's owner needs to find the call.
        details: facts that belong to the code, such as ``reason`` of a blocked prompt.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        request_id: str | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after
        self.request_id = request_id
        self.details = details


@dataclass(frozen=True)
class Usage:
    """Tokens that a call used, as the model's provider counted them, or as the gateway estimated them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    thoughts_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None
    estimated: bool = False


@dataclass(frozen=True)
class Answer:
    """What a model said, and what it took."""

    text: str
    model: str
    request_id: str
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    key_alias: str | None = None
    attempts: int = 1
    wait_ms: int = 0
    #: The gateway's whole JSON, with ``parts`` and ``limits``.
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    def json(self) -> Any:
        """The text as JSON, for calls with a ``response_schema``. Raises ValueError if it is none."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Job:
    """A call that was handed in: it goes on when nobody waits for it."""

    id: str
    #: ``queued``, ``running``, and at the end ``succeeded``, ``failed``, ``cancelled`` or ``expired``.
    status: str
    request_id: str
    #: The gateway's whole JSON of it.
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def has_ended(self) -> bool:
        return self.status not in {"queued", "running"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the credential to another host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class _KeptResponse:
    """An answer of httpx's, read as one of urllib's; what httpx raises on the way is an OSError."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code

    def __enter__(self) -> _KeptResponse:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def read(self) -> bytes:
        with _as_os_errors():
            return self._response.read()

    def __iter__(self) -> Iterator[bytes]:
        """The lines. httpx's own also end where the text has a line separator (U+2028), which JSON holds unescaped."""
        rest = b""
        with _as_os_errors():
            for piece in self._response.iter_bytes():
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
        if rest:
            yield rest

    def close(self) -> None:
        self._response.close()


class _KeptConnections:
    """Opens requests as urllib's opener does, over connections that stay open: a new one costs a call two round trips
    with TLS. A process that was forked gets its own, since two cannot read from one connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connected()

    def _connected(self) -> httpx.Client:
        with self._lock:
            if getattr(self, "_process", None) != os.getpid():
                self._process = os.getpid()
                # Redirects are not followed.
                self._client = httpx.Client(
                    verify=_trusted(), limits=httpx.Limits(max_connections=None, max_keepalive_connections=20)
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def open(self, request: urllib.request.Request, timeout: float) -> _KeptResponse:
        """Raises:
        urllib.error.HTTPError: a status other than 2xx. OSError: no answer, or a part of one.
        """
        client = self._connected()
        headers = dict(request.header_items())
        with _as_os_errors():
            sent = client.build_request(
                request.get_method(), request.full_url, content=request.data, headers=headers, timeout=timeout  # type: ignore[arg-type]
            )
            response = client.send(sent, stream=True)
            if response.is_success:
                return _KeptResponse(response)
            body = io.BytesIO(response.read())
        raise urllib.error.HTTPError(request.full_url, response.status_code, "", response.headers, body)  # type: ignore[arg-type]


@functools.cache
def _trusted() -> ssl.SSLContext:
    """What urllib trusts, the system's certificates. To load them takes longer than a call to this machine."""
    return ssl.create_default_context()


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as problem:
        # The system's own error where there is one: it tells a refused connection from others.
        cause: BaseException | None = problem
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or OSError(str(problem) or type(problem).__name__)) from problem


class EveGateway:
    """A gateway, seen by one consumer. Safe to use from several threads.

    Connections stay open between calls where ``httpx`` is installed; without it each call opens its own.

    Args:
        url: the project's address, ``https://<ref>.supabase.co``; by default EVE_GATEWAY_URL.
        secret: a consumer's secret; by default EVE_GATEWAY_SECRET, from the environment or from Kaggle Secrets.
        model: the model of calls that name none; several are tried in their order.
        wait: seconds for which the gateway may hold a call back until a slot is free; 0 is now or never.
        patience: seconds over which a call is tried again when it is refused for a limit or the connection fails; 0: never.
            A gateway that has never answered is tried for 10 s; one on this machine where nothing listens, not at all.
        timeout: seconds without a byte after which a connection is given up.
        models, traffic_class, requests, tokens, ttl: ask for tokens of a narrower scope than the consumer's own.
        log_path: a file to which each call adds one line of JSON. It holds no secret, and texts only with ``log_texts``.
    """

    def __init__(
        self,
        url: str | None = None,
        secret: str | None = None,
        *,
        model: str | list[str] = "gemma-4-31b-it",
        wait: float = DEFAULT_WAIT_S,
        patience: float = DEFAULT_PATIENCE_S,
        timeout: float = DEFAULT_TIMEOUT_S,
        models: list[str] | None = None,
        traffic_class: Literal["interactive", "batch"] | None = None,
        requests: int | None = None,
        tokens: int | None = None,
        ttl: int | None = None,
        log_path: str | os.PathLike[str] | None = None,
        log_texts: bool = False,
    ) -> None:
        self._base = _functions_url(url or _setting(URL_VARIABLE))
        self._secret = (secret or _setting(SECRET_VARIABLE)).strip()
        self.model = model
        self.wait = wait
        self.patience = patience
        self.timeout = timeout
        scope = {"models": models, "class": traffic_class, "requests": requests, "tokens": tokens, "ttl": ttl}
        self._scope = {name: value for name, value in scope.items() if value is not None}
        self._class = traffic_class
        self._log_path = None if log_path is None else Path(log_path)
        self._log_texts = log_texts
        self._log_lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._token_lock = threading.Lock()
        self._opener: Any = urllib.request.build_opener(_NoRedirect) if httpx is None else _KeptConnections()
        self._has_answered = False

    def __repr__(self) -> str:
        return f"EveGateway({self._base!r})"

    # Calls

    def generate(self, prompt: str | list[dict[str, Any]], **options: Any) -> Answer:
        """Asks for one answer.

        Args:
            prompt: a text, or messages ``{"role": "user" | "model" | "system", "content": ...}``.
            options: fields of the gateway's own JSON: ``model``, ``system``, ``generation``, ``response_schema``, ``tools``,
                ``metadata``, ``request_id``, ``cache`` (``{"ttl_s": 86400}``: the same question is answered from what is kept); and ``wait`` and ``patience`` to differ from the gateway's own.

        Raises:
            EveError: the call was refused, or not answered within its patience.
        """
        patience = options.pop("patience", self.patience)
        body = self._body(prompt, options)
        payload = self._persist(body, patience, lambda: self._post("llm-invoke", body))
        return _answer(payload)

    async def agenerate(self, prompt: str | list[dict[str, Any]], **options: Any) -> Answer:
        """Like :meth:`generate`, for code that runs in an event loop. The call itself runs in a thread."""
        return await asyncio.to_thread(self.generate, prompt, **options)

    def stream(self, prompt: str | list[dict[str, Any]], **options: Any) -> Generator[str, None, Answer]:
        """Yields the answer's text piece by piece; ``return`` value of the generator is the whole :class:`Answer`.

        It is tried again only while nothing has been yielded. Leaving the loop early ends the call at the gateway too.
        """
        patience = options.pop("patience", self.patience)
        body = {**self._body(prompt, options), "stream": True}
        response = self._persist(body, patience, lambda: self._open("llm-invoke", body), log=False)
        started = time.monotonic()
        pieces: list[str] = []
        final: dict[str, Any] = {}
        error: EveError | None = None
        try:
            with response:
                for name, data in _events(response):
                    if name == "error":
                        raise _error(data, response.status, None)
                    if name == "usage" and isinstance(data, dict):
                        final.setdefault("usage", data.get("usage", data))
                    if name == "done" and isinstance(data, dict):
                        final = {**final, **data}
                        break
                    piece = _delta_text(data) if name == "delta" else ""
                    if piece:
                        pieces.append(piece)
                        yield piece
                else:
                    raise EveError("connection_failed", "The stream ended before the answer did. Ask again.", retryable=True)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            error = EveError("connection_failed", f"The stream broke off: {problem}. Ask again.", retryable=True)
            raise error from problem
        except EveError as problem:
            error = problem
            raise
        finally:
            self._log(body, started, final, error)
        return _answer({"request_id": body["request_id"], "model": "", **final, "text": final.get("text", "".join(pieces))})

    async def astream(self, prompt: str | list[dict[str, Any]], **options: Any) -> AsyncIterator[str]:
        """Like :meth:`stream`, for code that runs in an event loop: ``async for piece in eve.astream(...)``.

        Each piece is awaited in a thread. Who leaves in the middle calls ``aclose()``, or uses ``contextlib.aclosing``, and the call ends
        at the gateway too.
        """
        pieces = self.stream(prompt, **options)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            # A thread that still waits for a piece has it; then the generator ends by itself.
            with contextlib.suppress(ValueError):
                pieces.close()

    def chat(self, system: str | None = None, **options: Any) -> Chat:
        """A conversation that remembers its turns; ``options`` are those of :meth:`generate`."""
        return Chat(self, system, options)

    def map(
        self,
        prompts: Iterable[str | list[dict[str, Any]]],
        *,
        concurrency: int = 4,
        on_error: Literal["raise", "return"] = "return",
        progress: bool | Callable[[int, int], None] = True,
        journal: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        **options: Any,
    ) -> list[Answer | EveError]:
        """Answers many prompts, in their order: at most ``concurrency`` at a time, or, with a journal, as jobs.

        With a journal all prompts are handed in first, and the gateway answers them as fast as the limits allow, whether anybody waits
        or not. The same call with the same file goes on where the last one was, in another process and tomorrow too: what is in is not
        handed in again, what is answered comes from the file. A prompt that is new is handed in, one with other options is another one,
        and another file name begins again. The gateway keeps answers that nobody fetched for 7 days.

        Args:
            on_error: ``return`` puts the EveError in the answer's place; ``raise`` begins nothing more and raises the first.
            progress: a bar (tqdm's where it is there), or a function that is told how many of how many are done.
            journal: a file of what was handed in and what was answered: JSON by line, with the answers' texts and without the prompts.
            retry_failed: with a journal: what failed the last time is handed in again.
            options: those of :meth:`generate`, for every prompt. Each gets a request_id of its own.

        Raises:
            EveError: with ``on_error="raise"`` the first one; with a journal what has nothing to do with one prompt, such as a gateway
                that cannot be reached or a token that was revoked. Call it again to go on.
        """
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        if "request_id" in options:
            raise ValueError("request_id belongs to one call; map gives each its own")
        items = list(prompts)
        results: list[Answer | EveError | None] = [None] * len(items)
        with _progress(progress, len(items)) as done_one:

            def note(place: int, result: Answer | EveError) -> None:
                if on_error == "raise" and isinstance(result, EveError):
                    raise result
                results[place] = result
                done_one()

            if journal is not None:
                self._map_jobs(items, _Journal(Path(journal)), concurrency, retry_failed, options, note)
            else:
                todo = ((place, lambda item=item: self.generate(item, **options)) for place, item in enumerate(items))
                for place, future in _as_done(todo, concurrency):
                    try:
                        result: Answer | EveError = future.result()
                    except EveError as error:
                        result = error
                    note(place, result)
        return results  # type: ignore[return-value]

    async def amap(self, prompts: Iterable[str | list[dict[str, Any]]], **options: Any) -> list[Answer | EveError]:
        """Like :meth:`map`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.map, prompts, **options)

    # Jobs

    def submit(self, prompt: str | list[dict[str, Any]], **options: Any) -> Job:
        """Hands a call in, to be answered when there is room, whether anybody waits or not.

        Args:
            options: those of :meth:`generate`, without ``wait``; and ``webhook``, ``{"url": ...}`` to be told of its end there: its
                secret is in ``job.raw["webhook"]`` the first time. The same ``request_id`` again is the same job.

        Raises:
            EveError: the call was refused, or could not be handed in within its patience.
        """
        patience = options.pop("patience", self.patience)
        return self._submit(self._job_body(prompt, options), patience)

    async def asubmit(self, prompt: str | list[dict[str, Any]], **options: Any) -> Job:
        """Like :meth:`submit`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.submit, prompt, **options)

    def job(self, job: Job | str, *, wait: float = 0) -> Job:
        """How a job stands, by itself or by its id; within ``wait`` seconds, as soon as it has ended.

        Raises:
            EveError: there is none, or not for this consumer; or the gateway could not be reached.
        """
        return self._look(job, wait, threading.Event())

    async def ajob(self, job: Job | str, *, wait: float = 0) -> Job:
        """Like :meth:`job`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.job, job, wait=wait)

    def result(self, job: Job | str, *, wait: float | None = None) -> Answer:
        """What a job was answered.

        Args:
            wait: seconds to wait for its end; 0: it is looked at once. None: for as long as it takes.

        Raises:
            EveError: it failed, with the code of its error; ``job_cancelled``; ``job_running`` (retryable): it has not ended so far.
        """
        return _result(self._look(job, math.inf if wait is None else wait, threading.Event()))

    async def aresult(self, job: Job | str, *, wait: float | None = None) -> Answer:
        """Like :meth:`result`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.result, job, wait=wait)

    def cancel(self, job: Job | str) -> Job:
        """Cancels a job that has not ended, and says how it stands."""
        return self._ask_job(job, "DELETE")

    async def acancel(self, job: Job | str) -> Job:
        """Like :meth:`cancel`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.cancel, job)

    def _job_body(self, prompt: str | list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
        body = self._body(prompt, options)
        body.pop("max_wait_ms", None)
        return {**body, "mode": "queue"}

    def _submit(self, body: dict[str, Any], patience: float) -> Job:
        return _job(self._persist(body, patience, lambda: self._post("llm-invoke", body), log=False, same_id=True))

    def _ask_job(self, job: Job | str, method: str, query: str = "") -> Job:
        job_id = job if isinstance(job, str) else job.id
        path = f"llm-invoke/jobs/{urllib.parse.quote(job_id, safe='')}{query}"
        named = {"request_id": job_id, "model": ""}
        return _job(self._persist(named, self.patience, lambda: self._post(path, None, method=method), log=False, same_id=True))

    def _look(self, job: Job | str, wait: float, stop: threading.Event) -> Job:
        """Looks until it has ended, ``wait`` is over, or ``stop`` is set."""
        until = time.monotonic() + wait
        while True:
            began = time.monotonic()
            seconds = max(0, min(LOOK_S, until - began))
            found = self._ask_job(job, "GET", f"?wait={int(seconds)}")
            now = time.monotonic()
            if found.has_ended or now >= until or stop.is_set():
                return found
            time.sleep(max(0.0, min(began + LEAST_LOOK_S, until) - now))

    def _map_jobs(
        self,
        items: list[str | list[dict[str, Any]]],
        journal: _Journal,
        concurrency: int,
        retry_failed: bool,
        options: dict[str, Any],
        note: Callable[[int, Answer | EveError], None],
    ) -> None:
        patience = options.pop("patience", self.patience)
        places: dict[int, tuple[str, dict[str, Any]]] = {}
        times: Counter[str] = Counter()
        for place, item in enumerate(items):
            body = self._job_body(item, dict(options))
            del body["request_id"]
            # As it stands: the gateway compares what comes with the same request_id, and models mind the order in a schema.
            body = {name: body[name] for name in sorted(body)}
            key = hashlib.sha256(json.dumps(body).encode()).hexdigest()[:32]
            times[key] += 1
            places[place] = (f"{key}-{times[key]}", body)
        for place, (name, _) in list(places.items()):
            result = journal.result(name)
            if result is None or (retry_failed and isinstance(result, EveError)):
                continue
            note(place, result)
            del places[place]
        stop = threading.Event()

        def submit(name: str, body: dict[str, Any], attempt: int) -> EveError | None:
            try:
                job = self._submit({**body, "request_id": journal.request_id(name, attempt)}, patience)
            except EveError as error:
                if error.status not in _ITEMS_OWN:
                    raise
                journal.failed(name, attempt, error)
                return error
            journal.submitted(name, attempt, job.id)
            return None

        def finish(name: str, body: dict[str, Any]) -> Answer | EveError | None:
            while True:
                attempt, job_id = journal.job(name)
                try:
                    job = self._look(job_id, math.inf, stop)
                except EveError as error:
                    if error.code != "not_found":
                        raise
                    # It was not fetched for too long, or this token may not see it: nothing that the journal should hold for certain.
                    if not retry_failed or stop.is_set():
                        return error
                    refused = submit(name, body, attempt + 1)
                    if refused is not None:
                        return refused
                    continue
                if not job.has_ended:
                    return None
                try:
                    answer = _result(job)
                except EveError as error:
                    journal.failed(name, attempt, error)
                    return error
                journal.answered(name, attempt, answer)
                return answer

        try:
            # All of them before the first is waited for: from then on nobody need wait.
            handing_in = (
                (place, lambda name=name, body=body: submit(name, body, journal.attempt(name) + 1))
                for place, (name, body) in places.items()
                if not journal.is_waiting(name)
            )
            refused = {place: error for place, future in _as_done(handing_in, concurrency, stop) if (error := future.result()) is not None}
            for place, error in refused.items():
                note(place, error)
                del places[place]
            waiting = ((place, lambda name=name, body=body: finish(name, body)) for place, (name, body) in places.items())
            for place, future in _as_done(waiting, concurrency, stop):
                result = future.result()
                if result is not None:
                    note(place, result)
        except BaseException:
            stop.set()
            raise

    # Trying again

    def _persist(
        self, body: dict[str, Any], patience: float, attempt: Callable[[], Any], log: bool = True, same_id: bool = False
    ) -> Any:
        """Runs ``attempt`` until it succeeds, fails for good, or patience is over. ``body["request_id"]`` stays the same
        wherever the call may have begun, so that nothing is asked, or paid, twice; with ``same_id`` always."""
        begun = time.monotonic()
        deadline = begun + patience
        base_id, tries = body["request_id"], 0
        lost_at: float | None = None
        while True:
            started = time.monotonic()
            tries += 1
            try:
                payload = attempt()
            except EveError as error:
                self._log(body, started, {}, error)
                pause = _pause_after(error, tries)
                # We asked, lost the connection and asked again: the call has failed meanwhile.
                failed_unseen = tries > 1 and error.code == "request_finished"
                if error.code != "connection_failed":
                    lost_at = None
                elif lost_at is None:
                    lost_at = time.monotonic()
                until = deadline if lost_at is None else min(deadline, self._connects_until(begun, lost_at))
                if not (error.retryable or failed_unseen) or time.monotonic() + pause > until:
                    raise
                if not same_id and error.status is not None and error.code not in _SAME_ID:
                    # It was tried and failed: the gateway has closed that id and keeps no answer for it.
                    body["request_id"] = f"{base_id}~{tries + 1}"
                time.sleep(pause)
            else:
                if log:
                    self._log(body, started, payload, None)
                return payload

    def _connects_until(self, begun: float, lost_at: float) -> float:
        """Until when it is worth while to connect again, for a call that began then and lost its connection then."""
        if not self._has_answered:
            return begun + FIRST_ANSWER_S
        return lost_at + FIRST_ANSWER_S if _is_local(self._base) else math.inf

    # The wire

    def _body(self, prompt: str | list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
        wait = options.pop("wait", self.wait)
        body: dict[str, Any] = {
            "model": options.pop("model", None) or self.model,
            "request_id": options.pop("request_id", None) or str(uuid.uuid4()),
            **({"mode": "no_wait"} if wait <= 0 else {"max_wait_ms": int(wait * 1000)}),
            **({"prompt": prompt} if isinstance(prompt, str) else {"messages": prompt}),
        }
        if self._class is not None:
            body["class"] = self._class
        body.update({name: value for name, value in options.items() if value is not None})
        return body

    def _post(
        self,
        function: str,
        body: dict[str, Any] | bytes | None,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> dict[str, Any]:
        try:
            with self._open(function, body, headers, method) as response:
                payload = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise EveError("connection_failed", f"The answer was cut short: {problem}. Ask again.", retryable=True) from problem
        if not isinstance(payload, dict):
            raise EveError("connection_failed", "The answer is no JSON object: is EVE_GATEWAY_URL the project's address?")
        return payload

    def _open(
        self,
        function: str,
        body: dict[str, Any] | bytes | None,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> Any:
        return self._send(function, body, {"authorization": f"Bearer {self._credential()}", **(headers or {})}, method)

    def _send(self, function: str, body: dict[str, Any] | bytes | None, headers: dict[str, str], method: str = "POST") -> Any:
        request = urllib.request.Request(
            f"{self._base}{function}",
            data=json.dumps(body).encode() if isinstance(body, dict) else body,
            headers={"content-type": "application/json", "user-agent": f"eve-gateway-python/{__version__}", **headers},
            method=method,
        )
        try:
            response = self._opener.open(request, timeout=self.timeout)
            self._has_answered = True
            return response
        except urllib.error.HTTPError as problem:
            self._has_answered = True
            with problem:
                raise _error(_json_or_none(problem), problem.code, problem.headers.get("retry-after")) from None
        except (OSError, http.client.HTTPException) as problem:
            reason = getattr(problem, "reason", problem)
            if isinstance(reason, ConnectionRefusedError) and _is_local(self._base) and not self._has_answered:
                raise EveError(
                    "connection_failed",
                    f"Nothing listens at {self._base}. Start the local stack (npm start), or set {URL_VARIABLE} to the project's address.",
                ) from problem
            raise EveError(
                "connection_failed",
                f"The gateway at {self._base} could not be reached: {reason}. Check the address and the network.",
                retryable=True,
            ) from problem

    @property
    def url(self) -> str:
        """The gateway's address, as Google's packages take it; with ``/openai/v1`` behind it, as OpenAI's does."""
        return f"{self._base}llm-invoke"

    def token(self) -> str:
        """What another package takes as its key: a service's secret, or a token that ends by itself. It is renewed here,
        so ask again where a package keeps it for long.

        Raises:
            EveError: it cannot be had.
        """
        return self._credential()

    def _credential(self) -> str:
        """The service's own key, or a notebook's token that is valid for a while yet."""
        if not self._secret.startswith("eve_notebook_"):
            return self._secret
        with self._token_lock:
            if self._token is None or time.time() >= self._renew_at:
                self._fetch_token()
            assert self._token is not None
            return self._token

    def _fetch_token(self) -> None:
        asked_at = time.time()
        body = {"grant_type": "client_credentials", "client_secret": self._secret, **self._scope}
        try:
            with self._send("issue-kaggle-token", body, {}) as response:
                payload = json.loads(response.read())
            lifetime = float(payload["expires_in"])
            token = payload["access_token"]
        except EveError as error:
            # The old token is good for some time yet: the renewal can be tried again at the next call.
            if self._token is not None and error.retryable and time.time() < self._expires_at:
                return
            raise
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as problem:
            raise EveError("connection_failed", "No token came. Is EVE_GATEWAY_URL the project's address?", retryable=True) from problem
        self._token = token
        self._expires_at = asked_at + lifetime
        self._renew_at = self._expires_at - min(RENEW_BEFORE_S, lifetime / 10)

    # The log

    def _log(self, body: dict[str, Any], started: float, payload: dict[str, Any], error: EveError | None) -> None:
        if self._log_path is None:
            return
        line = {
            "at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "request_id": body["request_id"],
            "model": payload.get("model") or body["model"],
            "seconds": round(time.monotonic() - started, 3),
            "outcome": "answered" if error is None else error.code,
            "status": 200 if error is None else error.status,
            "wait_ms": payload.get("wait_ms"),
            "usage": payload.get("usage"),
        }
        if self._log_texts:
            line["prompt"] = body.get("prompt", body.get("messages"))
            line["text"] = payload.get("text")
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._log_lock, self._log_path.open("a", encoding="utf-8") as file:
            file.write(text)


class Chat:
    """A conversation. A turn that fails leaves it as it was."""

    def __init__(self, gateway: EveGateway, system: str | None, options: dict[str, Any]) -> None:
        self._gateway = gateway
        self._options = {**options, **({} if system is None else {"system": system})}
        self.messages: list[dict[str, Any]] = []

    def send(self, text: str, **options: Any) -> Answer:
        """Says something and gives the model's answer. Raises EveError as :meth:`EveGateway.generate` does."""
        turns = [*self.messages, {"role": "user", "content": text}]
        answer = self._gateway.generate(turns, **{**self._options, **options})
        self.messages = [*turns, {"role": "model", "content": answer.text}]
        return answer


class _Journal:
    """What a map has handed in and what came of it: a file with a line of JSON each time, of which the last one of an item counts. Safe
    to use from several threads. A line that was cut off when a process died is passed over; nothing depends on it, since the
    ids under which items are handed in follow from the file's name and the items themselves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, Any]] = {}
        path.touch()
        text = path.read_text("utf-8", errors="replace")
        for line in text.splitlines():
            try:
                said = json.loads(line)
                self._lines[said["item"]] = said
            except (ValueError, KeyError, TypeError):
                continue
        if text and not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def request_id(self, item: str, attempt: int) -> str:
        return "map-" + hashlib.sha256(f"{self._path.name}\n{item}\n{attempt}".encode()).hexdigest()[:48]

    def attempt(self, item: str) -> int:
        """How often it was handed in, or refused."""
        return self._lines.get(item, {}).get("attempt", 0)

    def is_waiting(self, item: str) -> bool:
        return "job" in self._lines.get(item, {})

    def job(self, item: str) -> tuple[int, str]:
        line = self._lines[item]
        return line["attempt"], line["job"]

    def result(self, item: str) -> Answer | EveError | None:
        line = self._lines.get(item, {})
        if "answer" in line:
            return _answer(line["answer"])
        if "error" in line:
            said = line["error"]
            return EveError(said["code"], said["message"], request_id=said.get("request_id"))
        return None

    def submitted(self, item: str, attempt: int, job_id: str) -> None:
        self._write({"item": item, "attempt": attempt, "job": job_id})

    def answered(self, item: str, attempt: int, answer: Answer) -> None:
        self._write({"item": item, "attempt": attempt, "answer": answer.raw})

    def failed(self, item: str, attempt: int, error: EveError) -> None:
        message = str(error).removesuffix(f" [{error.code}]")
        said = {"code": error.code, "message": message, "request_id": error.request_id}
        self._write({"item": item, "attempt": attempt, "error": said})

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._lock:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
            self._lines[line["item"]] = line


def _as_done(
    todo: Iterable[tuple[int, Callable[[], Any]]], concurrency: int, stop: threading.Event | None = None
) -> Iterator[tuple[int, Future[Any]]]:
    """Runs what there is to do in threads, ``concurrency`` at a time, and yields each place and future as it is done. An interruption
    sets ``stop`` and waits for what runs."""
    with ThreadPoolExecutor(concurrency) as pool:
        pending: dict[Future[Any], int] = {}
        left = iter(todo)
        try:
            while True:
                # Only what is running is handed over, so that an interruption leaves nothing behind in a queue.
                while len(pending) < concurrency and (one := next(left, None)) is not None:
                    pending[pool.submit(one[1])] = one[0]
                if not pending:
                    return
                for future in wait_for(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future
        except BaseException:
            if stop is not None:
                stop.set()
            for future in pending:
                future.cancel()
            raise


def _job(payload: dict[str, Any]) -> Job:
    said = payload.get("job")
    if not isinstance(said, dict):
        raise EveError("connection_failed", "The answer is about no job: is this gateway's version older than this file's?")
    webhook = {"webhook": payload["webhook"]} if "webhook" in payload else {}
    return Job(id=said["id"], status=said["status"], request_id=said["request_id"], raw={**said, **webhook})


def _result(job: Job) -> Answer:
    """Raises EveError if it has not succeeded."""
    if not job.has_ended:
        raise EveError("job_running", f"The job is {job.status}. Ask again later.", retryable=True, request_id=job.id)
    if job.status != "succeeded":
        said = job.raw.get("error") or {"code": f"job_{job.status}", "message": f"The job is {job.status}."}
        raise EveError(said["code"], said["message"], request_id=job.id)
    return _answer(job.raw.get("response") or {"request_id": job.id, "model": job.raw.get("model"), **job.raw})


def _setting(name: str) -> str:
    """A variable of the environment, or a Kaggle Secret of its name."""
    value = os.environ.get(name)
    if value:
        return value
    try:
        from kaggle_secrets import UserSecretsClient  # type: ignore[import-not-found]
    except ImportError:
        where = "in the environment"
    else:
        where = "in the environment or under Add-ons, Secrets"
        try:
            value = UserSecretsClient().get_secret(name)
        except Exception:  # noqa: BLE001 -- its own exceptions differ between versions; all mean that there is none.
            value = None
    if value:
        return value
    raise EveError("not_configured", f"{name} is not set: set it {where}, or give it as an argument.")


def _is_local(url: str) -> bool:
    return urllib.parse.urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def _functions_url(url: str) -> str:
    parsed = urllib.parse.urlsplit(url.strip().rstrip("/"))
    if not (parsed.scheme == "https" or (parsed.scheme == "http" and _is_local(parsed.geturl()))) or not parsed.hostname:
        raise EveError("not_configured", "The gateway's address must begin with https://, or secrets would be readable on the way.")
    # Where the functions' names begin with a prefix (``init --prefix``), the address ends in it: ``.../functions/v1/eve-``.
    path = parsed.path if re.search(r"/functions/v1(/[a-z0-9-]*-)?$", parsed.path) else f"{parsed.path}/functions/v1"
    return f"{parsed.scheme}://{parsed.netloc}{path}" + ("" if path.endswith("-") else "/")


def _answer(payload: dict[str, Any]) -> Answer:
    usage = payload.get("usage") or {}
    return Answer(
        text=payload.get("text") or "",
        model=payload.get("model") or "",
        request_id=payload.get("request_id") or "",
        finish_reason=payload.get("finish_reason"),
        usage=Usage(**{name: usage[name] for name in Usage.__dataclass_fields__ if name in usage}),
        key_alias=payload.get("key_alias"),
        attempts=payload.get("attempts") or 1,
        wait_ms=payload.get("wait_ms") or 0,
        raw=payload,
    )


def _error(payload: Any, status: int, retry_after: str | None) -> EveError:
    """An error of any of the gateway's functions, or of what stands before them."""
    said = payload.get("error") if isinstance(payload, dict) else None
    seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    if isinstance(said, dict) and "code" in said:
        return EveError(
            str(said["code"]),
            str(said.get("message", "The gateway refused.")),
            status=status,
            retryable=bool(said.get("retryable", False)),
            retry_after=seconds,
            request_id=said.get("request_id"),
            details=said.get("details"),
        )
    if isinstance(said, str):  # OAuth's form, of the token endpoint.
        hint = f"No token was issued: {payload.get('error_description', said)}."
        return EveError(said, hint, status=status, retryable=said == "temporarily_unavailable", retry_after=seconds)
    # Not the gateway itself: the platform before it, when a function is starting or has run out of something.
    return EveError(
        "gateway_unavailable",
        f"Something before the gateway answered with status {status}.",
        status=status,
        retryable=status in {408, 425, 429, 502, 503, 504, 546},
        retry_after=seconds,
    )


def _json_or_none(response: Any) -> Any:
    try:
        return json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _pause_after(error: EveError, tries: int) -> float:
    """What the gateway said, or a pause that doubles; always with some chance in it, so that callers spread out."""
    if error.retry_after is not None:
        return error.retry_after + random.uniform(0, 0.5)
    return random.uniform(0.5, 1.0) * min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** (tries - 1))


def _events(response: Any) -> Iterator[tuple[str, Any]]:
    """Server-sent events: name and JSON data. Comments and fields of no interest are passed over."""
    name, data = "message", []
    for line in response:
        text = line.decode("utf-8").rstrip("\r\n")
        if text == "":
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
        elif text.startswith("event:"):
            name = text[6:].strip()
        elif text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))


def _delta_text(data: Any) -> str:
    if not isinstance(data, dict):
        return ""
    if isinstance(data.get("text"), str):
        return data["text"]
    return "".join(part.get("text", "") for part in data.get("parts", []) if not part.get("thought"))


class _progress:  # noqa: N801 -- used like a function.
    """A bar while a map runs: tqdm's where it is installed, else a line on stderr that is written over."""

    def __init__(self, wanted: bool | Callable[[int, int], None], total: int) -> None:
        self._wanted, self._total, self._done, self._bar = wanted, total, 0, None

    def __enter__(self) -> Callable[[], None]:
        if self._wanted is True:
            try:
                from tqdm.auto import tqdm  # type: ignore[import-untyped]
            except ImportError:
                pass
            else:
                self._bar = tqdm(total=self._total, unit="call")
        return self._one

    def _one(self) -> None:
        self._done += 1
        if callable(self._wanted):
            self._wanted(self._done, self._total)
        elif self._bar is not None:
            self._bar.update()
        elif self._wanted and sys.stderr.isatty():
            end = "\n" if self._done == self._total else ""
            print(f"\r{self._done} of {self._total}", end=end, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
