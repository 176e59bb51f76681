"""Every file of deploy/ passes the validator of whoever reads it."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from gateway.config.file import load
from gateway.version import VERSION
from tests.deploy.charts import RELEASE, rendered
from tests.deploy.tools import DEPLOY, run, tool
from tests.gateways import ROOT

CONTAINER = DEPLOY / "container"
CHART = DEPLOY / "helm" / "agent-gateway"
KUBERNETES = "1.31"


def test_the_dockerfile_is_clean() -> None:
    run(tool("hadolint"), CONTAINER / "Dockerfile")


def test_the_dockerfile_copies_a_tree_that_has_what_the_build_needs() -> None:
    """For where test_container.py cannot build it."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "**/node_modules"} <= set(ignored)
    assert not {"gateway", "worker", "frontend", "pyproject.toml"} & set(ignored)


def test_the_compose_file_is_one() -> None:
    files = sorted(CONTAINER.glob("compose*.yaml"))
    assert len(files) == 3
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files)
    services = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (CONTAINER / source).exists(), (
                f"{name}: {source} is not there"
            )
        assert not service.get("image", "x:1").endswith(":latest")
    assert services["gateway"]["read_only"] is True
    assert services["gateway"]["cap_drop"] == ["ALL"]


def test_the_configurations_in_deploy_have_no_mistakes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.toml").write_text(yaml.safe_load((CHART / "values.yaml").read_text())["config"])
    for path in (CONTAINER / "config.toml", DEPLOY / "systemd" / "config.toml", tmp_path / "config.toml"):
        assert load(path, environ={}).auth.modes == ("keys",)


def test_systemd_gets_a_configuration_of_its_own() -> None:
    """Not the container's, whose walls and proxies are a container's; it numbers the lines to edit."""
    readme = (DEPLOY / "README.md").read_text()
    assert "deploy/systemd/config.toml /etc/agent-gateway/config.toml" in readme
    path = DEPLOY / "systemd" / "config.toml"
    assert re.findall(r"# (\d)\. ", path.read_text()) == ["1", "2", "3"]
    named = {line.split(" =")[0] for line in path.read_text().splitlines() if " = " in line}
    assert named == {"public_url", "trusted_proxies", "modes"}
    assert load(path, environ={}).workers.require == ""


def test_prometheus_reads_its_file_and_the_rules(tmp_path: pathlib.Path) -> None:
    text = (CONTAINER / "prometheus.yml").read_text()
    key = tmp_path / "key"
    key.write_text("secret")
    text = text.replace("/etc/prometheus", str(DEPLOY / "prometheus")).replace(
        "/run/secrets/scrape_key", str(key)
    )
    (tmp_path / "prometheus.yml").write_text(text)
    run(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")


def test_the_alerts_fire_and_stay_silent() -> None:
    run(tool("promtool"), "test", "rules", "rules_test.yml", cwd=DEPLOY / "prometheus")


@pytest.mark.parametrize("kind", ["gateway", "gateways"])
def test_caddy_reads_its_file(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY", kind)
    run(tool("caddy"), "validate", "--adapter", "caddyfile", "--config", DEPLOY / "proxy" / "Caddyfile")


def test_two_gateways_in_containers_have_all_that_one_has() -> None:
    """What `extends` cannot bring along is the same in both."""
    clustered = yaml.safe_load((CONTAINER / "compose.cluster.yaml").read_text())["services"]
    stored = yaml.safe_load((CONTAINER / "compose.postgresql.yaml").read_text())["services"]["gateway"]
    first, second = (clustered[name] for name in ("gateway", "gateway-2"))
    assert second["environment"].items() >= stored["environment"].items()
    assert (second["secrets"], second["depends_on"]) == (stored["secrets"], stored["depends_on"])
    assert set(first["environment"]) == set(second["environment"]) - set(stored["environment"])
    for name, service in (("gateway", first), ("gateway-2", second)):
        assert service["environment"]["AGENT_GATEWAY_CLUSTER_URL"] == f"http://{name}:8081"
    assert clustered["caddy"]["environment"]["GATEWAY"].split() == ["gateway:8080", "gateway-2:8080"]


# -- systemd ----------------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: pathlib.Path) -> pathlib.Path:
    """The units with a program that is there."""
    for unit in (DEPLOY / "systemd").iterdir():
        text = re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_reads_the_units(units: pathlib.Path) -> None:
    out = run(tool("systemd-analyze"), "verify", *sorted(units.glob("agent-gateway.*")))
    assert not out.strip()


def test_systemd_finds_the_service_as_exposed_as_the_readme_says(units: pathlib.Path) -> None:
    out = run(tool("systemd-analyze"), "security", "--offline=true", units / "agent-gateway.service")
    figure = re.findall(r"Overall exposure level for agent-gateway.service: ([\d.]+)", out)[0]
    assert f"exposure {figure}" in (DEPLOY / "README.md").read_text()


def test_the_service_takes_nothing_away_that_strict_walls_need() -> None:
    """Each of these makes the kernel refuse what worker/sandbox/walls.py does."""
    settings = re.findall(
        r"^(\w+)=", (DEPLOY / "systemd" / "agent-gateway.service").read_text(), flags=re.MULTILINE
    )
    assert not {"RestrictNamespaces", "PrivateUsers", "ProtectHostname", "ProcSubset", "ProtectProc"} & set(
        settings
    )


# -- Kubernetes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("monitored", [True, False])
@pytest.mark.parametrize("clustered", [True, False])
def test_kubernetes_takes_what_the_chart_makes(
    tmp_path: pathlib.Path, monitored: bool, clustered: bool
) -> None:
    is_stored = clustered or not monitored
    documents = rendered(
        CHART, serviceMonitor=monitored, storeSecret="store" if is_stored else "", cluster=clustered
    )
    assert ("AGENT_GATEWAY_STORE_FILE" in str(documents)) is is_stored
    assert ("AGENT_GATEWAY_CLUSTER_URL" in str(documents)) is clustered
    kinds = [document["kind"] for document in documents]
    wanted = ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "StatefulSet"]
    assert sorted(kinds) == sorted(wanted + ["ServiceMonitor"] * monitored)
    known = [document for document in documents if document["kind"] != "ServiceMonitor"]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(known))
    run(tool("kubernetes-validate"), "--strict", "-k", KUBERNETES, tmp_path / "all.yaml")


