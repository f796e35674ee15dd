"""OpenAI's own package for Python, with another base URL and key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import unittest
from typing import Any

import openai
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, EMBEDDING, GATEWAY, GEMMA, POST, STOPPED_GATEWAY, TOKEN, WRONG_TOKEN
from gateway import PackageTest, busy_for_a_second, calls, faults
from pydantic import BaseModel

BASE_URL = f"{GATEWAY}/openai/v1"
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


def client(api_key: str = TOKEN, max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=BASE_URL, max_retries=max_retries)


def hasty(max_retries: int) -> openai.OpenAI:
    """A client that does not let the gateway wait."""
    headers = {"x-eve-mode": "no_wait"}
    base_url = f"{STOPPED_GATEWAY}/openai/v1"
    return openai.OpenAI(api_key=TOKEN, base_url=base_url, max_retries=max_retries, default_headers=headers)


def says(text: str) -> Any:
    return {"model": GEMMA, "messages": [{"role": "user", "content": text}]}


class OpenaiPackage(PackageTest):
    def test_chats(self) -> None:
        answer = client().chat.completions.create(**says("Reply with exactly: концерт"))
        self.assertEqual(answer.choices[0].message.content, "концерт")
        self.assertGreater(answer.usage.total_tokens, 0)

    def test_streams_with_the_usage_at_the_end(self) -> None:
        stream = client().chat.completions.create(
            **says("Write 60 words about a concert"), stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        self.assertEqual(len("".join(pieces).split(" ")), 60)
        self.assertGreater(len([piece for piece in pieces if piece]), 3)
        self.assertGreater(chunks[-1].usage.prompt_tokens, 0)

    def test_chats_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str, str]:
            async with openai.AsyncOpenAI(api_key=TOKEN, base_url=BASE_URL, max_retries=0) as one:
                answer, stream = await asyncio.gather(
                    one.chat.completions.create(**says("Reply with exactly: концерт")),
                    one.chat.completions.create(**says("Reply with exactly: фестиваль в парке"), stream=True),
                )
                pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
                return answer.choices[0].message.content or "", "".join(pieces)

        self.assertEqual(asyncio.run(both()), ("концерт", "фестиваль в парке"))

    def test_calls_a_tool_in_two_turns(self) -> None:
        messages: list[Any] = [{"role": "user", "content": ASKS_FOR_EVENTS}]
        first = client().chat.completions.create(model=GEMMA, messages=messages, tools=TOOLS)
        message = first.choices[0].message
        self.assertEqual(first.choices[0].finish_reason, "tool_calls")
        self.assertIsNone(message.content)
        (call,) = message.tool_calls
        self.assertEqual(json.loads(call.function.arguments), {"date": "2027-05-05"})
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Лекция"}]
        second = client().chat.completions.create(model=GEMMA, messages=messages, tools=TOOLS)
        self.assertIn("Лекция", second.choices[0].message.content)

    def test_puts_a_streamed_tool_call_together(self) -> None:
        with client().chat.completions.stream(**says(ASKS_FOR_EVENTS), tools=TOOLS) as stream:
            deltas = [event.chunk.choices[0].delta for event in stream if event.type == "chunk" and event.chunk.choices]
            message = stream.get_final_completion().choices[0].message
        self.assertEqual([call.function.name for call in message.tool_calls], ["find_events"])
        first = next(delta for delta in deltas if delta.tool_calls)
        self.assertIn("content", first.model_fields_set)
        self.assertIsNone(first.content)

    def test_parses_an_object_of_a_schema(self) -> None:
        answer = client().chat.completions.parse(**says(POST), response_format=Event)
        event = answer.choices[0].message.parsed
        self.assertIn("Бульвар", event.title)
        self.assertIn("2026-07-12", event.date)

    def test_uses_the_responses_api(self) -> None:
        answer = client().responses.create(model=GEMMA, input="Reply with exactly: концерт")
        self.assertEqual(answer.output_text, "концерт")
        with client().responses.stream(model=GEMMA, input="Reply with exactly: фестиваль") as stream:
            self.assertEqual(stream.get_final_response().output_text, "фестиваль")

    def test_makes_a_response_in_the_background(self) -> None:
        answer = client().responses.create(model=GEMMA, input="Reply with exactly: концерт", background=True)
        self.assertEqual((answer.status, answer.background, answer.output_text), ("queued", True, ""))
        self.addCleanup(client().responses.delete, answer.id)
        while answer.status in ("queued", "in_progress"):
            time.sleep(0.2)
            answer = client().responses.retrieve(answer.id)
        self.assertEqual((answer.status, answer.output_text), ("completed", "концерт"))

    def test_sends_a_file_in_parts(self) -> None:
        content = "концерт".encode()
        upload = client().uploads.upload_file_chunked(
            file=content,
            filename="lines.jsonl",
            bytes=len(content),
            mime_type="application/jsonl",
            purpose="batch",
            part_size=3,
            md5=hashlib.md5(content).hexdigest(),
        )
        self.addCleanup(client().files.delete, upload.file.id)
        self.assertEqual(client().files.content(upload.file.id).content, content)

    def test_runs_a_batch_of_a_file(self) -> None:
        lines = "\n".join(
            json.dumps({"custom_id": word, "method": "POST", "url": "/v1/chat/completions", "body": says(f"Reply with exactly: {word}")})
            for word in ("да", "нет")
        )
        file = client().files.create(file=("lines.jsonl", lines.encode()), purpose="batch")
        batch = client().batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "a test"}
        )
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            time.sleep(0.2)
            batch = client().batches.retrieve(batch.id)
        self.assertEqual((batch.status, batch.request_counts.completed, batch.metadata), ("completed", 2, {"of": "a test"}))
        answers = [json.loads(line) for line in client().files.content(batch.output_file_id).text.splitlines()]
        texts = [(one["custom_id"], one["response"]["body"]["choices"][0]["message"]["content"]) for one in answers]
        self.assertEqual(texts, [("да", "да"), ("нет", "нет")])
        self.assertIn(batch.id, [one.id for one in client().batches.list()])
        with self.assertRaises(openai.ConflictError):
            client().batches.cancel(batch.id)
        client().files.delete(file.id)

    def test_embeds(self) -> None:
        # Unless told otherwise the package asks for base64, and decodes it.
        one, two = client().embeddings.create(model=EMBEDDING, input=["концерт", "лекция"], dimensions=128).data
        self.assertEqual((len(one.embedding), len(two.embedding)), (128, 128))

    def test_lists_models(self) -> None:
        self.assertIn(GEMMA, [model.id for model in client().models.list()])
        self.assertEqual(client().models.retrieve(GEMMA).id, GEMMA)

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(openai.AuthenticationError) as caught:
            client(WRONG_TOKEN, max_retries=2).chat.completions.create(**says("Hello"))
        self.refused_with(caught.exception)
        self.assertEqual(caught.exception.code, "invalid_api_key")
        self.assertTrue(caught.exception.request_id)

    def test_is_told_what_is_not_supported(self) -> None:
        with self.assertRaises(openai.BadRequestError) as caught:
            client().chat.completions.create(**says("Hello"), logprobs=True)
        self.refused_with(caught.exception)
        self.assertEqual((caught.exception.param, calls()), ("logprobs", 0))
        with self.assertRaises(openai.NotFoundError):
            client().files.delete("file-1")

    def test_comes_back_after_a_429(self) -> None:
        busy_for_a_second()
        answer = hasty(max_retries=4).chat.completions.with_raw_response.create(**says("Reply with exactly: yes"))
        self.assertGreater(answer.retries_taken, 0)
        self.assertEqual(answer.parse().choices[0].message.content, "yes")

    def test_gives_up_after_a_429_without_retries(self) -> None:
        busy_for_a_second()
        with self.assertRaises(openai.RateLimitError) as caught:
            hasty(max_retries=0).chat.completions.create(**says("Hello"))
        self.assertIn("retry-after", caught.exception.response.headers)

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        stream = client().chat.completions.create(**says("Write 200 words about a concert"), stream=True)
        with self.assertRaises(openai.APIError):
            list(stream)


if __name__ == "__main__":
    unittest.main()
