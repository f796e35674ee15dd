"""instructor over OpenAI's and over Google's package, with another base URL and key."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

import instructor
import openai
from client import BASE_URL, GATEWAY, GEMMA, TOKEN, WRONG_TOKEN, ClientTest
from gateway import POST
from google import genai
from pydantic import BaseModel


class Event(BaseModel):
    title: str
    date: str


def terms(**more: Any) -> Any:
    return {"model": GEMMA, "messages": [{"role": "user", "content": POST}], "response_model": Event, **more}


def client(mode: instructor.Mode, api_key: str = TOKEN) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key=api_key, max_retries=0), mode=mode)


class Instructor(ClientTest):
    def test_gives_an_object_by_a_tool(self) -> None:
        self.assertIn("Бульвар", client(instructor.Mode.TOOLS).create(**terms()).title)

    def test_gives_an_object_by_a_strict_tool(self) -> None:
        self.assertIn("Бульвар", client(instructor.Mode.TOOLS_STRICT).create(**terms()).title)

    def test_gives_an_object_by_a_schema(self) -> None:
        self.assertIn("Бульвар", client(instructor.Mode.JSON_SCHEMA).create(**terms()).title)

    def test_gives_an_object_piece_by_piece(self) -> None:
        *_, last = client(instructor.Mode.TOOLS).create_partial(**terms())
        self.assertIn("Бульвар", last.title)

    def test_gives_an_object_without_blocking(self) -> None:
        one = instructor.from_openai(openai.AsyncOpenAI(base_url=BASE_URL, api_key=TOKEN, max_retries=0))
        self.assertIn("Бульвар", asyncio.run(one.create(**terms())).title)

    def test_gives_an_object_over_googles_package(self) -> None:
        one = genai.Client(api_key=TOKEN, http_options={"base_url": GATEWAY})
        by_schema = instructor.from_genai(one, mode=instructor.Mode.GENAI_STRUCTURED_OUTPUTS)
        self.assertIn("Бульвар", by_schema.create(**terms()).title)

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(Exception) as caught:
            client(instructor.Mode.TOOLS, WRONG_TOKEN).create(**terms(max_retries=1))
        self.refused_with(str(caught.exception.__cause__ or caught.exception))


if __name__ == "__main__":
    unittest.main()
