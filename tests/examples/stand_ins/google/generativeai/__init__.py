"""Stands in for google-generativeai with transport="rest": what it sends, and how it reads a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wire import Chunk, post

#: The REST transport asks for enums as numbers, in a query field of this name.
QUERY = "%24alt=json%3Benum-encoding%3Dint"
_configured: dict[str, Any] = {}


def configure(*, api_key: str, transport: str, client_options: dict[str, str]) -> None:
    if transport != "rest":
        raise ValueError("only REST gets through to an Edge Function")
    _configured.update(key=api_key, endpoint=client_options["api_endpoint"])


class GenerativeModel:
    def __init__(self, name: str) -> None:
        self._path = f"v1beta/models/{name}"

    def generate_content(self, prompt: str, stream: bool = False) -> Any:
        method = "streamGenerateContent" if stream else "generateContent"
        response = post(
            f"{_configured['endpoint']}/{self._path}:{method}?{QUERY}",
            {"x-goog-api-key": _configured["key"], "x-goog-request-params": f"model={self._path}"},
            {"contents": [{"parts": [{"text": prompt}], "role": "user"}]},
        )
        with response:
            payload = json.load(response)
        return self._chunks(payload) if stream else self._checked(payload)

    def _chunks(self, payload: Any) -> Iterator[Chunk]:
        if not isinstance(payload, list):
            raise ValueError("can only parse array of JSON objects")
        yield from (self._checked(one) for one in payload)

    @staticmethod
    def _checked(payload: dict[str, Any]) -> Chunk:
        reason = payload["candidates"][0].get("finishReason", 0)
        if not isinstance(reason, int):
            raise ValueError(f"an enum is no number: {reason}")
        return Chunk(payload)
