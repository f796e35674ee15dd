"""simonw's llm, with models of this gateway in its `extra-openai-models.yaml`."""

from __future__ import annotations

import asyncio
import base64
import os
import unittest
from pathlib import Path
from typing import Any

from client import BASE_URL, GEMMA, PNG, TOKEN, WORDS, WRONG_TOKEN, ClientTest
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, POST, faults

Path(os.environ["LLM_USER_PATH"], "extra-openai-models.yaml").write_text(
    f"""
- model_id: gemma
  model_name: {GEMMA}
  api_base: {BASE_URL}
  api_key_name: eve
  vision: true
  supports_schema: true
  supports_tools: true
""",
    encoding="utf-8",
)

import llm  # noqa: E402

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "date": {"type": "string"}},
    "required": ["title", "date"],
}


def find_events(date: str) -> str:
    """Looks up the events of a day."""
    return "Лекция"


def ask(prompt: str, key: str = TOKEN, **more: Any) -> str:
    return llm.get_model("gemma").prompt(prompt, key=key, **{"stream": False, **more}).text()


class Llm(ClientTest):
    def test_chats(self) -> None:
        self.assertEqual(ask("Reply with exactly: концерт", system="Be brief."), "концерт")

    def test_streams(self) -> None:
        pieces = list(llm.get_model("gemma").prompt(WORDS, key=TOKEN))
        self.assertEqual((len("".join(pieces).split(" ")), len(pieces) > 3), (60, True))

    def test_chats_without_blocking(self) -> None:
        async def answer() -> str:
            return await llm.get_async_model("gemma").prompt("Reply with exactly: концерт", key=TOKEN).text()

        self.assertEqual(asyncio.run(answer()), "концерт")

    def test_runs_a_chain_with_a_tool(self) -> None:
        chain = llm.get_model("gemma").chain(ASKS_FOR_EVENTS, key=TOKEN, tools=[find_events])
        self.assertIn("Лекция", chain.text())

    def test_gives_an_object_of_a_schema(self) -> None:
        self.assertIn("Бульвар", ask(POST, schema=SCHEMA))

    def test_sends_a_picture(self) -> None:
        ask("What is it?", attachments=[llm.Attachment(type="image/png", content=base64.b64decode(PNG))])
        self.assert_sent_picture()

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(Exception) as caught:
            ask("Hello", WRONG_TOKEN)
        self.refused_with(caught.exception)

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(Exception):
            ask("Write 200 words about a concert", stream=True)


if __name__ == "__main__":
    unittest.main()
