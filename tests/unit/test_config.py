"""The configuration: file, environment, command line, and every mistake by its name."""

from __future__ import annotations

import json
import pathlib
import pwd
from collections.abc import Iterator
from types import NoneType
from typing import Any, Final, get_origin

import msgspec
import pytest

from gateway.agents import help as agent_help
from gateway.agents.catalogue import Agent, AgentCatalogue
from gateway.agents.connection import AuthMethod
from gateway.apps.product_chat import catalogue
from gateway.apps.shop import catalog
from gateway.apps.shop.settings import SHOP_AGENT
from gateway.config import applications
from gateway.config.file import ConfigError, is_table, load, plain, shown, types_of
from gateway.config.known_agents import KNOWN_AGENTS
from gateway.config.reloading import compared
from gateway.config.tables import BUILT_IN, AgentConfig, Config, Table, TenantConfig
from tests.gateways import ROOT


def written(path: pathlib.Path, text: str) -> pathlib.Path:
    file = path / "config.toml"
    file.write_text(text)
    return file


def test_nothing_is_a_configuration() -> None:
    assert load(environ={}) == Config()


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, "[server]\nport = 1\nhost = '127.0.0.2'\n[sessions]\nidle_timeout_seconds = 5\n")
    environ = {"AGENT_GATEWAY_SERVER_PORT": "2", "AGENT_GATEWAY_SESSIONS_SWEEP_INTERVAL_SECONDS": "7.5"}
    config = load(file, environ=environ, overrides={"server.port": 3})
    assert (config.server.port, config.server.host) == (3, "127.0.0.2")
    assert (config.sessions.idle_timeout_seconds, config.sessions.sweep_interval_seconds) == (5, 7.5)


def test_the_defaults_that_people_were_promised() -> None:
    sessions = Config().sessions
    assert (sessions.idle_timeout_seconds, sessions.sweep_interval_seconds) == (1800, 300)
    assert (Config().limits.max_live_workers, Config().limits.max_sessions) == (1_000, 100_000)


def test_agents_have_commands(tmp_path: pathlib.Path) -> None:
    file = written(
        tmp_path, '[agents.a]\ncommand = "my agent --acp"\n[agents.b]\ncommand = ["b", "two words"]\n'
    )
    agents = load(file, environ={}).agents
    assert agents["a"].argv == ("my", "agent", "--acp")
    assert agents["b"].argv == ("b", "two words")


@pytest.mark.parametrize(
    ("workers", "built_in", "command"),
    [("", "none", "broker"), ("shared", "shared", "shared"), ("none", "none", "none")],
)
def test_only_commands_get_a_network_unless_the_configuration_says_so(
    tmp_path: pathlib.Path, workers: str, built_in: str, command: str
) -> None:
    named = f"network = {workers!r}\n" if workers else ""
    agents = "[agents.mine]\ncommand = 'mine'\n[agents.shut]\ncommand = 'shut'\nnetwork = 'none'\n"
    agents += "[agents.open]\ncommand = 'open'\nnetwork = 'shared'\n"
    config = load(written(tmp_path, f"[workers]\n{named}{agents}"), environ={})
    known = AgentCatalogue(config, holds_broker=True).known
    found = {name: agent.sandbox.network for name, agent in known.items()}
    assert (found[BUILT_IN], found[SHOP_AGENT], found["mine"]) == (built_in, built_in, command)
    assert (found["shut"], found["open"]) == ("none", "shared")


