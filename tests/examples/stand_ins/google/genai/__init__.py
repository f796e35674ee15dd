"""Stands in for google-genai: what it sends, and how it reads a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wire import Chunk, post


class Client:
    def __init__(self, *, api_key: str, http_options: dict[str, str]) -> None:
        self.models = _Models(api_key, http_options["base_url"])


class _Models:
    def __init__(self, key: str, base_url: str) -> None:
        self._key, self._base_url = key, base_url

    def _post(self, model: str, method: str, contents: str) -> Any:
        return post(
            f"{self._base_url}/v1beta/models/{model}:{method}",
            {"x-goog-api-key": self._key},
            {"contents": [{"parts": [{"text": contents}], "role": "user"}]},
        )

    def generate_content(self, *, model: str, contents: str) -> Chunk:
        with self._post(model, "generateContent", contents) as response:
            return Chunk(json.load(response))

    def generate_content_stream(self, *, model: str, contents: str) -> Iterator[Chunk]:
        with self._post(model, "streamGenerateContent?alt=sse", contents) as response:
            for line in response:
                if line.strip():
                    yield Chunk(json.loads(line.removeprefix(b"data:")))
