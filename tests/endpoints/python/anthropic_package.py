"""Anthropic's own package for Python, with another base URL and key."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

import anthropic
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, GATEWAY, GEMMA, POST, STOPPED_GATEWAY, TOKEN, WRONG_TOKEN
from gateway import PackageTest, busy_for_a_second, calls, faults
from pydantic import BaseModel

BASE_URL = f"{GATEWAY}/anthropic"
SIGNING = "gemini-3.5-flash"
TOOLS: Any = [
    {
        "name": "find_events",
        "description": "Looks up the events of a day",
        "input_schema": {"type": "object", "properties": {"date": {"type": "string"}}, "required": ["date"]},
    }
]


class Event(BaseModel):
    title: str
    date: str


def client(api_key: str = TOKEN, max_retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=api_key, base_url=BASE_URL, max_retries=max_retries)


def says(text: str, max_tokens: int = 1000) -> Any:
    return {"model": GEMMA, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


class AnthropicPackage(PackageTest):
    def test_chats(self) -> None:
        answer = client().messages.create(**says("Reply with exactly: концерт"), system="Be brief.")
        self.assertEqual((text_of(answer), answer.stop_reason), ("концерт", "end_turn"))
        self.assertGreater(answer.usage.input_tokens, 0)

    def test_streams_with_the_helper(self) -> None:
        with client().messages.stream(**says("Write 60 words about a concert")) as stream:
            pieces = list(stream.text_stream)
            message = stream.get_final_message()
        self.assertGreater(len(pieces), 3)
        self.assertEqual(len("".join(pieces).split(" ")), 60)
        self.assertEqual(text_of(message), "".join(pieces))
        self.assertGreater(message.usage.output_tokens, 10)

    def test_chats_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str, str]:
            async with anthropic.AsyncAnthropic(api_key=TOKEN, base_url=BASE_URL, max_retries=0) as one:

                async def streamed() -> str:
                    async with one.messages.stream(**says("Reply with exactly: фестиваль в парке")) as stream:
                        return await stream.get_final_text()

                answer, text = await asyncio.gather(
                    one.messages.create(**says("Reply with exactly: концерт")), streamed()
                )
                return text_of(answer), text

        self.assertEqual(asyncio.run(both()), ("концерт", "фестиваль в парке"))

    def test_calls_a_tool_in_two_turns_with_thoughts(self) -> None:
        messages: list[Any] = [{"role": "user", "content": ASKS_FOR_EVENTS}]
        asked: Any = {"model": SIGNING, "max_tokens": 4000, "tools": TOOLS, "thinking": {"type": "adaptive"}}
        first = client().messages.create(**asked, messages=messages)
        self.assertEqual([block.type for block in first.content], ["thinking", "tool_use"])
        call = first.content[1]
        self.assertEqual(call.input, {"date": "2027-05-05"})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "Лекция"}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = client().messages.create(**asked, messages=messages)
        self.assertIn("Лекция", text_of(second))

    def test_runs_its_own_loop_of_tools(self) -> None:
        @anthropic.beta_tool
        def find_events(date: str) -> str:
            """Looks up the events of a day.

            Args:
                date: The day.
            """
            return f"Лекция {date}"

        runner = client().beta.messages.tool_runner(**says(ASKS_FOR_EVENTS), tools=[find_events])
        self.assertIn("Лекция 2027-05-05", text_of(runner.until_done()))

    def test_parses_an_object_of_a_schema(self) -> None:
        answer = client().messages.parse(**says(POST, 2000), output_format=Event)
        self.assertIn("Бульвар", answer.parsed_output.title)
        self.assertIn("2026-07-12", answer.parsed_output.date)

    def test_counts_tokens_and_lists_models(self) -> None:
        count = client().messages.count_tokens(model=GEMMA, messages=[{"role": "user", "content": POST}])
        self.assertGreater(count.input_tokens, 10)
        self.assertIn(GEMMA, [model.id for model in client().models.list(limit=1)])
        self.assertEqual(client().models.retrieve(GEMMA).id, GEMMA)

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(anthropic.AuthenticationError) as caught:
            client(WRONG_TOKEN, max_retries=2).messages.create(**says("Hello"))
        self.refused_with(caught.exception)
        self.assertEqual(caught.exception.body["error"]["type"], "authentication_error")

    def test_knows_that_upstream_is_overloaded(self) -> None:
        faults({"kind": "status", "error": "overloaded", "times": 9})
        with self.assertRaises(anthropic.APIStatusError) as caught:
            client().messages.create(**says("Hello"))
        self.assertEqual(caught.exception.status_code, 529)

    def test_comes_back_after_a_429(self) -> None:
        busy_for_a_second()
        one = anthropic.Anthropic(
            api_key=TOKEN,
            base_url=f"{STOPPED_GATEWAY}/anthropic",
            max_retries=2,
            default_headers={"x-eve-mode": "no_wait"},
        )
        self.assertEqual(text_of(one.messages.create(**says("Reply with exactly: yes"))), "yes")
        self.assertGreater(calls(), 1)

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(anthropic.APIError):
            with client().messages.stream(**says("Write 200 words about a concert")) as stream:
                stream.get_final_message()


if __name__ == "__main__":
    unittest.main()