def test_ten_mistakes_are_ten_lines(tmp_path: pathlib.Path) -> None:
    file = written(
        tmp_path,
        """
        default_agent = "nobody"
        colour = "red"
        [server]
        port = "eighty"
        hots = "x"
        [sessions]
        idle_timeout_seconds = -1
        sweep_interval_seconds = "often"
        [limits]
        max_sessions = 1.5
        [agents.NoGood]
        command = "x"
        [agents.a]
        command = 7
        [agents.b]
        cmd = "x"
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load(file, environ={"AGENT_GATEWAY_SERVER_PRT": "1"})
    names = [mistake.partition(":")[0] for mistake in caught.value.mistakes]
    assert names == [
        "AGENT_GATEWAY_SERVER_PRT", "colour", "server.port", "server.hots", "sessions.sweep_interval_seconds",
        "limits.max_sessions", "agents.NoGood", "agents.a.command", "agents.b.cmd",
    ]  # fmt: skip


@pytest.mark.parametrize("nice", [-1, 20])
def test_workers_never_go_before_others(nice: int, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"workers\.nice"):
        load(written(tmp_path, f"[workers]\nnice = {nice}\n"), environ={})


def test_contradictions_are_mistakes(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, 'default_agent = "x"\n[agents.a]\n[sessions]\nidle_timeout_seconds = -1\n')
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    assert len(caught.value.mistakes) == 3


@pytest.mark.parametrize("text", ["[server", "server = 3", 'agents = "x"'])
def test_a_broken_file_is_one_mistake(tmp_path: pathlib.Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), environ={})
    assert len(caught.value.mistakes) == 1


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ("[files]\nsnapshots_kept = 0", "files.snapshots_kept: Expected `int` >= 1"),
        ("[files]\nlink_seconds = 86400", "files.link_seconds: Expected `int` <= 3600"),
        ("[memory]\nkept_free_percent = 95", "memory.kept_free_percent: Expected `float` <= 90.0"),
        (
            '[cluster]\nurl = "10.0.0.5:8081"',
            "cluster.url: write http://HOST:PORT, where the other gateways reach this one",
        ),
        (
            '[cluster]\nname = "single"',
            "cluster.name: single is what a gateway without cluster.url is called; choose another",
        ),
        ("[cluster]\nbeat_seconds = 1", "cluster.lease_seconds: more than four times cluster.beat_seconds"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused(tmp_path: pathlib.Path, table: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, table), environ={})
    assert refused.value.mistakes == [mistake]


def test_a_missing_file_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nowhere.toml", environ={})


def test_the_model_comes_from_the_environment() -> None:
    model = load(environ={"AGENT_MODEL_URL": "http://m/v1", "AGENT_MODEL": "m", "AGENT_MODEL_KEY": "k"}).model
    assert model.is_configured
    assert (model.url, model.name, model.key) == ("http://m/v1", "m", "k")


def test_an_openai_key_alone_is_enough() -> None:
    model = load(environ={"OPENAI_API_KEY": "k"}).model
    assert model.is_configured
    assert model.url.startswith("https://api.openai.com/")


def test_without_a_model_the_built_in_agent_is_offline() -> None:
    config = load(environ={})
    assert not config.model.is_configured
    assert config.default_agent == BUILT_IN


def test_a_preset_fills_in_what_is_not_named(tmp_path: pathlib.Path) -> None:
    file = written(
        tmp_path,
        """
        [agents.claude]
        preset = "claude"
        pass_env = ["MINE"]
        [agents.own]
        preset = "opencode"
        command = "/opt/opencode acp"
        title = "Ours"
        [agents.own.env]
        OPENCODE_DISABLE_AUTOUPDATE = "0"
        """,
    )
    agents = load(file, environ={}).agents
    claude, own = agents["claude"], agents["own"]
    assert (claude.argv, claude.title) == (("claude-agent-acp",), "Claude")
    assert {"MINE", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} <= set(claude.pass_env)
    assert (own.argv, own.title) == (("/opt/opencode", "acp"), "Ours")
    assert json.loads(own.env["OPENCODE_PERMISSION"]) == {"bash": "ask", "edit": "ask"}
    assert (own.env["OPENCODE_DISABLE_AUTOUPDATE"], own.limits_preset) == ("0", "coding")


def test_a_preset_withholds_modes_that_approve_everything_unless_they_are_named(
    tmp_path: pathlib.Path,
) -> None:
    file = written(
        tmp_path,
        """
        [agents.safe]
        preset = "claude"
        [agents.listed]
        preset = "claude"
        options = { mode = ["default", "bypassPermissions"] }
        [agents.first]
        preset = "codex"
        options = { mode = "agent-full-access" }
        [agents.free]
        preset = "qwen"
        withheld_options = { mode = [] }
        """,
    )
    agents = load(file, environ={}).agents
    assert agents["safe"].withheld_options == {"mode": ("auto", "bypassPermissions")}
    assert agents["listed"].withheld_options == {"mode": ("auto",)}
    assert agents["first"].withheld_options == {"mode": ("agent",)}
    assert (agents["free"].withheld_options, agents["free"].options["mode"]) == ({"mode": ()}, "default")


def test_an_unknown_preset_and_a_command_that_cannot_be_split_are_named(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, '[agents.a]\npreset = "nobody"\n[agents.b]\ncommand = "x \'y"\n')
    with pytest.raises(ConfigError) as caught:
        load(file, environ={})
    unknown, unsplit = caught.value.mistakes
    assert "agents.a.preset: 'nobody'" in unknown
    assert "claude" in unknown
    assert unsplit == "agents.b.command: No closing quotation"


def test_fallbacks_give_way_to_what_is_named(tmp_path: pathlib.Path) -> None:
    fallbacks = {"default_agent": "codex", "agents.codex.preset": "codex"}
    config = load(None, environ={}, fallbacks=fallbacks)
    assert (config.default_agent, config.agents["codex"].argv) == ("codex", ("codex-acp",))
    file = written(tmp_path, 'default_agent = "built-in"\n[agents.codex]\ncommand = "mine"\n')
    config = load(file, environ={}, fallbacks=fallbacks)
    assert (config.default_agent, config.agents["codex"].argv) == (BUILT_IN, ("mine",))


def test_a_known_agent_authenticates_by_its_key_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def codex() -> Agent:
        config = load(None, environ={}, overrides={"agents.codex.preset": "codex"})
        return AgentCatalogue(config).get("codex")

    for name in KNOWN_AGENTS["codex"].credentials:
        monkeypatch.delenv(name, raising=False)
    assert codex().auth_method == ""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert (codex().auth_method, codex().env["OPENAI_API_KEY"]) == ("api-key", "k")


def test_the_documents_list_every_known_agent() -> None:
    text = (ROOT / "docs" / "agents.md").read_text()
    for known in KNOWN_AGENTS.values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{known.name}` |"))
        for word in (
            " ".join(known.command),
            known.install,
            *known.credentials,
            *known.options,
            *known.files,
        ):
            assert word in row


def test_what_to_do_about_credentials_is_said_of_a_known_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KNOWN_AGENTS["claude"].variables:
        monkeypatch.delenv(name, raising=False)
    config = load(None, environ={}, overrides={"agents.cl.command": "/opt/x/claude-agent-acp"})
    words = agent_help.credentials(AgentCatalogue(config).get("cl"), [])
    assert words.startswith("Set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN)")
    assert "`--agent-env ANTHROPIC_API_KEY`" in words
    assert '`[agents.cl] pass_env = ["ANTHROPIC_API_KEY"]`' in words
    assert "`claude setup-token`" in words
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    passing = load(None, environ={}, overrides={"agents.cl.preset": "claude"})
    words = agent_help.credentials(AgentCatalogue(passing).get("cl"), [])
    assert words == "It was given ANTHROPIC_API_KEY, which it does not take."


def test_of_the_methods_of_a_known_agent_the_one_that_takes_its_key_is_chosen() -> None:
    config = load(None, environ={}, overrides={"agents.g.command": "gemini --acp"})
    methods = [AuthMethod("oauth-personal"), AuthMethod("gemini-api-key"), AuthMethod("t", type="terminal")]
    words = agent_help.credentials(AgentCatalogue(config).get("g"), methods)
    assert words.endswith('Choose one: `[agents.g] auth_method = "gemini-api-key"`.')
    assert "run `gemini --acp` in a terminal" in words


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("sk-1\n", "utf-8-sig")
    (tmp_path / "config.toml").write_text(f'[model]\nkey_file = "{tmp_path}/key"\n', "utf-8-sig")
    assert load(tmp_path / "config.toml", environ={}).model.key == "sk-1"
    variables = {"TOKEN": str(tmp_path / "key")}
    config = load(environ={}, overrides={"agents.a.command": "true", "agents.a.env_files": variables})
    assert AgentCatalogue(config).of("a").env["TOKEN"] == "sk-1"
    chats = tmp_path / "data" / "products.json"
    chats.parent.mkdir()
    chats.write_text(json.dumps({"products": [{"id": 7, "name": "Lamp"}]}), "utf-8-sig")
    assert catalogue.read(chats)[7].name == "Lamp"
    chats.write_text(json.dumps({"products": []}), "utf-8-sig")
    assert catalog.load(tmp_path, "mine") == ()


def test_somebody_without_a_home_is_asked_for_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> object:
        raise KeyError(_uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    with pytest.raises(ConfigError, match=r"no home directory .* --data-dir"):
        load(environ={})
    assert load(environ={}, overrides={"data_dir": "/srv/data"}).data_path == pathlib.Path("/srv/data")
    places = {"data_dir": "~/data", "model.key_file": "~/key", "auth.secret_file": "~nobody-has-this/secret"}
    with pytest.raises(ConfigError, match=r"auth\.secret_file: ~nobody-has-this/secret: there is no home"):
        load(environ={}, overrides={**places, "model.key_file": ""})
    with pytest.raises(ConfigError, match=r"model\.key_file: ~/key: there is no home"):
        load(environ={}, overrides=places)


# -- reloading --------------------------------------------------------------------------------------------

OTHERS: Final = {str: "other", int: 7, float: 7.5, bool: None, tuple: ("other",), NoneType: ("x",)}
"""Values that no setting has, by type."""


def settings(table: type[Table] = Config, prefix: str = "") -> Iterator[str]:
    """Every setting that is no table of several by name."""
    for name, kind in types_of(table).items():
        inner = plain(kind)
        if is_table(inner):
            yield from settings(inner, f"{prefix}{name}.")
        elif get_origin(inner) is not dict:
            yield prefix + name


def own(config: Any, name: str) -> Any:
    """A setting or a table; of an application, too."""
    kind = applications.tables().get(name) if isinstance(config, Config) else None
    return getattr(config, name) if kind is None else config.of(kind)


def of(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = own(config, name)
    return config


def changed(config: Any, path: str) -> Any:
    """The configuration with another value of one setting."""
    name, _, rest = path.partition(".")
    before = own(config, name)
    after = changed(before, rest) if rest else OTHERS[type(before)]
    after = not before if isinstance(before, bool) else after
    if isinstance(config, Config) and name in applications.tables():
        return msgspec.structs.replace(config, tables=config.tables | {name: after})
    return msgspec.structs.replace(config, **{name: after})


@pytest.mark.parametrize("path", list(settings()))
def test_a_reload_takes_over_what_it_says_it_does_and_nothing_else(path: str) -> None:
    old = Config()
    new = changed(old, path)
    applied, waiting, kept = compared(old, new)
    assert applied + waiting == [path]
    assert of(kept, path) == of(new if applied else old, path)
    assert kept == (new if applied else old)


def test_what_waits_for_a_restart() -> None:
    """Where it listens, where its data is, its modes, its walls, and bounds that parts are built with."""
    old = Config()
    found = {path for path in settings() if compared(old, changed(old, path)).waiting}
    workers = {path for path in settings() if path.startswith("workers.")}
    server = {path for path in settings() if path.startswith("server.")}
    assert found == workers | (server - {"server.hosts", "server.ports_host", "server.public_url"}) | {
        *("applications.enabled", "data_dir", "store", "store_file", "telemetry.otlp_endpoint"),
        *("redis.url", "redis.url_file", "redis.mirror"),
        *("cluster.name", "cluster.url", "cluster.listen"),
        *("cluster.files", "cluster.files_max_bytes"),
        *("cluster.lease_seconds", "cluster.beat_seconds", "cluster.kill_seconds"),
        "cluster.leave_seconds",
        *("auth.modes", "auth.secret_file", "auth.old_secret_files"),
        *("limits.events_per_session", "limits.event_bytes_per_session", "limits.session_memory_bytes"),
        *("limits.streams_per_owner", "limits.waiting_streams_per_owner"),
        *("limits.session_requests_per_second", "limits.session_burst"),
        *("limits.address_requests_per_second", "limits.address_burst"),
        "limits.wrong_credentials_per_minute",
    }


def test_agents_and_tenants_are_taken_over_one_by_one() -> None:
    old = Config(agents={"a": AgentConfig(command="x")})
    new = Config(
        agents={"a": AgentConfig(command="y"), "b": AgentConfig(command="z")}, tenants={"t": TenantConfig()}
    )
    applied, waiting, kept = compared(old, new)
    assert "agents.a.command" in applied
    assert not waiting
    assert kept == new


@pytest.mark.parametrize("value", ["auto", "none", "*.preview.example", "*.preview.example:8443"])
def test_the_host_of_agents_servers_is_a_domain(tmp_path: pathlib.Path, value: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[server]\nports_host = "{value}"\n')
    assert load(file).server.ports_host == value
    file.write_text('[server]\nports_host = "preview.example"\n')
    with pytest.raises(ConfigError, match=r"server\.ports_host: write"):
        load(file)


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ('url = "https://x.example"', "webhook.secret"),
        ('url = "https://x.example"\nsecret = "whsec_c2hvcnQ="', "webhook.secret"),
        ('url = "ftp://x.example"\nsecret = "SECRET"', "webhook.url"),
        ('url = "https://me:pw@x.example"\nsecret = "SECRET"', "webhook.url"),
        ('url = "https://[::1/hook"\nsecret = "SECRET"', "webhook.url"),
        ('url = "https://x.example:99999"\nsecret = "SECRET"', "webhook.url"),
        ('url = "https://x.example"\nsecret = "SECRET"\nevents = ["turn.endet"]', "webhook.events"),
        ('url = "https://x.example"\nsecret_file = "/nowhere"', "webhook.secret_file"),
        ("waits_minutes = 0", "webhook.waits_minutes"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(tmp_path: pathlib.Path, table: str, mistake: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[webhook]\n" + table.replace("SECRET", "whsec_" + "ab" * 20))
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert mistake in {one.partition(":")[0] for one in caught.value.mistakes}


def test_the_webhooks_secret_is_read_from_its_file_and_never_shown(tmp_path: pathlib.Path) -> None:
    secret = "whsec_" + "ab" * 20
    (tmp_path / "secret").write_text(secret + "\n")
    path = tmp_path / "config.toml"
    path.write_text(f'[webhook]\nurl = "https://x.example"\nsecret_file = "{tmp_path}/secret"\n')
    config = load(path, environ={})
    assert config.webhook.secret == secret
    assert secret not in shown(config)


def test_the_store_may_be_named_by_a_file_and_its_password_is_never_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "store").write_text("postgresql://gateway:hush@db/gateway\n")
    config = load(environ={}, overrides={"store_file": str(tmp_path / "store")})
    assert config.store == "postgresql://gateway:hush@db/gateway"
    assert config.is_on_postgresql
    assert "hush" not in shown(config)
    with pytest.raises(ConfigError, match=r"^store_file: /nowhere: No such file"):
        load(environ={}, overrides={"store_file": "/nowhere"})
