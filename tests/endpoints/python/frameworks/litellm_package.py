"""litellm as a client, with another `api_base` and key: as OpenAI's API and as Gemini's."""

from __future__ import annotations

import asyncio
import json
import unittest
from typing import Any

from client import BASE_URL, EMBEDDING, GEMMA, PNG, SIGNING, TOKEN, WORDS, WRONG_TOKEN, ClientTest
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, POST, faults
from pydantic import BaseModel

import litellm

litellm.telemetry = False
litellm.suppress_debug_info = True

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "find_events",
            "description": "Looks up the events of a day",
            "parameters": {"type": "object", "properties": {"date": {"type": "string"}}, "required": ["date"]},
        },
    }
]


class Event(BaseModel):
    title: str
    date: str


def terms(content: Any, model: str = GEMMA, **more: Any) -> Any:
    messages = content if isinstance(content, list) and "role" in content[0] else [{"role": "user", "content": content}]
    return {
        "model": f"openai/{model}", "api_base": BASE_URL, "api_key": TOKEN, "num_retries": 0, "max_retries": 0,
        "messages": messages, **more,
    }


class Litellm(ClientTest):
    def test_chats(self) -> None:
        answer = litellm.completion(**terms("Reply with exactly: концерт"))
        self.assertEqual(answer.choices[0].message.content, "концерт")
        self.assertGreater(answer.usage.total_tokens, 0)

    def test_streams(self) -> None:
        chunks = list(litellm.completion(**terms(WORDS, stream=True)))
        self.assertEqual(len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split(" ")), 60)

    def test_chats_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str, str]:
            answer = await litellm.acompletion(**terms("Reply with exactly: концерт"))
            stream = await litellm.acompletion(**terms("Reply with exactly: парк", stream=True))
            return answer.choices[0].message.content, "".join([c.choices[0].delta.content or "" async for c in stream])

        self.assertEqual(asyncio.run(both()), ("концерт", "парк"))

    def test_calls_a_tool_in_two_turns(self) -> None:
        for model in (GEMMA, SIGNING):
            messages: list[Any] = [{"role": "user", "content": ASKS_FOR_EVENTS}]
            message = litellm.completion(**terms(messages, model, tools=TOOLS)).choices[0].message
            (call,) = message.tool_calls
            self.assertEqual(json.loads(call.function.arguments), {"date": "2027-05-05"})
            messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Лекция"}]
            second = litellm.completion(**terms(messages, model, tools=TOOLS))
            self.assertIn("Лекция", second.choices[0].message.content)

    def test_gives_an_object_of_a_schema(self) -> None:
        answer = litellm.completion(**terms(POST, response_format=Event))
        self.assertIn("Бульвар", Event.model_validate_json(answer.choices[0].message.content).title)

    def test_sends_a_picture(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        litellm.completion(**terms([{"type": "text", "text": "What is it?"}, picture]))
        self.assert_sent_picture()

    def test_embeds(self) -> None:
        answer = litellm.embedding(
            model=f"openai/{EMBEDDING}", input=["концерт", "лекция"], api_base=BASE_URL, api_key=TOKEN
        )
        self.assertEqual(len(answer.data), 2)

    def test_uses_the_responses_api(self) -> None:
        answer = litellm.responses(
            model=f"openai/{GEMMA}", input="Reply with exactly: концерт", api_base=BASE_URL, api_key=TOKEN
        )
        self.assertEqual(answer.output[0].content[0].text, "концерт")

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(litellm.AuthenticationError) as caught:
            litellm.completion(**terms("Hello", api_key=WRONG_TOKEN))
        self.refused_with(caught.exception.message)

    def test_tries_again_after_an_overload(self) -> None:
        faults({"kind": "status", "error": "overloaded", "times": 3})
        answer = litellm.completion(**terms("Reply with exactly: yes", num_retries=3))
        self.assertEqual(answer.choices[0].message.content, "yes")

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(Exception):
            list(litellm.completion(**terms("Write 200 words about a concert", stream=True)))


if __name__ == "__main__":
    unittest.main()
