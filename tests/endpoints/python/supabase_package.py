"""supabase for Python: it calls the gateway as a function of the project."""

from __future__ import annotations

import asyncio
import json
import os
import unittest
from typing import Any

from gateway import GEMMA, POST, TOKEN, WRONG_TOKEN, PackageTest
from postgrest.exceptions import APIError
from supabase import Client, acreate_client, create_client
from supabase_functions.errors import FunctionsHttpError

URL = os.environ["EVE_GATEWAY_URL"]
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}, "date": {"type": "string"}}, "required": ["title"]}


def client(key: str = TOKEN) -> Client:
    return create_client(URL, key)


def ask(prompt: str, **more: Any) -> dict[str, Any]:
    return {"body": {"model": GEMMA, "prompt": prompt, **more}, "responseType": "json"}


class SupabasePackage(PackageTest):
    def test_invokes(self) -> None:
        answer = client().functions.invoke("llm-invoke", ask("Reply with exactly: концерт"))
        self.assertEqual(answer["text"], "концерт")

    def test_invokes_without_blocking(self) -> None:
        async def parse() -> Any:
            one = await acreate_client(URL, TOKEN)
            return await one.functions.invoke("llm-invoke", ask("Reply with exactly: концерт"))

        self.assertEqual(asyncio.run(parse())["text"], "концерт")

    def test_gets_json_of_a_schema(self) -> None:
        answer = client().functions.invoke("llm-invoke", ask(POST, response_schema=SCHEMA))
        self.assertIn("Бульвар", json.loads(answer["text"])["title"])

    def test_reads_what_is_wrong(self) -> None:
        with self.assertRaises(FunctionsHttpError) as caught:
            client().functions.invoke("llm-invoke", ask(""))
        self.assertEqual(caught.exception.status, 400)
        self.assertEqual(caught.exception.message["code"], "empty_prompt")
        with self.assertRaises(FunctionsHttpError) as caught:
            client(WRONG_TOKEN).functions.invoke("llm-invoke", ask("Hello"))
        self.assertEqual((caught.exception.status, caught.exception.message["code"]), (401, "credential_invalid"))

    def test_a_consumers_key_opens_no_table(self) -> None:
        with self.assertRaises(APIError):
            client().table("token_usage").select("*").execute()


if __name__ == "__main__":
    unittest.main()
