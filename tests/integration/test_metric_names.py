"""The scrape, its documentation, the alerts and the dashboard speak of the same metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from typing import Any, Final

import pytest
import pytest_asyncio

from gateway.models.meter import CallUsage, ModelCall
from gateway.principal import Account
from tests.debian import program
from tests.fake_model import Behaviour, fake_model
from tests.gateways import ROOT
from tests.inside import gateway_inside
from tests.patience import soon
from tests.scrapes import Scrape, scrape
from tests.shared import SHARED

pytestmark = SHARED

RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboard.json"
NAME: Final = re.compile(r"\b(?:agent_gateway|gen_ai_client)_\w+")
MATCHED: Final = re.compile(r"((?:agent_gateway|gen_ai_client)_\w+)\{([^}]*)\}")
GROUPED: Final = re.compile(r"\bby \(([^)]*)\)")
TARGET_LABELS: Final = {"instance", "job", "le"}
"""What Prometheus itself adds, and histograms."""
ALERTS: Final = 18


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> Scrape:
    """A scrape after everything has happened once: every family has a sample."""
    async with fake_model() as model:
        environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "k"}
        config = "[limits]\nmax_sessions = 1\n[model]\nretries = 0\n"
        config += '[model.prices."fake-model"]\ninput = 1.0\noutput = 2.0\n'
        directory = tmp_path_factory.mktemp("gateway")
        async with gateway_inside(directory, config=config, environ=environ) as gateway:
            await gateway.chat("a", "hello")
            key = (await gateway.get("/api/admin/sessions"))["sessions"][0]["key"]
            await gateway.post(f"/api/admin/sessions/{key}/park", {})
            model.behaviour = Behaviour(status=500)
            await gateway.chat("a", "hello")
            await gateway.post("/api/chat", {"message": "hello", "session_id": "b"}, status=503)
            account = Account("default/local", key)
            call = ModelCall(id="a", account=account, provider="default", model="unpriced", dialect="chat")
            gateway.inner.ledger.reserve(call).settle(CallUsage(input=1, is_estimated=True), status=0)
            gateway.inner.services.workers.interception.on_outcome("git", "sent")
            return await scrape(gateway)


def expressions() -> dict[str, str]:
    """Every expression of the alerts and of the dashboard, by where it stands."""
    rules = re.split(r"- alert: ", RULES.read_text())[1:]
    found = {}
    for rule in rules:
        name, _, rest = rule.partition("\n")
        found[name] = re.split(r"\n +(?:for|labels):", rest.split("expr:", 1)[1])[0]
    assert len(found) == ALERTS
    board: Any = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in board["templating"]["list"][1:]:
        found[variable["name"]] = variable["query"]["query"]
    return found


@pytest.mark.parametrize("place", expressions())
async def test_every_metric_and_label_of_an_expression_is_in_a_real_scrape(place: str, real: Scrape) -> None:
    text = expressions()[place]
    names = NAME.findall(text)
    assert names or place == "AgentGatewayDown"
    for name in names:
        assert name in real.samples, f"{name} is in no scrape"
    labels = {label for name in names for has, _ in real.samples[name] for label in has} | TARGET_LABELS
    for _, matchers in MATCHED.findall(text):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= labels
    for group in GROUPED.findall(text):
        assert {label.strip() for label in group.split(",")} <= labels


async def test_every_family_of_a_scrape_is_documented_with_its_type_and_labels(real: Scrape) -> None:
    table = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs" / "metrics.md").read_text(), re.M)
    documented = {
        name.removesuffix("_total"): (kind, set(words.replace(",", " ").split()))
        for name, kind, words in table
    }
    assert {name: kind for name, (kind, _) in documented.items()} == real.families
    for name, (_, labels) in documented.items():
        spelled = [name + ending for ending in ("", "_total", "_count")]
        samples = [has for sample in spelled for has, _ in real.samples.get(sample, [])]
        assert samples, f"{name} has no sample: this test must make it happen"
        assert {label for has in samples for label in has} == labels, name


async def test_no_label_tells_people_or_sessions_apart(real: Scrape) -> None:
    labels = {label for samples in real.samples.values() for has, _ in samples for label in has}
    assert not labels & {"tenant", "user", "subject", "owner", "session", "session_id", "key"}


async def test_every_alert_fires_and_stays_silent_as_its_tests_say() -> None:
    promtool = os.environ.get("PROMTOOL")
    promtool = promtool or await asyncio.to_thread(program, "promtool", package="prometheus")
    if promtool is None:
        words = "the alerts are NOT TESTED: promtool is missing (apt install prometheus, or PROMTOOL=)"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    for command in (["check", "rules", RULES.name], ["test", "rules", "rules_test.yml"]):
        process = await asyncio.create_subprocess_exec(
            *(promtool, *command), cwd=RULES.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await soon(process.communicate(), 60)
        assert process.returncode == 0, said.decode()


async def test_every_alert_has_its_two_tests() -> None:
    named = re.findall(r"- name: (\w+) (fires|stays silent)", (RULES.parent / "rules_test.yml").read_text())
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert sorted(named) == sorted((name, kind) for name in alerts for kind in ("fires", "stays silent"))
