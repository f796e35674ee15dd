"""pydantic-ai's models of OpenAI and of Google, with another base URL and key."""

from __future__ import annotations

import asyncio
import base64
import unittest
from typing import Any

from client import BASE_URL, GATEWAY, GEMMA, PNG, SIGNING, TOKEN, WORDS, WRONG_TOKEN, ClientTest
from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, POST, faults
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Event(BaseModel):
    title: str
    date: str


def by_openai(model: str = GEMMA, api_key: str = TOKEN) -> OpenAIChatModel:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=BASE_URL, api_key=api_key))


def by_google(model: str = GEMMA) -> GoogleModel:
    return GoogleModel(model, provider=GoogleProvider(api_key=TOKEN, base_url=GATEWAY))


def run(agent: Agent[Any, Any], prompt: Any) -> Any:
    return asyncio.run(agent.run(prompt)).output


class PydanticAi(ClientTest):
    def test_chats(self) -> None:
        for model in (by_openai(), by_google()):
            self.assertEqual(run(Agent(model, instructions="Be brief."), "Reply with exactly: концерт"), "концерт")

    def test_streams(self) -> None:
        async def words(model: Any) -> str:
            async with Agent(model).run_stream(WORDS) as stream:
                return "".join([piece async for piece in stream.stream_text(delta=True, debounce_by=None)])

        for model in (by_openai(), by_google()):
            self.assertEqual(len(asyncio.run(words(model)).split(" ")), 60)

    def test_runs_an_agent_with_a_tool(self) -> None:
        for model in (by_openai(), by_openai(SIGNING), by_google(), by_google(SIGNING)):
            agent = Agent(model)
            dates: list[str] = []

            @agent.tool_plain
            def find_events(date: str) -> str:
                """Looks up the events of a day."""
                dates.append(date)
                return "Лекция"

            self.assertIn("Лекция", run(agent, ASKS_FOR_EVENTS))
            self.assertEqual(dates, ["2027-05-05"])

    def test_gives_an_object_of_a_schema(self) -> None:
        for model in (by_openai(), by_google()):
            self.assertIn("Бульвар", run(Agent(model, output_type=NativeOutput(Event)), POST).title)

    def test_gives_an_object_by_a_tool(self) -> None:
        self.assertIn("Бульвар", run(Agent(by_openai(), output_type=Event), POST).title)

    def test_sends_a_picture(self) -> None:
        for model in (by_openai(), by_google()):
            picture = BinaryContent(base64.b64decode(PNG), media_type="image/png")
            run(Agent(model), ["What is it?", picture])
            self.assert_sent_picture()

    def test_uses_the_responses_api(self) -> None:
        model = OpenAIResponsesModel(GEMMA, provider=OpenAIProvider(base_url=BASE_URL, api_key=TOKEN))
        self.assertEqual(run(Agent(model), "Reply with exactly: концерт"), "концерт")

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(ModelHTTPError) as caught:
            run(Agent(by_openai(api_key=WRONG_TOKEN)), "Hello")
        self.refused_with(caught.exception.body["message"])

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        async def broken() -> None:
            async with Agent(by_openai()).run_stream("Write 200 words about a concert") as stream:
                async for _ in stream.stream_text(delta=True):
                    pass

        faults(BROKEN_OFF)
        with self.assertRaises(Exception):
            asyncio.run(broken())


if __name__ == "__main__":
    unittest.main()
