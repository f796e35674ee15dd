"""What a notebook does: asks a Gemini or Gemma model over REST, with nothing but Python's standard library.

Only the two variables differ from a notebook that asks Google: GEMINI_BASE_URL and GEMINI_API_KEY.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

BASE_URL = os.environ.get("GEMINI_BASE_URL", "https://generativelanguage.googleapis.com")
API_KEY = os.environ["GEMINI_API_KEY"]
ATTEMPTS = 5
TIMEOUT_S = 120


class GeminiError(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]
        self.status = error["status"]
        self.details = error.get("details", [])

    @property
    def retry_delay(self):
        """Seconds until it makes sense to come back; None if it does not."""
        for detail in self.details:
            if detail["@type"].endswith("RetryInfo"):
                return float(detail["retryDelay"].rstrip("s"))
        return 2.0 if self.code in (500, 502, 503, 504) else None


def post(path, body, headers=None):
    request = urllib.request.Request(
        f"{BASE_URL}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as refused:
        raise GeminiError(json.load(refused)["error"]) from None


def generate_content(model, prompt, headers=None, **config):
    """The text of the answer. Waits and comes back when the quota is used up."""
    body = {"contents": [{"parts": [{"text": prompt}]}], "generation_config": config}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = post(f"v1beta/models/{model}:generateContent?key={API_KEY}", body, headers)
            break
        except GeminiError as error:
            if error.retry_delay is None or attempt == ATTEMPTS:
                raise
            time.sleep(error.retry_delay)
    candidate = answer["candidates"][0]
    parts = candidate["content"].get("parts", [])
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def stream_content(model, prompt):
    """The chunks of a stream, which without alt=sse is one JSON array."""
    return post(
        f"v1beta/models/{model}:streamGenerateContent",
        {"contents": {"parts": {"text": prompt}}},
        {"X-Goog-Api-Key": API_KEY},
    )


if __name__ == "__main__":
    event = generate_content(
        "gemma-4-31b-it",
        "Концерт 14 февраля в 19:00 в Доме офицеров, билеты от 600 рублей.",
        headers={"x-eve-mode": "no_wait"},
        temperature=0.2,
        max_output_tokens=500,
        response_mime_type="application/json",
        response_schema={
            "type": "OBJECT",
            "properties": {"date": {"type": "STRING"}, "ticket_price": {"type": "STRING"}},
            "required": ["date", "ticket_price"],
        },
    )
    chunks = stream_content("gemma-4-31b-it", "Write 60 words about a concert")
    try:
        generate_content("gemma-4-31b-it", "Привет", temperature=99)
        refusal = None
    except GeminiError as error:
        refusal = {"code": error.code, "status": error.status}
    json.dump({"event": json.loads(event), "chunks": len(chunks), "refusal": refusal}, sys.stdout)