def test_replicas_on_one_store_reach_each_other() -> None:
    by_kind = {d["kind"]: d for d in rendered(CHART, cluster=True, storeSecret="store", replicas=3)}
    stateful = by_kind["StatefulSet"]["spec"]
    (container,) = stateful["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value") for one in container["env"]}
    named = f"$(AGENT_GATEWAY_CLUSTER_NAME).{stateful['serviceName']}.$(NAMESPACE).svc:8081"
    assert given["AGENT_GATEWAY_CLUSTER_URL"] == f"http://{named}"
    order = [one["name"] for one in container["env"]]  # a variable is known to those behind it
    assert order.index("AGENT_GATEWAY_CLUSTER_NAME") < order.index("AGENT_GATEWAY_CLUSTER_URL")
    assert order.index("NAMESPACE") < order.index("AGENT_GATEWAY_CLUSTER_URL")
    assert {"name": "nodes", "containerPort": 8081} in container["ports"]
    ingress = by_kind["NetworkPolicy"]["spec"]["ingress"]
    (among,) = [one["from"] for one in ingress if one["ports"] == [{"port": "nodes", "protocol": "TCP"}]]
    assert among == [{"podSelector": by_kind["NetworkPolicy"]["spec"]["podSelector"]}]
    drain = container["lifecycle"]["preStop"]["exec"]["command"]
    assert drain[:2] == ["agent-gateway", "drain"]
    assert set(drain[2:]) <= set(container["args"])  # the same gateway


def test_what_the_chart_makes_fits_together() -> None:
    by_kind = {(d["kind"], d["metadata"]["name"]): d for d in rendered(CHART)}
    stateful = by_kind["StatefulSet", RELEASE]["spec"]
    headless = by_kind["Service", stateful["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None"
    labels = stateful["template"]["metadata"]["labels"]
    policies = [by_kind["NetworkPolicy", RELEASE]["spec"]["podSelector"]]
    policies.append(by_kind["PodDisruptionBudget", RELEASE]["spec"]["selector"])
    selectors = [headless["selector"], *(policy["matchLabels"] for policy in policies)]
    assert all(selector.items() <= labels.items() for selector in selectors)
    (container,) = stateful["template"]["spec"]["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    given = {volume["name"] for volume in stateful["template"]["spec"]["volumes"]}
    assert mounted == given | {claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]}


def test_helm_likes_the_chart() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in run(tool("helm"), "lint", "--strict", CHART)


@pytest.mark.parametrize("monitored", [True, False])
def test_helm_makes_of_the_chart_what_the_other_tests_look_at(monitored: bool) -> None:
    """Those render it without Helm, so that they run where there is none."""
    values = {"serviceMonitor": monitored, "cluster": monitored, "storeSecret": "store" if monitored else ""}
    given = [f"--set={name}={json.dumps(value).strip(chr(34))}" for name, value in values.items()]
    made = run(tool("helm"), "template", RELEASE, CHART, *given)
    assert _sorted(yaml.safe_load_all(made)) == _sorted(rendered(CHART, **values))


def _sorted(documents: Iterable[Any]) -> list[Any]:
    return sorted(filter(None, documents), key=lambda each: (each["kind"], each["metadata"]["name"]))


def test_the_versions_are_those_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    image = yaml.safe_load((CHART / "values.yaml").read_text())["image"]
    assert (chart["appVersion"], image) == (VERSION, f"agent-gateway:{VERSION}")


def test_the_dashboard_is_json() -> None:
    assert json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
