"""Posts with pictures for an EVE Gateway: handed in with their files, and what was found in them, later or by waiting.

    from eve_posts import EvePosts

    posts = EvePosts()
    post = posts.add("telegram:city_events", "message-17", "Concert on Saturday", pictures=["poster.jpg"])
    for found in posts.result(post["id"])["enrichment"]:      # or tomorrow, by the same id
        print(found["status"], found["vision_description"], found["ocr_text"])

It needs ``eve_gateway.py`` beside it and nothing but Python 3.10 or later. Where the gateway is, and as whom to call it, is in
EVE_GATEWAY_URL and EVE_GATEWAY_SECRET: a consumer with the scopes ``intake``, ``media`` (for pictures that come with a post) and
``vision`` (to read what was found).
"""

from __future__ import annotations

import asyncio
import json
import math
import mimetypes
import os
import time
import urllib.parse
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eve_gateway import EveError, EveGateway

__all__ = ["EvePosts"]

#: Between two looks at a post whose pictures wait: a model takes seconds.
LOOK_EVERY_S = 2.0
LAST_LOOK_EVERY_S = 30.0

Row = dict[str, Any]
Picture = str | os.PathLike[str] | bytes


class EvePosts:
    """Posts of one tenant. Safe to use from several threads.

    Args:
        gateway: whom to ask; by default one of its own, with ``url`` and ``secret`` as :class:`EveGateway` takes them.
        tenant_id: whose posts, for the project and for administrators; a consumer's are its own tenant's.
    """

    def __init__(
        self, url: str | None = None, secret: str | None = None, *, gateway: EveGateway | None = None, tenant_id: str | None = None
    ) -> None:
        self._gateway = gateway or EveGateway(url, secret)
        self.tenant_id = tenant_id

    def add(
        self,
        source: str,
        external_id: str | None = None,
        text: str = "",
        *,
        pictures: Iterable[Picture] = (),
        media: Iterable[str] = (),
        published_at: str | None = None,
        metadata: Row | None = None,
        urgent: bool = False,
    ) -> Row:
        """Hands a post in; its pictures are looked at by jobs, whether anybody waits or not. Repeated until it is there.

        Args:
            source: where it comes from, such as ``telegram:city_events``.
            external_id: the source's own name of it: the same one again is the same post. Without one it is a post of its own.
            pictures: paths, or bytes. All together go in one request: files beyond the gateway's limit of 10 MiB are uploaded with
                ``s3_storage`` first, and named by ``media``.
            media: SHA-256 of files that are stored.
            published_at: ISO 8601 with an offset.
            urgent: whether somebody waits for what will be found.

        Returns:
            The post: ``id``, ``media``, ...

        Raises:
            EveError: it is refused, or could not be handed in within the gateway's patience.
        """
        named = external_id or uuid.uuid4().hex
        given: Row = {"source": source, "external_id": named, "media": list(media), "class": "interactive" if urgent else "batch"}
        more = {"text": text or None, "published_at": published_at, "metadata": metadata, "tenant_id": self.tenant_id}
        given.update({name: value for name, value in more.items() if value is not None})
        body, headers = _form(given, list(pictures))
        return self._again(named, lambda: self._gateway._post("api/v1/intake/posts", body, headers))

    async def aadd(self, source: str, external_id: str | None = None, text: str = "", **options: Any) -> Row:
        """Like :meth:`add`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.add, source, external_id, text, **options)

    def get(self, post_id: str) -> Row:
        """A post as it stands: ``enrichment`` has a row for each picture, with its ``status`` and the reason where it waits."""
        path = f"api/v1/vision/posts/{urllib.parse.quote(post_id, safe='')}"
        return self._again(post_id, lambda: self._gateway._post(path, None, method="GET"))

    async def aget(self, post_id: str) -> Row:
        """Like :meth:`get`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.get, post_id)

    def result(self, post_id: str, *, wait: float | None = None) -> Row:
        """A post whose pictures have all been looked at, skipped or given up.

        Args:
            wait: seconds to wait for that; 0: it is looked at once. None: for as long as it takes.

        Raises:
            EveError: ``job_running`` (retryable): a picture waits still, and the message says what for.
        """
        until = time.monotonic() + (math.inf if wait is None else wait)
        pause = LOOK_EVERY_S
        while True:
            post = self.get(post_id)
            waiting = [row for row in post["enrichment"] if row["status"] == "waiting"]
            left = until - time.monotonic()
            if not waiting:
                return post
            if left <= 0:
                reason = waiting[0].get("reason") or "its turn"
                raise EveError("job_running", f"{len(waiting)} of its pictures wait: {reason}.", retryable=True)
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LAST_LOOK_EVERY_S)

    async def aresult(self, post_id: str, *, wait: float | None = None) -> Row:
        """Like :meth:`result`, for code that runs in an event loop."""
        return await asyncio.to_thread(self.result, post_id, wait=wait)

    def _again(self, name: str, ask: Any) -> Row:
        eve = self._gateway
        return eve._persist({"request_id": name, "model": ""}, eve.patience, ask, log=False, same_id=True)


def _form(post: Row, pictures: list[Picture]) -> tuple[Row | bytes, dict[str, str]]:
    """JSON, or a multipart form where there are files."""
    if not pictures:
        return post, {}
    boundary = uuid.uuid4().hex
    pieces = [f'--{boundary}\r\ncontent-disposition: form-data; name="post"\r\n\r\n{json.dumps(post)}\r\n'.encode()]
    for picture in pictures:
        content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        guessed = None if isinstance(picture, bytes) else mimetypes.guess_type(os.fspath(picture))[0]
        head = 'content-disposition: form-data; name="media"; filename="picture"'
        # Of what has no name the gateway finds the type out.
        pieces += [f"--{boundary}\r\n{head}\r\ncontent-type: {guessed or 'application/octet-stream'}\r\n\r\n".encode(), content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), {"content-type": f"multipart/form-data; boundary={boundary}"}
