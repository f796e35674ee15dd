"""What examples/telethon_intake.py uses of Telethon: a client that sees what a file says, and then ends."""

import base64
import datetime
import json
import os
import types

from . import events


class MessageEntityUrl:
    pass


class MessageEntityTextUrl:
    def __init__(self, url):
        self.url = url


class Message:
    def __init__(self, said):
        self.id = said["id"]
        self.grouped_id = said.get("grouped_id")
        self.message = said.get("text", "")
        self.date = datetime.datetime.fromtimestamp(1_790_000_000 + self.id, datetime.timezone.utc)
        self._photo = base64.b64decode(said["photo"]) if "photo" in said else None
        self._links = said.get("links", [])
        size = said.get("size", len(self._photo or b""))
        self.file = None if self._photo is None else types.SimpleNamespace(mime_type=said.get("mime_type", "image/jpeg"), size=size)

    async def download_media(self, kind):
        assert kind is bytes
        return self._photo

    def get_entities_text(self):
        return [(MessageEntityTextUrl(link["url"]), link["text"]) if "url" in link else (MessageEntityUrl(), link["text"]) for link in self._links]


class TelegramClient:
    def __init__(self, session, api_id, api_hash):
        assert isinstance(api_id, int) and isinstance(api_hash, str)
        self._handlers = []
        self._there = {}

    def add_event_handler(self, callback, event):
        self._handlers.append((callback, event))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def catch_up(self):
        pass

    async def get_messages(self, chat_id, ids):
        return [self._there.get(each) for each in ids]

    async def run_until_disconnected(self):
        with open(os.environ["FAKE_TELETHON_EVENTS"]) as file:
            seen = json.load(file)
        for one in seen:
            messages = [Message(each) for each in one.get("messages", [])]
            self._there.update({message.id: message for message in messages})
            for each in one.get("deleted", []):
                self._there.pop(each, None)
            event = types.SimpleNamespace(
                chat_id=one["chat_id"],
                message=messages[0] if messages else None,
                messages=messages,
                deleted_ids=one.get("deleted", []),
            )

            async def get_chat(username=one.get("username")):
                return types.SimpleNamespace(username=username)

            event.get_chat = get_chat
            for callback, wanted in self._handlers:
                if type(wanted).__name__ == one["kind"] and (wanted.func is None or wanted.func(event)):
                    await callback(event)
