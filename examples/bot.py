"""A bot that reads an event out of a post while a person waits for the answer.

    EVE_GATEWAY_URL=https://<ref>.supabase.co EVE_GATEWAY_SECRET=eve_service_... python3 examples/bot.py "the post"

The secret is a service's: npm run eve -- consumers add my-bot --kind service --class interactive
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# In a bot of your own, eve_gateway.py lies beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python"))

from eve_gateway import EveError, EveGateway  # noqa: E402

SYSTEM = "Извлеки событие из объявления. Ответь в JSON; дата в виде ГГГГ-ММ-ДД."
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("title", "date", "time", "place", "price")},
    "required": ["title", "date", "place"],
}
#: In seconds. A person looks at "typing..." for about this long before asking again.
WAIT_S = 10.0
PATIENCE_S = 25.0


def parse_event(eve: EveGateway, post: str) -> dict[str, str]:
    """The event that a post announces. Raises EveError if there is no answer in time, ValueError if it is no JSON."""
    return eve.generate(post, system=SYSTEM, response_schema=SCHEMA, generation={"temperature": 0}).json()


def main() -> int:
    post = " ".join(sys.argv[1:]) or sys.stdin.read()
    try:
        # Somebody waits: interactive calls go before batch.
        eve = EveGateway(traffic_class="interactive", wait=WAIT_S, patience=PATIENCE_S)
        print(json.dumps(parse_event(eve, post), ensure_ascii=False))
    except EveError as error:
        later = "" if error.retry_after is None else f" Come back in {error.retry_after:.0f} s."
        print(f"{error}{later}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
