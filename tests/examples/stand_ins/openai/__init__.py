"""Stands in for OpenAI's Python client: one chat completion."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from wire import post


class OpenAI:
    def __init__(self, *, api_key: str, base_url: str) -> None:
        def create(**body: Any) -> SimpleNamespace:
            url = f"{base_url}/chat/completions"
            with post(url, {"Authorization": f"Bearer {api_key}"}, body) as response:
                return json.load(response, object_hook=lambda fields: SimpleNamespace(**fields))

        self.chat = SimpleNamespace(completions=SimpleNamespace(create=create))
