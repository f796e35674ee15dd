"""Each endpoint's answers against the published contract: OpenAI's and Anthropic's OpenAPI documents, and Google's of the
Gemini API, as the types that are generated from them and published in the three packages (`.stats.yml` of the first two names the
document). Here they are asked to be strict, which the packages themselves never are: a field that is missing, of another
type, or none of the values that the document lists is a failure; for Google also a field that it does not list."""

from __future__ import annotations

import json
import unittest
import urllib.error
import urllib.request
from typing import Any

import anthropic.types as claude
import openai.types as gpt
from anthropic.types.messages import MessageBatch
from google.genai import types as gemini
from openai.types import chat, responses
from pydantic import TypeAdapter

from gateway import BROKEN_OFF, EMBEDDING, GATEWAY, GEMMA, QUIET, TOKEN, control, faults

FIND = {"type": "object", "properties": {"date": {"type": "string"}}, "required": ["date"]}
ASKS = "Use find_events for 5 мая 2027 года"
WORDS = "Write 30 words about a concert"


def call(path: str, body: Any = None) -> tuple[int, bytes]:
    request = urllib.request.Request(
        GATEWAY + path,
        None if body is None else json.dumps(body).encode(),
        {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def frames(path: str, body: Any) -> list[Any]:
    """The data of a stream's events."""
    status, text = call(path, body)
    assert status == 200, text
    lines = [line[6:] for line in text.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


class Contract(unittest.TestCase):
    def setUp(self) -> None:
        control("reset", {})

    def holds(self, kind: Any, answer: Any) -> Any:
        """Fails unless the answer is one of the kind, strictly. Enums of Google's are texts in JSON."""
        return TypeAdapter(kind).validate_json(json.dumps(answer), strict=True)

    def answers(self, kind: Any, path: str, body: Any = None) -> Any:
        status, text = call(path, body)
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        self.holds(kind, answer)
        return answer

    def test_openai(self) -> None:
        base = "/openai/v1"
        tool = {"type": "function", "function": {"name": "find_events", "parameters": FIND}}
        asked = {"model": QUIET, "messages": [{"role": "user", "content": ASKS}], "tools": [tool]}
        called = self.answers(chat.ChatCompletion, f"{base}/chat/completions", asked)
        self.assertEqual(called["choices"][0]["finish_reason"], "tool_calls")
        words = {"model": GEMMA, "messages": [{"role": "user", "content": WORDS}]}
        self.answers(chat.ChatCompletion, f"{base}/chat/completions", words)
        for body in (asked, words):
            chunks = frames(f"{base}/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
            self.assertGreater(len(chunks), 2)
            for chunk in chunks:
                self.holds(chat.ChatCompletionChunk, chunk)
        self.answers(gpt.Completion, f"{base}/completions", {"model": QUIET, "prompt": WORDS})
        self.answers(
            gpt.CreateEmbeddingResponse,
            f"{base}/embeddings",
            {"model": EMBEDDING, "input": ["one", "two"], "dimensions": 256},
        )
        self.answers(gpt.ModerationCreateResponse, f"{base}/moderations", {"model": QUIET, "input": "Hello"})
        listed = self.answers(dict[str, Any], f"{base}/models")
        for model in listed["data"]:
            self.holds(gpt.Model, model)

    def test_openai_responses(self) -> None:
        base = "/openai/v1/responses"
        tool = {"type": "function", "name": "find_events", "parameters": FIND, "strict": False}
        asked = {"model": QUIET, "input": ASKS, "tools": [tool]}
        words = {"model": QUIET, "input": WORDS, "reasoning": {"effort": "high", "summary": "auto"}}
        event = responses.ResponseStreamEvent
        for body in (asked, words):
            answer = self.answers(responses.Response, base, body)
            self.answers(responses.Response, f"{base}/{answer['id']}")
            for item in self.answers(dict[str, Any], f"{base}/{answer['id']}/input_items")["data"]:
                self.holds(responses.ResponseItem, item)
            told = frames(base, {**body, "stream": True})
            self.assertEqual(told[-1]["type"], "response.completed")
            for one in told:
                self.holds(event, one)
        faults(BROKEN_OFF)
        for one in frames(base, {"model": QUIET, "input": "Write 200 words about a concert", "stream": True}):
            self.holds(event, one)

    def test_anthropic(self) -> None:
        base = "/anthropic/v1"
        common = {"max_tokens": 2_000}
        tool = {"name": "find_events", "input_schema": FIND}
        asked = {**common, "model": QUIET, "messages": [{"role": "user", "content": ASKS}], "tools": [tool]}
        thinking = {"type": "enabled", "budget_tokens": 1_024}
        words = {**common, "model": QUIET, "messages": [{"role": "user", "content": WORDS}], "thinking": thinking}
        for body in (asked, words):
            self.answers(claude.Message, f"{base}/messages", body)
            told = frames(f"{base}/messages", {**body, "stream": True})
            self.assertEqual(told[-1]["type"], "message_stop")
            for one in told:
                if one["type"] != "ping":
                    self.holds(claude.RawMessageStreamEvent, one)
        counted = {"model": QUIET, "messages": [{"role": "user", "content": WORDS}]}
        self.answers(claude.MessageTokensCount, f"{base}/messages/count_tokens", counted)
        for model in self.answers(dict[str, Any], f"{base}/models")["data"]:
            self.holds(claude.ModelInfo, model)
        request = {"custom_id": "1", "params": {**common, "model": QUIET, "messages": words["messages"]}}
        self.answers(MessageBatch, f"{base}/messages/batches", {"requests": [request]})
        status, text = call(f"{base}/messages", {"model": "none", **common, "messages": words["messages"]})
        self.assertEqual(status, 404)
        self.holds(claude.ErrorResponse, json.loads(text))

    def test_gemini(self) -> None:
        base = f"/v1beta/models/{QUIET}"
        tools = [{"functionDeclarations": [{"name": "find_events", "parameters": FIND}]}]
        for body in (
            {"contents": [{"role": "user", "parts": [{"text": ASKS}]}], "tools": tools},
            {
                "contents": [{"role": "user", "parts": [{"text": WORDS}]}],
                "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}},
            },
        ):
            self.answers(gemini.GenerateContentResponse, f"{base}:generateContent", body)
            for chunk in frames(f"{base}:streamGenerateContent?alt=sse", body):
                self.holds(gemini.GenerateContentResponse, chunk)
            self.answers(gemini.CountTokensResponse, f"{base}:countTokens", {"contents": body["contents"]})
        content = {"content": {"parts": [{"text": "one"}]}}
        embedding = self.answers(dict[str, Any], f"/v1beta/models/{EMBEDDING}:embedContent", content)["embedding"]
        self.holds(gemini.ContentEmbedding, embedding)
        requests = [{"model": f"models/{EMBEDDING}", **content}]
        self.answers(gemini.EmbedContentResponse, f"/v1beta/models/{EMBEDDING}:batchEmbedContents", {"requests": requests})


if __name__ == "__main__":
    unittest.main()
