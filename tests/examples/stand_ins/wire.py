"""One POST with a key in a header, for the stand-ins of this folder."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

TIMEOUT_S = 60


def post(url: str, headers: dict[str, str], body: dict[str, Any]) -> Any:
    return urllib.request.urlopen(
        urllib.request.Request(
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json", **headers}
        ),
        timeout=TIMEOUT_S,
    )


class Chunk:
    """A Gemini answer, or a part of one."""

    def __init__(self, payload: dict[str, Any]) -> None:
        parts = payload["candidates"][0].get("content", {}).get("parts", [])
        self.text = "".join(part.get("text", "") for part in parts if not part.get("thought"))
