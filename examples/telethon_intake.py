"""Brings posts of Telegram's channels where no bot may be: a reader that is logged in as a person, with Telethon.

    pip install telethon
    TELEGRAM_API_ID=... TELEGRAM_API_HASH=... EVE_GATEWAY_URL=https://<ref>.supabase.co EVE_GATEWAY_SECRET=eve_service_... \
        python3 examples/telethon_intake.py city_events other_channel

The secret is a service's with the scopes intake and media: npm run eve -- consumers add my-reader --kind service --scopes intake,media
It runs until it is stopped. Albums are one post, edits and deletions are followed; what it has brought is remembered in EVE_INTAKE_STATE
(intake_state.json). Sources and ids are those of the gateway's own bot, so both may see a channel: each post is there once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from telethon import TelegramClient, events

#: As much as a bot may have of a file, so that both bring the same.
MAX_FILE_BYTES = 20_000_000
#: Of a message whose album is looked up: an album has ten parts, with numbers that follow each other.
ALBUM_PARTS = 10
TRIES = 5
TIMEOUT_S = 60.0


class GatewayRefused(Exception):
    """The gateway's own words. status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Intake:
    """The gateway's intake over HTTP: files, posts, and posts that go."""

    def __init__(self, url: str, secret: str, pause_s: float = 1.0) -> None:
        self._url = url.rstrip("/") + "/functions/v1/api/v1"
        self._secret = secret
        self._pause_s = pause_s

    async def upload(self, body: bytes, mime_type: str) -> str:
        """Stores a file. Returns its SHA-256."""
        return (await self._ask("POST", "/media", body, mime_type))["sha256"]

    async def bring(self, post: dict[str, Any]) -> str:
        """Brings a post, or what it says now. Returns its id."""
        body = json.dumps({**post, "replace": True}).encode()
        return (await self._ask("POST", "/intake/posts", body, "application/json"))["id"]

    async def delete(self, post_id: str) -> None:
        try:
            await self._ask("DELETE", f"/intake/posts/{post_id}", None, None)
        except GatewayRefused as refused:
            if refused.status != 404:
                raise

    async def _ask(self, method: str, path: str, body: bytes | None, content_type: str | None) -> Any:
        for left in range(TRIES - 1, -1, -1):
            try:
                return await asyncio.to_thread(self._send, method, path, body, content_type)
            except GatewayRefused as refused:
                if left == 0 or (refused.status < 500 and refused.status not in (408, 409, 429)):
                    raise
            except urllib.error.URLError:
                if left == 0:
                    raise
            await asyncio.sleep(self._pause_s * 2 ** (TRIES - 1 - left))
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: bytes | None, content_type: str | None) -> Any:
        request = urllib.request.Request(self._url + path, data=body, method=method)
        request.add_header("authorization", f"Bearer {self._secret}")
        if content_type is not None:
            request.add_header("content-type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 -- the owner's own address.
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read(4_096).decode(errors="replace")
            raise GatewayRefused(error.code, f"{method} {path}: {error.code} {said}") from None


class State:
    """Which post each message is in, kept in a file: Telegram says of deletions no more than numbers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._posts: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def post_of(self, source: str, message_id: int) -> str | None:
        return self._posts.get(f"{source} {message_id}")

    def note(self, source: str, message_ids: list[int], post_id: str) -> None:
        self._posts.update({f"{source} {message_id}": post_id for message_id in message_ids})
        self._save()

    def forget(self, source: str, message_id: int) -> list[int]:
        """Forgets a message. Returns the other messages of its post."""
        post_id = self._posts.pop(f"{source} {message_id}", None)
        self._save()
        names = [name for name, other in self._posts.items() if other == post_id]
        return [int(name.rsplit(" ", 1)[1]) for name in names]

    def _save(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._posts))
        new.replace(self._path)


class Reader:
    """Makes posts of what Telethon sees. All of it may be seen twice."""

    def __init__(self, client: Any, intake: Intake, state: State) -> None:
        self._client = client
        self._intake = intake
        self._state = state
        self._sources: dict[int, str] = {}

    def watch(self, channels: list[str]) -> None:
        single = events.NewMessage(chats=channels, func=lambda event: event.message.grouped_id is None)
        self._client.add_event_handler(self._on_message, single)
        self._client.add_event_handler(self._on_album, events.Album(chats=channels))
        self._client.add_event_handler(self._on_edit, events.MessageEdited(chats=channels))
        self._client.add_event_handler(self._on_delete, events.MessageDeleted(chats=channels))

    async def _on_message(self, event: Any) -> None:
        await self._bring(await self._source(event), [event.message])

    async def _on_album(self, event: Any) -> None:
        await self._bring(await self._source(event), event.messages)

    async def _on_edit(self, event: Any) -> None:
        message = event.message
        messages = [message]
        if message.grouped_id is not None:
            near = range(max(1, message.id - ALBUM_PARTS + 1), message.id + ALBUM_PARTS)
            found = await self._client.get_messages(event.chat_id, ids=list(near))
            messages = [one for one in found if one is not None and one.grouped_id == message.grouped_id] or messages
        await self._bring(await self._source(event), messages)

    async def _on_delete(self, event: Any) -> None:
        source = await self._source(event)
        for message_id in event.deleted_ids:
            post_id = self._state.post_of(source, message_id)
            if post_id is None:
                continue
            others = self._state.forget(source, message_id)
            left = [one for one in await self._client.get_messages(event.chat_id, ids=others) if one is not None] if others else []
            if left:
                await self._bring(source, left)
            else:
                await self._intake.delete(post_id)

    async def _source(self, event: Any) -> str:
        """As the gateway's bot calls it: by the channel's name, or by its number."""
        if event.chat_id not in self._sources:
            username = getattr(await event.get_chat(), "username", None)
            self._sources[event.chat_id] = f"telegram:{(username or str(event.chat_id)).lower()}"
        return self._sources[event.chat_id]

    async def _bring(self, source: str, messages: list[Any]) -> None:
        messages = sorted(messages, key=lambda one: one.id)
        first = messages[0]
        media = [sha256 for one in messages if (sha256 := await self._stored(one)) is not None]
        post_id = await self._intake.bring(
            {
                "source": source,
                "external_id": str(first.id) if first.grouped_id is None else f"album:{first.grouped_id}",
                "text": "\n\n".join(one.message for one in messages if one.message),
                "published_at": first.date.isoformat(),
                "metadata": {"message_ids": [one.id for one in messages], "links": _links(messages)},
                "media": list(dict.fromkeys(media)),
            }
        )
        self._state.note(source, [one.id for one in messages], post_id)

    async def _stored(self, message: Any) -> str | None:
        """The picture of a message, stored; None: it has none that is wanted."""
        file = message.file
        if file is None or not (file.mime_type or "").startswith("image/") or (file.size or 0) > MAX_FILE_BYTES:
            return None
        return await self._intake.upload(await message.download_media(bytes), file.mime_type)


def _links(messages: list[Any]) -> list[str]:
    links: dict[str, None] = {}
    for message in messages:
        for entity, words in message.get_entities_text():
            url = getattr(entity, "url", None) or (words if type(entity).__name__ == "MessageEntityUrl" else None)
            if url is not None:
                links[url if "://" in url else f"https://{url}"] = None
    return [link for link in links if link.startswith(("http://", "https://"))][:50]


async def main(channels: list[str]) -> None:
    intake = Intake(os.environ["EVE_GATEWAY_URL"], os.environ["EVE_GATEWAY_SECRET"])
    state = State(Path(os.environ.get("EVE_INTAKE_STATE", "intake_state.json")))
    client = TelegramClient("eve_intake", int(os.environ["TELEGRAM_API_ID"]), os.environ["TELEGRAM_API_HASH"])
    Reader(client, intake, state).watch(channels)
    async with client:
        # What comes while it is away is caught up with.
        await client.catch_up()
        await client.run_until_disconnected()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Name the channels: python3 examples/telethon_intake.py city_events")
    asyncio.run(main(sys.argv[1:]))
