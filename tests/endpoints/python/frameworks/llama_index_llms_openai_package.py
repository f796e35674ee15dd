"""llama-index-llms-openai, with another base URL and key: OpenAILike is another package, so the model's size is said here."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any

import openai
from client import BASE_URL, GEMMA, PNG, TOKEN, WORDS, WRONG_TOKEN, ClientTest
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, POST, faults
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, LLMMetadata, MessageRole, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel


class Event(BaseModel):
    title: str
    date: str


def find_events(date: str) -> str:
    """Looks up the events of a day."""
    return "Лекция"


class Gemma(OpenAI):
    """The package knows OpenAI's models alone, and looks their size up by name."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=131_072, num_output=8_192, is_chat_model=True, is_function_calling_model=True, model_name=self.model
        )


def llm(**more: Any) -> Gemma:
    return Gemma(**{"model": GEMMA, "api_base": BASE_URL, "api_key": TOKEN, "max_retries": 0, **more})


class LlamaIndex(ClientTest):
    def test_chats(self) -> None:
        self.assertEqual(llm().complete("Reply with exactly: концерт").text, "концерт")
        answer = llm().chat([ChatMessage(role="system", content="Be brief."), ChatMessage("Reply with exactly: парк")])
        self.assertEqual(answer.message.content, "парк")

    def test_streams(self) -> None:
        pieces = [piece.delta for piece in llm().stream_chat([ChatMessage(WORDS)])]
        self.assertEqual(len("".join(piece or "" for piece in pieces).split(" ")), 60)

    def test_chats_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str, str]:
            one = llm()
            answer = await one.acomplete("Reply with exactly: концерт")
            stream = await one.astream_complete("Reply with exactly: парк")
            return answer.text, "".join([piece.delta or "" async for piece in stream])

        self.assertEqual(asyncio.run(both()), ("концерт", "парк"))

    def test_calls_a_tool_in_two_turns(self) -> None:
        tool = FunctionTool.from_defaults(find_events)
        messages = [ChatMessage(ASKS_FOR_EVENTS)]
        first = llm().chat_with_tools([tool], chat_history=messages)
        (call,) = llm().get_tool_calls_from_response(first)
        self.assertEqual((call.tool_name, call.tool_kwargs), ("find_events", {"date": "2027-05-05"}))
        result = ChatMessage(
            role=MessageRole.TOOL, content="Лекция", additional_kwargs={"tool_call_id": call.tool_id}
        )
        second = llm().chat_with_tools([tool], chat_history=[*messages, first.message, result])
        self.assertIn("Лекция", second.message.content)

    def test_gives_an_object_of_a_schema(self) -> None:
        event = llm().structured_predict(Event, PromptTemplate("{post}"), post=POST)
        self.assertIn("Бульвар", event.title)

    def test_sends_a_picture(self) -> None:
        picture = ImageBlock(url=f"data:image/png;base64,{PNG}")
        llm().chat([ChatMessage(role="user", blocks=[TextBlock(text="What is it?"), picture])])
        self.assert_sent_picture()

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(openai.AuthenticationError) as caught:
            llm(api_key=WRONG_TOKEN).complete("Hello")
        self.refused_with(caught.exception.message)

    def test_tries_again_after_an_overload(self) -> None:
        faults({"kind": "status", "error": "overloaded", "times": 3})
        self.assertEqual(llm(max_retries=3).complete("Reply with exactly: yes").text, "yes")

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(openai.APIError):
            list(llm().stream_complete("Write 200 words about a concert"))


if __name__ == "__main__":
    unittest.main()
