"""What the tests of Python's packages share: where the stack is, and what its emulator is told and was sent."""

from __future__ import annotations

import json
import os
import re
import unittest
import urllib.request
from typing import Any

#: What clients take as their base URL, without a version.
GATEWAY = os.environ["EVE_GATEWAY_URL"] + "/functions/v1/llm-invoke"
#: The same, where the clock goes on after the first answer: see `busy_for_a_second`.
STOPPED_GATEWAY = os.environ["EVE_FRONT_URL"] + "/functions/v1/llm-invoke"
TOKEN = os.environ["EVE_TOKEN"]
#: Right in its form, and nobody's.
WRONG_TOKEN = TOKEN[:-8] + "00000000"
GEMMA = "gemma-4-31b-it"
#: Its thoughts stay hidden.
QUIET = "gemini-3.5-flash-lite"
EMBEDDING = "gemini-embedding-001"

POST = "Концерт группы «Бульвар» 12 июля 2026 в 20:00, бар «Форма». Вход 500 ₽"
ASKS_FOR_EVENTS = "Use find_events for 5 мая 2027 года"

#: Both quota projects say that their minute is used up, and a second later they no longer do.
BUSY_FOR_A_SECOND = {"kind": "status", "error": "quota_minute_requests", "retryMs": 1000, "times": 2}
BROKEN_OFF = {"kind": "mid_stream_error", "afterChunks": 2, "error": "overloaded"}


def control(path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{os.environ['EVE_EMULATOR_URL']}/__control/{path}", data, timeout=30) as response:
        return json.load(response)


def faults(*specs: dict[str, Any]) -> None:
    control("faults", list(specs))


def busy_for_a_second() -> None:
    """So for the next call by way of STOPPED_GATEWAY: until it is answered, the second does not pass."""
    urllib.request.urlopen(os.environ["EVE_FRONT_URL"] + "/stop", timeout=30).close()
    faults(BUSY_FOR_A_SECOND)


def calls() -> int:
    """How many requests have reached the emulator since the test began."""
    return control("stats")["received"]["total"]


class PackageTest(unittest.TestCase):
    """Each test is a line of docs/compatibility.md, in the words of its name."""

    def setUp(self) -> None:
        control("reset", {})

    def refused_with(self, error: BaseException | str) -> None:
        """Notes how a client was refused: docs/compatibility.md has it, word by word."""
        said = str(error)
        message = re.search(r"""'message': (?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")""", said)
        note = {
            "file": type(self).__module__,
            "test": self._testMethodName,
            # Neither addresses nor ids: they are others each time.
            "said": (message[1] or message[2]) if message else re.sub(r"https?://\S+: | \[\{'@type'.*", "", said),
        }
        with open(os.environ["EVE_REFUSALS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(note, ensure_ascii=False) + "\n")
