"""Which network an agent gets if its configuration names none, and what is said of it."""

from __future__ import annotations

import pathlib

import pytest

from gateway.agents.catalogue import AgentCatalogue
from gateway.config.file import load
from gateway.config.networks import AgentNetwork, network_of

PROVIDER = (
    '[providers.p]\nurl = "https://models.example/v1"\ndialect = ["chat", "messages"]\nmodels = ["m"]\n'
)
ENVIRON = {"ANTHROPIC_API_KEY": "sk-1", "MY_TOKEN": "t", "LANG": "C", "OLLAMA_HOST": "127.0.0.1"}


def found(directory: pathlib.Path, agent: str, *, holds_broker: bool = True, more: str = "") -> AgentNetwork:
    path = directory / "config.toml"
    path.write_text(f"{more}\n[agents.a]\n{agent}\n")
    config = load(path, environ={})
    return network_of(config, config.agents["a"], environ=ENVIRON, holds_broker=holds_broker)


@pytest.mark.parametrize(
    "agent",
    [
        'command = "mine"',
        'command = "mine"\nprovider = "p"\nenv = { A_KEY = "{token}", A_BASE_URL = "{base}/openai/v1" }',
        'preset = "claude"\nprovider = "p"',
        'command = "mine"\npass_env = ["LANG", "NOT_SET_KEY"]\nenv = { THEME = "dark", EMPTY_KEY = "" }',
        'command = "mine"\nhome_files = { ".mine/config.json" = "{}" }',
    ],
)
def test_a_command_without_a_key_of_its_own_is_behind_the_gateway(tmp_path: pathlib.Path, agent: str) -> None:
    network = found(tmp_path, agent, more=PROVIDER)
    assert (network.mode, network.why) == ("broker", "usual")
    is_told = not ("provider" in agent or "\nhosts" in agent)
    assert network.is_unsaid == is_told == ("agents.a.hosts" in network.advice("a"))


@pytest.mark.parametrize(
    ("agent", "setting"),
    [
        ('preset = "claude"', "pass_env.ANTHROPIC_API_KEY"),
        ('command = "mine"\npass_env = ["MY_TOKEN"]', "pass_env.MY_TOKEN"),
        ('command = "mine"\npass_env = ["OLLAMA_HOST"]', "pass_env.OLLAMA_HOST"),
        ('command = "mine"\nenv = { OPENAI_API_KEY = "sk-2" }', "env.OPENAI_API_KEY"),
        ('command = "mine"\nenv = { X_BASE_URL = "http://127.0.0.1:1/v1" }', "env.X_BASE_URL"),
        ('command = "opencode acp"\nenv = { OPENCODE_CONFIG_CONTENT = "{}" }', "env.OPENCODE_CONFIG_CONTENT"),
        ('command = "mine"\nenv_files = { WHATEVER = "/dev/null" }', "env_files.WHATEVER"),
        ('preset = "codex"\nhome_files = { ".codex/auth.json" = "{}" }', 'home_files.".codex/auth.json"'),
    ],
)
def test_one_that_calls_its_model_by_itself_keeps_the_machines_network_and_that_is_said(
    tmp_path: pathlib.Path, agent: str, setting: str
) -> None:
    network = found(tmp_path, agent)
    assert (network.mode, network.why, network.setting) == ("shared", "own_key", setting)
    advice = network.advice("a")
    assert f"agents.a.{setting}" in advice
    assert "agents.a.provider" in advice
    assert "sk-" not in advice


def test_walls_that_do_not_hold_it_leave_the_machines_network(tmp_path: pathlib.Path) -> None:
    network = found(tmp_path, 'command = "mine"', holds_broker=False)
    assert (network.mode, network.why) == ("shared", "walls")
    assert "make strict walls possible" in network.advice("a")


@pytest.mark.parametrize("mode", ["shared", "none", "broker"])
@pytest.mark.parametrize("holds_broker", [True, False])
def test_a_network_that_is_named_is_the_one(tmp_path: pathlib.Path, mode: str, *, holds_broker: bool) -> None:
    for agent, more in (
        (f'preset = "claude"\nnetwork = "{mode}"', ""),
        ('command = "mine"', f'[workers]\nnetwork = "{mode}"\n'),
    ):
        network = found(tmp_path, agent, more=more, holds_broker=holds_broker)
        assert (network.mode, network.advice("a")) == (mode, "")


def test_a_catalogue_tells_operators_of_each_agent_that_was_left_out(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[agents.a]\ncommand = "a"\nenv = { A_KEY = "x" }\n[agents.b]\ncommand = "b"\n')
    agents = AgentCatalogue(load(path, environ={}), holds_broker=True)
    assert (agents.on_network("shared"), agents.on_network("broker")) == (["a"], ["b"])
    agents.log_networks()
    first, second = caplog.records
    assert first.levelname == second.levelname == "WARNING"
    assert first.getMessage().startswith("agent a shares this machine's network")
    assert second.getMessage().startswith("agent b is behind the gateway (network broker)")


@pytest.mark.parametrize(
    ("agent", "setting"),
    [
        ('command = "mine --base-url http://127.0.0.1:11434"', "command"),
        ('command = "mine --api-key sk-1"', "command"),
        ("command = \"sh -c 'OPENAI_API_KEY=sk-1 exec mine'\"", "command"),
        ('command = "mine"\nenv = { LLM_URL = "http://10.0.0.1" }', "env.LLM_URL"),
        ('command = "mine"\nenv = { https_proxy = "http://10.0.0.1" }', "env.https_proxy"),
    ],
)
def test_a_model_that_only_the_command_or_an_address_names_is_not_lost(
    tmp_path: pathlib.Path, agent: str, setting: str
) -> None:
    network = found(tmp_path, agent)
    assert (network.mode, network.why, network.setting) == ("shared", "own_key", setting)
