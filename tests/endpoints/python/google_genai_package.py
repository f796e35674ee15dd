"""google-genai, Google's package of today."""

from __future__ import annotations

import asyncio
import io
import json
import time
import unittest
from typing import Any

from gateway import ASKS_FOR_EVENTS, BROKEN_OFF, EMBEDDING, GATEWAY, GEMMA, POST, QUIET, STOPPED_GATEWAY, TOKEN
from gateway import WRONG_TOKEN, PackageTest, busy_for_a_second, calls, faults
from google import genai
from google.genai import errors, types
from pydantic import BaseModel


class Event(BaseModel):
    title: str
    date: str


#: A client that nobody holds closes its connections, in the middle of a call too.
held: list[genai.Client] = []


def client(api_key: str = TOKEN, base_url: str = GATEWAY, **http_options: Any) -> genai.Client:
    held.append(genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=base_url, **http_options)))
    return held[-1]


def hasty(**retry_options: Any) -> genai.Client:
    """A client that does not let the gateway wait."""
    again = types.HttpRetryOptions(**retry_options)
    return client(base_url=STOPPED_GATEWAY, headers={"x-eve-mode": "no_wait"}, retry_options=again)


def ended(job: types.BatchJob) -> types.BatchJob:
    """The batch when it has ended: the caller's own patience, as the package has none."""
    while job.state.name in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
        time.sleep(0.2)
        job = client().batches.get(name=job.name)
    return job


def find_events(date: str) -> str:
    """Looks up the events of a day.

    Args:
        date: The day.
    """
    return f"Лекция ({date})"


class GoogleGenaiPackage(PackageTest):
    def test_generates_without_its_thoughts(self) -> None:
        answer = client().models.generate_content(model=GEMMA, contents="Reply with exactly: концерт")
        self.assertEqual(answer.text, "концерт")
        self.assertGreater(answer.usage_metadata.total_token_count, 0)

    def test_streams(self) -> None:
        stream = client().models.generate_content_stream(model=QUIET, contents="Write 60 words about a concert")
        pieces = [chunk.text or "" for chunk in stream]
        self.assertGreater(len(pieces), 3)
        self.assertEqual(len("".join(pieces).split(" ")), 60)

    def test_generates_and_streams_without_blocking(self) -> None:
        async def both() -> tuple[str | None, str]:
            models = client().aio.models
            answer = await models.generate_content(model=GEMMA, contents="Reply with exactly: концерт")
            stream = await models.generate_content_stream(model=GEMMA, contents="Reply with exactly: фестиваль")
            return answer.text, "".join([chunk.text or "" async for chunk in stream])

        self.assertEqual(asyncio.run(both()), ("концерт", "фестиваль"))

    def test_chats(self) -> None:
        chat = client().chats.create(model=GEMMA)
        chat.send_message("Say concert")
        self.assertIn("Turn of the conversation: 2", chat.send_message("And what did I say first?").text)

    def test_runs_a_function_by_itself(self) -> None:
        # The package calls it, and sends its result back.
        config = types.GenerateContentConfig(tools=[find_events])
        answer = client().models.generate_content(model=GEMMA, contents=ASKS_FOR_EVENTS, config=config)
        self.assertIn("Лекция", answer.text)
        self.assertEqual(calls(), 2)

    def test_parses_an_object_of_a_schema(self) -> None:
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Event)
        event = client().models.generate_content(model=GEMMA, contents=POST, config=config).parsed
        self.assertIsInstance(event, Event)
        self.assertIn("Бульвар", event.title)

    def test_embeds_counts_and_lists(self) -> None:
        config = types.EmbedContentConfig(output_dimensionality=128)
        embedded = client().models.embed_content(model=EMBEDDING, contents=["концерт", "лекция"], config=config)
        self.assertEqual([len(one.values) for one in embedded.embeddings], [128, 128])
        self.assertGreater(client().models.count_tokens(model=GEMMA, contents="Концерт в парке").total_tokens, 2)
        self.assertIn(f"models/{GEMMA}", [model.name for model in client().models.list()])

    def test_runs_a_batch_of_inline_requests(self) -> None:
        requests = [
            types.InlinedRequest(contents=f"Reply with exactly: {word}", metadata={"key": word}) for word in ("да", "нет")
        ]
        job = ended(client().batches.create(model=QUIET, src=requests, config={"display_name": "two"}))
        self.assertEqual((job.state.name, job.display_name), ("JOB_STATE_SUCCEEDED", "two"))
        told = [(one.metadata["key"], one.response.text) for one in job.dest.inlined_responses]
        self.assertEqual(told, [("да", "да"), ("нет", "нет")])
        client().batches.delete(name=job.name)

    def test_runs_a_batch_of_a_file(self) -> None:
        lines = "\n".join(
            json.dumps({"key": word, "request": {"contents": [{"parts": [{"text": f"Reply with exactly: {word}"}]}]}})
            for word in ("да", "нет")
        )
        # In two pieces, of which the second is nothing but spaces.
        lines += "\n" + " " * 8 * 1024 * 1024
        # No key comes with the file itself: the address that it is sent to stands for the caller.
        file = client().files.upload(file=io.BytesIO(lines.encode()), config={"mime_type": "jsonl"})
        self.assertEqual((file.state.name, file.mime_type), ("ACTIVE", "jsonl"))
        job = ended(client().batches.create(model=QUIET, src=file.name))
        self.assertEqual(job.state.name, "JOB_STATE_SUCCEEDED")
        answers = [json.loads(line) for line in client().files.download(file=job.dest.file_name).splitlines()]
        texts = [(one["key"], one["response"]["candidates"][0]["content"]["parts"][0]["text"]) for one in answers]
        self.assertEqual(texts, [("да", "да"), ("нет", "нет")])
        self.assertIn(job.name, [one.name for one in client().batches.list()])
        client().batches.delete(name=job.name)
        client().files.delete(name=file.name)

    def test_is_refused_for_a_wrong_key(self) -> None:
        with self.assertRaises(errors.ClientError) as caught:
            client(WRONG_TOKEN).models.generate_content(model=GEMMA, contents="Hello")
        self.refused_with(caught.exception)
        self.assertEqual((caught.exception.code, caught.exception.status), (401, "UNAUTHENTICATED"))

    def test_is_told_what_the_model_finds_wrong(self) -> None:
        config = types.GenerateContentConfig(temperature=99)
        with self.assertRaises(errors.ClientError) as caught:
            client().models.generate_content(model=GEMMA, contents="Hello", config=config)
        self.refused_with(caught.exception)
        self.assertEqual((caught.exception.code, caught.exception.status), (400, "INVALID_ARGUMENT"))

    def test_comes_back_after_a_429(self) -> None:
        busy_for_a_second()
        patient = hasty(attempts=5, initial_delay=0.6, jitter=0)
        answer = patient.models.generate_content(model=GEMMA, contents="Reply with exactly: yes")
        self.assertEqual(answer.text, "yes")
        busy_for_a_second()
        with self.assertRaises(errors.ClientError) as caught:
            hasty(attempts=1).models.generate_content(model=QUIET, contents="Hello")
        self.assertEqual(caught.exception.code, 429)

    def test_meets_an_error_in_the_middle_of_a_stream(self) -> None:
        faults(BROKEN_OFF)
        with self.assertRaises(errors.APIError):
            list(client().models.generate_content_stream(model=GEMMA, contents="Write 200 words about a concert"))


if __name__ == "__main__":
    unittest.main()
