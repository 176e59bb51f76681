"""Reading a scrape in tests: what a Prometheus would make of it."""

from __future__ import annotations

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from tests.gateways import RunningGateway


class Scrape(Struct):
    """One scrape; `samples` is name → [(labels, value)]."""

    text: str
    families: dict[str, str]
    """Family → its type."""
    samples: dict[str, list[tuple[dict[str, str], float]]]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        found = self.samples.get(f"agent_gateway_{name}") or self.samples.get(name, [])
        return sum(value for has, value in found if labels.items() <= has.items())


async def scrape(gateway: RunningGateway) -> Scrape:
    """What `/metrics` says now."""
    async with gateway.http.get("/metrics") as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return parsed(await response.text())


def parsed(text: str) -> Scrape:
    """The text format, read."""
    families: dict[str, str] = {}
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        families[family.name] = family.type
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return Scrape(text, families, samples)
