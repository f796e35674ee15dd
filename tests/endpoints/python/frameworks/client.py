"""What the tests of clients that stand on OpenAI's or Google's package share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# Nothing goes out: neither lists of prices nor telemetry.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["LLM_USER_PATH"] = os.environ["EVE_SCRATCH"]

sys.path.insert(0, str(Path(__file__).parent.parent))

import gateway  # noqa: E402
from gateway import EMBEDDING, GATEWAY, GEMMA, TOKEN, WRONG_TOKEN  # noqa: E402, F401

BASE_URL = f"{GATEWAY}/openai/v1"
#: Signs its thoughts, and refuses a conversation that has lost a signature.
SIGNING = "gemini-3.5-flash"
#: A PNG of one pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WORDS = "Write 60 words about a concert"


class ClientTest(gateway.PackageTest):
    def assert_sent_picture(self) -> None:
        """The last body that reached the emulator has the picture, in either alphabet of base64."""
        body = json.dumps(gateway.control("requests")[-1])
        self.assertIn(PNG, body.replace("-", "+").replace("_", "/"))
