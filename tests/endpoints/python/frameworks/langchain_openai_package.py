"""langchain-openai, with another base URL and key."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

import openai
from client import BASE_URL, EMBEDDING, GEMMA, PNG, SIGNING, TOKEN, WORDS, WRONG_TOKEN, ClientTest
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, POST, faults
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Event(BaseModel):
    title: str
    date: str


@tool
def find_events(date: str) -> str:
    """Looks up the events of a day."""
    return "Лекция"


def chat(model: str = GEMMA, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": model, "base_url": BASE_URL, "api_key": TOKEN, "max_retries": 0, **more})


class LangchainOpenai(ClientTest):
    def test_chats(self) -> None:
        answer = chat().invoke("Reply with exactly: концерт")
        self.assertEqual(answer.content, "концерт")
        self.assertGreater(answer.usage_metadata["total_tokens"], 0)

    def test_streams(self) -> None:
        pieces = list(chat(stream_usage=True).stream(WORDS))
        self.assertEqual(len("".join(piece.text for piece in pieces).split(" ")), 60)
        self.assertGreater(len(pieces), 3)

    def test_chats_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str, str]:
            answer = await chat().ainvoke("Reply with exactly: концерт")
            return answer.content, "".join([piece.text async for piece in chat().astream("Reply with exactly: парк")])

        self.assertEqual(asyncio.run(both()), ("концерт", "парк"))

    def test_calls_a_tool_in_two_turns(self) -> None:
        for model in (GEMMA, SIGNING):
            bound = chat(model).bind_tools([find_events])
            messages: list[Any] = [HumanMessage(ASKS_FOR_EVENTS)]
            first = bound.invoke(messages)
            self.assertEqual([call["args"] for call in first.tool_calls], [{"date": "2027-05-05"}])
            messages += [first, find_events.invoke(first.tool_calls[0])]
            self.assertIn("Лекция", bound.invoke(messages).text)

    def test_gives_an_object_of_a_schema(self) -> None:
        for method in ("json_schema", "function_calling"):
            event = chat().with_structured_output(Event, method=method).invoke(POST)
            self.assertIn("Бульвар", event.title)

    def test_sends_a_picture(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        chat().invoke([HumanMessage([{"type": "text", "text": "What is it?"}, picture])])
        self.assert_sent_picture()

    def test_uses_the_responses_api(self) -> None:
        self.assertEqual(chat(use_responses_api=True).invoke("Reply with exactly: концерт").text, "концерт")

    def test_embeds(self) -> None:
        # Token numbers of OpenAI's vocabulary mean nothing to other models: texts are sent as they are.
        embeddings = OpenAIEmbeddings(
            model=EMBEDDING, base_url=BASE_URL, api_key=TOKEN, dimensions=128, check_embedding_ctx_length=False
        )
        self.assertEqual([len(one) for one in embeddings.embed_documents(["концерт", "лекция"])], [128, 128])

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(openai.AuthenticationError) as caught:
            chat(api_key=WRONG_TOKEN).invoke("Hello")
        self.refused_with(caught.exception.message)

    def test_is_refused_log_probabilities(self) -> None:
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(logprobs=True).invoke("Hello")
        self.refused_with(caught.exception.message)

    def test_tries_again_after_an_overload(self) -> None:
        faults({"kind": "status", "error": "overloaded", "times": 3})
        self.assertEqual(chat(max_retries=3).invoke("Reply with exactly: yes").content, "yes")

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(openai.APIError):
            list(chat().stream("Write 200 words about a concert"))


if __name__ == "__main__":
    unittest.main()
