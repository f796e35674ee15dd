"""google-generativeai, Google's package before, which notebooks import; by `transport="rest"`."""

from __future__ import annotations

import asyncio
import json
import unittest
import warnings
from typing import Any

from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, BUSY_FOR_A_SECOND, EMBEDDING, GATEWAY, GEMMA, POST, QUIET, TOKEN
from gateway import STOPPED_GATEWAY, WRONG_TOKEN, PackageTest, busy_for_a_second, calls, faults

with warnings.catch_warnings():
    # It says that it is not maintained any more.
    warnings.simplefilter("ignore")
    import google.generativeai as genai
from google.api_core import exceptions
from typing_extensions import TypedDict

PROMPT = "Извлеки событие из объявления и верни JSON с полями title, date.\n\n" + POST


class Event(TypedDict):
    title: str
    date: str


def configure(
    api_key: str = TOKEN, transport: str | None = "rest", endpoint: str = GATEWAY, **more: Any
) -> None:
    genai.configure(api_key=api_key, transport=transport, client_options={"api_endpoint": endpoint}, **more)


def find_events(date: str) -> str:
    """Looks up the events of a day."""
    return f"Лекция ({date})"


class GoogleGenerativeaiPackage(PackageTest):
    def setUp(self) -> None:
        super().setUp()
        configure()

    def test_generates_without_the_thoughts_that_it_would_take_for_text(self) -> None:
        answer = genai.GenerativeModel(GEMMA).generate_content("Reply with exactly: концерт")
        self.assertEqual(answer.text, "концерт")
        self.assertGreater(answer.usage_metadata.total_token_count, 0)

    def test_streams(self) -> None:
        stream = genai.GenerativeModel(QUIET).generate_content("Write 60 words about a concert", stream=True)
        pieces = [chunk.text for chunk in stream if chunk.parts]
        self.assertGreater(len(pieces), 3)
        self.assertEqual(len("".join(pieces).split(" ")), 60)

    def test_chats_with_a_system_instruction(self) -> None:
        chat = genai.GenerativeModel(GEMMA, system_instruction="Be brief.").start_chat()
        chat.send_message("Say concert")
        self.assertIn("Turn of the conversation: 2", chat.send_message("And what did I say first?").text)

    def test_gets_json_of_a_schema(self) -> None:
        model = genai.GenerativeModel(
            GEMMA, generation_config={"response_mime_type": "application/json", "response_schema": Event, "temperature": 0}
        )
        event = json.loads(model.generate_content(PROMPT).text)
        self.assertIn("Бульвар", event["title"])
        self.assertIn("2026-07-12", event["date"])

    def test_runs_a_function_by_itself(self) -> None:
        model = genai.GenerativeModel(GEMMA, tools=[find_events])
        chat = model.start_chat(enable_automatic_function_calling=True)
        self.assertIn("Лекция", chat.send_message(ASKS_FOR_EVENTS).text)
        self.assertEqual(calls(), 2)

    def test_embeds_counts_and_lists(self) -> None:
        embedded = genai.embed_content(f"models/{EMBEDDING}", "концерт", output_dimensionality=128)
        self.assertEqual(len(embedded["embedding"]), 128)
        self.assertGreater(genai.GenerativeModel(GEMMA).count_tokens("Концерт в парке").total_tokens, 2)
        self.assertIn(f"models/{GEMMA}", [model.name for model in genai.list_models()])

    def test_an_async_call_by_rest_is_made_and_then_lost(self) -> None:
        async def parse() -> Any:
            return await genai.GenerativeModel(GEMMA).generate_content_async(PROMPT)

        with self.assertRaisesRegex(TypeError, "GenerateContentResponse can't be used in 'await' expression"):
            asyncio.run(parse())
        self.assertEqual(calls(), 1)

    def test_a_thread_takes_the_place_of_an_async_call(self) -> None:
        async def parse(post: str) -> str:
            model = genai.GenerativeModel(GEMMA)
            return (await asyncio.to_thread(model.generate_content, post)).text

        async def several() -> list[str]:
            return await asyncio.gather(*(parse(f"Reply with exactly: концерт {number}") for number in range(3)))

        self.assertEqual(asyncio.run(several()), ["концерт 0", "концерт 1", "концерт 2"])

    def test_grpc_finds_no_such_host(self) -> None:
        # By itself it would try again for ten minutes.
        once = {"timeout": 5, "retry": None}

        async def parse() -> Any:
            return await genai.GenerativeModel(GEMMA).generate_content_async("Hello", request_options=once)

        configure(transport=None)
        with self.assertRaisesRegex(exceptions.ServiceUnavailable, "Misformatted domain name"):
            genai.GenerativeModel(GEMMA).generate_content("Hello", request_options=once)
        with self.assertRaisesRegex(exceptions.ServiceUnavailable, "Misformatted domain name"):
            asyncio.run(parse())
        self.assertEqual(calls(), 0)

    def test_is_refused_for_a_wrong_key(self) -> None:
        configure(WRONG_TOKEN)
        with self.assertRaises(exceptions.Unauthorized) as caught:
            genai.GenerativeModel(GEMMA).generate_content("Hello")
        self.refused_with(caught.exception)
        self.assertEqual(caught.exception.details[0]["reason"], "API_KEY_INVALID")

    def test_is_told_what_the_model_finds_wrong(self) -> None:
        with self.assertRaises(exceptions.BadRequest) as caught:
            genai.GenerativeModel(GEMMA).generate_content("Hello", generation_config={"temperature": 99})
        self.refused_with(caught.exception)
        self.assertIn("temperature", caught.exception.message)

    def test_meets_a_429_with_the_time_to_come_back(self) -> None:
        configure(endpoint=STOPPED_GATEWAY, default_metadata=[("x-eve-mode", "no_wait")])
        busy_for_a_second()
        with self.assertRaises(exceptions.TooManyRequests) as caught:
            genai.GenerativeModel(GEMMA).generate_content("Hello")
        kinds = [detail["@type"].rpartition(".")[2] for detail in caught.exception.details]
        self.assertIn("RetryInfo", kinds)

    def test_waits_for_a_place_unless_told_otherwise(self) -> None:
        faults(BUSY_FOR_A_SECOND)
        self.assertEqual(genai.GenerativeModel(GEMMA).generate_content("Reply with exactly: yes").text, "yes")

    def test_a_stream_that_breaks_off_is_an_error(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaisesRegex(ValueError, "Unfinished stream: .*overloaded"):
            list(genai.GenerativeModel(QUIET).generate_content("Write 200 words about a concert", stream=True))


if __name__ == "__main__":
    unittest.main()
