"""Writes gateway/models/prices.json from genai-prices. `make prices` runs it, in an environment of its own.

Only providers that are called at their own addresses, and only prices of text: a model of which genai-prices
knows no price for input and output is left out, so that its price is unknown and not 0.
The same version of genai-prices on the same day gives the same bytes.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import pathlib
import sys
from typing import Any, Final

from genai_prices.data import providers
from genai_prices.types import TieredPrices

FILE: Final = pathlib.Path(__file__).parent.parent / "gateway" / "models" / "prices.json"
CHOSEN: Final = (
    *("anthropic", "cerebras", "cohere", "deepseek", "fireworks", "google", "groq", "minimax", "mistral"),
    *("moonshotai", "openai", "openrouter", "perplexity", "together", "x-ai", "zai"),
)
KINDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
LOGIC: Final = {"or_": "or", "and_": "and"}


def main() -> None:
    now = datetime.datetime.now(datetime.UTC)
    version = importlib.metadata.version("genai-prices")
    known = {provider.id: provider for provider in providers}
    rows = [
        {
            "id": name,
            "url": known[name].api_pattern,
            "models": [row for model in known[name].models if (row := row_of(model, now)) is not None],
        }
        for name in CHOSEN
    ]
    head = {"source": f"genai-prices {version} (MIT)", "made_on": f"{now:%Y-%m-%d}"}
    FILE.write_text(written(head, rows))
    count = sum(len(row["models"]) for row in rows)
    sys.stdout.write(f"{FILE.relative_to(FILE.parent.parent.parent)}: {count} models, {version}\n")


def written(head: dict[str, str], rows: list[dict[str, Any]]) -> str:
    """One model a line, so that a change of prices can be read."""
    blocks = []
    for row in rows:
        lines = ",\n".join(json.dumps(model, separators=(",", ":")) for model in row["models"])
        blocks.append(
            f'{{"id":{json.dumps(row["id"])},"url":{json.dumps(row["url"])},"models":[\n{lines}\n]}}'
        )
    start = ",".join(f'"{name}":{json.dumps(value)}' for name, value in head.items())
    return f'{{{start},"providers":[\n' + ",\n".join(blocks) + "\n]}\n"


def row_of(model: Any, now: datetime.datetime) -> dict[str, Any] | None:
    prices = model.get_prices(now)
    found = {kind: getattr(prices, name, None) for kind, name in KINDS.items()}
    if found["input"] is None or found["output"] is None:
        return None
    tiered = [price for price in found.values() if isinstance(price, TieredPrices)]
    starts = {0, *(tier.start for price in tiered for tier in price.tiers)}
    rates = []
    for start in sorted(starts):
        rate = {kind: at(price, start) for kind, price in found.items() if price is not None}
        rates.append(rate | ({"above": start} if start else {}))
    return {"match": clause(model.match), "rates": rates}


def at(price: Any, start: int) -> float:
    """What holds for more input than `start`."""
    if not isinstance(price, TieredPrices):
        return float(price)
    found = price.base
    for tier in price.tiers:
        if tier.start <= start and start:
            found = tier.price
    return float(found)


def clause(match: Any) -> dict[str, Any]:
    """A clause of genai-prices as plain JSON; its classes have one field each."""
    ((name, value),) = vars(match).items()
    if isinstance(value, list):
        return {LOGIC.get(name, name): [clause(each) for each in value]}
    return {name: value if name == "regex" else value.lower()}


if __name__ == "__main__":
    main()
