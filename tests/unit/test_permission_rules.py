"""Permission rules: what they fit, and what tries to slip past them."""

from __future__ import annotations

import itertools
import json
import pathlib
import shlex
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.agents import command_words
from gateway.agents import permission_rules as rules
from gateway.agents.claims import INPUT_BYTES, KEPT_BYTES, PATH_CHARACTERS, Claim
from gateway.agents.links import has_link
from gateway.agents.translate import AskedToolCall, Translator
from gateway.config.permissions import RuleConfig
from gateway.config.tables import Config, PermissionsConfig, TenantConfig
from gateway.events.facts import NamedRule, PermissionOption, PermissionRule

CWD: Final = "/data/sessions/k/work"

ALLOW_GIT: Final = PermissionRule(action="allow", command=("git", "status"))
ALLOW_ALL_COMMANDS: Final = PermissionRule(action="allow", kind="execute")
ALLOW_SRC: Final = PermissionRule(action="allow", kind="edit", path=("src/**",))
DENY_RM: Final = PermissionRule(action="deny", command=("rm",))
ASK_PUSH: Final = PermissionRule(action="ask", command=("git", "push"))


def asking(agent: str = "", *, before: tuple[dict[str, Any], ...] = (), **call: Any) -> Claim:
    """What a request with this `toolCall` claims, after these updates."""
    translator = Translator()
    translator.begin_turn("t1")
    translator.events([Raw(json.dumps({"toolCallId": "c", **update}).encode()) for update in before])
    plain = {name: call.pop(name) for name in ("title", "kind", "tool_name") if name in call}
    given: dict[str, Any] = {name: Raw(json.dumps(value).encode()) for name, value in call.items()}
    said = AskedToolCall(tool_call_id="c", **plain, **given)
    return translator.claim(said, cwd=CWD, agent=agent, has_link=lambda _path: False)


def running(command: Any, **more: Any) -> Claim:
    """A command as Claude, Codex, opencode, Vibe and others ask for it."""
    return asking(kind="execute", raw_input={"command": command, **more})


def editing(path: str, **more: Any) -> Claim:
    return asking(kind="edit", raw_input={"file_path": path, **more})


def decided(claim: Claim, *found: PermissionRule) -> str:
    """What these rules say: allow, deny or ask; ask, too, if none fits."""
    named = [NamedRule(f"r{number}", rule) for number, rule in enumerate(found)]
    one = rules.decide(claim, named, cwd=CWD)
    return one.rule.action if one is not None else "ask"


# -- what fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "git status",
        "git  status ",
        "git status -s",
        "'git' \"status\"",
        ["git", "status"],
        "git status 'a b'",
    ],
)
def test_a_command_that_begins_so_is_allowed(command: Any) -> None:
    assert decided(running(command), ALLOW_GIT) == "allow"


@pytest.mark.parametrize("command", ["git", "git statusx", "gitstatus", "git stash", "ls", "", []])
def test_another_command_is_asked_about(command: Any) -> None:
    assert decided(running(command), ALLOW_GIT) == "ask"


@pytest.mark.parametrize("path", ["src/a.py", f"{CWD}/src/a/b.py", "./src/x", "src/../src/y", "src//z"])
def test_a_path_below_a_glob_is_allowed(path: str) -> None:
    assert decided(editing(path), ALLOW_SRC) == "allow"


def test_deny_wins_over_ask_over_allow_in_any_order() -> None:
    claim = running("git push")
    allow = PermissionRule(action="allow", command=("git",))
    ask, deny = ASK_PUSH, PermissionRule(action="deny", command=("git", "push"))
    for order in itertools.permutations((allow, ask, deny)):
        assert decided(claim, *order) == "deny"
    assert {decided(claim, *order) for order in itertools.permutations((allow, ask))} == {"ask"}
    assert decided(claim, allow) == "allow"


def test_by_tool_and_by_mcp_server() -> None:
    meta = {"sessionUpdate": "tool_call", "_meta": {"claudeCode": {"toolName": "mcp__files__write_file"}}}
    claim = asking(before=(meta,), kind="other", raw_input={"path": "a"})
    assert (claim.mcp_server, claim.tool) == ("files", "write_file")
    assert decided(claim, PermissionRule(action="allow", mcp_server="files")) == "allow"
    assert decided(claim, PermissionRule(action="allow", mcp_server="files", tool="write_file")) == "allow"
    assert decided(claim, PermissionRule(action="allow", mcp_server="other")) == "ask"
    codex = asking("codex", kind="execute", raw_input={"server": "files", "tool": "read", "arguments": {}})
    assert (codex.mcp_server, codex.tool) == ("files", "read")


def test_a_server_that_is_allowed_may_be_called_with_anything() -> None:
    claim = asking(kind="other", tool_name="mcp__shell__run", raw_input={"command": "a; b", "path": "~/x"})
    assert decided(claim, PermissionRule(action="allow", mcp_server="shell")) == "allow"
    assert decided(claim, PermissionRule(action="allow", kind="other")) == "ask"
    assert decided(claim, PermissionRule(action="allow", mcp_server="shell"), DENY_RM) == "allow"
    removing = asking(kind="other", tool_name="mcp__shell__run", raw_input={"command": "a; rm b"})
    assert decided(removing, PermissionRule(action="allow", mcp_server="shell"), DENY_RM) == "deny"


def test_vibes_input_is_text_with_json_inside() -> None:
    claim = asking("vibe", kind="execute", raw_input=json.dumps({"command": "git status", "timeout": None}))
    assert decided(claim, ALLOW_GIT) == "allow"


def test_what_was_said_before_counts_and_the_request_changes_it() -> None:
    before = ({"sessionUpdate": "tool_call", "kind": "execute", "rawInput": {"command": "git status"}},)
    assert decided(asking(before=before), ALLOW_GIT) == "allow"
    assert decided(asking(before=before, raw_input={"command": "rm x"}), ALLOW_GIT, DENY_RM) == "deny"


def test_rules_of_the_operator_hold_for_everybody_one_tenant_or_one_agent() -> None:
    rule = RuleConfig(command="rm")
    of_tenant = TenantConfig(permissions=PermissionsConfig(allow=(RuleConfig(kind="read"),)))
    config = Config(permissions=PermissionsConfig(deny=(rule,)), tenants={"acme": of_tenant})
    names = [named.rule_id for named in rules.operator_rules(config, tenant="acme", agent="x")]
    assert names == ["permissions.deny.1", "tenants.acme.permissions.allow.1"]
    assert [r.rule_id for r in rules.operator_rules(config, tenant="beta", agent="x")] == names[:1]


# -- evasions: no allow rule fits -------------------------------------------------------------------------

HIDDEN: Final = {
    "another command behind it": "git status; rm -rf /",
    "one after success": "git status && rm -rf /",
    "one after failure": "git status || rm -rf /",
    "one in the background": "git status & rm -rf /",
    "a pipe": "git status | sh",
    "a pipe with errors": "git status |& sh",
    "a redirection": "git status > ~/.bashrc",
    "an appending redirection": "git status >>/etc/passwd",
    "an input": "git status < /etc/shadow",
    "a here string": "git status <<< x",
    "a substitution": "git status $(rm -rf /)",
    "an old substitution": "git status `rm -rf /`",
    "a substitution in quotes": 'git status "$(rm -rf /)"',
    "a process substitution": "git status <(rm -rf /)",
    "a variable": "git status $HOME",
    "a variable in quotes": 'git status "$X"',
    "a variable for a space": "git${IFS}status",
    "a new line": "git status\nrm -rf /",
    "a carriage return": "git status\rrm -rf /",
    "a new line in quotes": "git status 'a\nb'",
    "a continued line": "git status \\\n; rm -rf /",
    "an escaped character": "git\\ status x",
    "a subshell": "(git status)",
    "a group": "{ git status; }",
    "braces": "git status {a,b}",
    "a glob": "git status *",
    "a character class": "git status [a-z]",
    "a home directory": "git status ~root",
    "a comment": "git status # harmless",
    "history": "git status !!",
    "a quote without an end": "git status 'x",
    "a variable before it": "GIT_PAGER=rm git status",
    "env": "env git status",
    "env with a variable": "env GIT_PAGER=rm git status",
    "env by its path": "/usr/bin/env git status",
    "sh -c": "sh -c 'git status; rm -rf /'",
    "bash -c": "bash -c 'git status'",
    "bash -lc": 'bash -lc "git status"',
    "xargs": "xargs git status",
    "nohup": "nohup git status",
    "sudo": "sudo git status",
    "timeout": "timeout 5 git status",
    "eval": "eval git status",
    "another git": "/tmp/git status",
    "a git of the directory": "./git status",
    "a look-alike": "gіt status",
    "a space that is none": "git\u00a0status",
    "a mark that turns the direction": "git status \u202ex",
    "an escape sequence of a terminal": "git status \x1b[2K",
    "a null byte": "git status \x00x",
    "an ANSI quote": "$'git' status",
    "an option first": "-c git status",
    "a list with a shell": ["bash", "-c", "git status"],
    "a list whose first word is a line": ["git status; rm -rf /", "x"],
    "a list that is joined": ["git", "status", "; rm -rf /"],
    "a list with a new line": ["git", "status", "\nrm"],
    "a list of other things": ["git", {"status": 1}],
    "a number": 7,
    "an object": {"git": "status"},
    "words without an end": "git status " + "x" * command_words.COMMAND_CHARACTERS,
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize(
    "rule", [ALLOW_GIT, ALLOW_ALL_COMMANDS, PermissionRule(action="allow", command=("git",))]
)
def test_no_allow_rule_fits_a_command_with(name: str, rule: PermissionRule) -> None:
    if rule is ALLOW_ALL_COMMANDS and name.startswith(("another git", "a git of", "a look-alike")):
        return  # one plain command of another program: that rule is for all of them
    claim = running(HIDDEN[name])
    assert decided(claim, rule) == "ask"
    assert rules.rule_for(claim) is None or rule is not ALLOW_ALL_COMMANDS


UNCLEAR: Final[dict[str, Any]] = {
    "a title alone": {"title": "git status", "kind": "execute"},
    "text in the content alone": {
        "kind": "execute",
        "content": [{"type": "content", "content": {"type": "text", "text": "git status"}}],
    },
    "another kind": {"kind": "read", "raw_input": {"command": "git status"}},
    "no kind": {"raw_input": {"command": "git status"}},
    "two commands": {"kind": "execute", "raw_input": {"command": "git status", "cmd": "rm -rf /"}},
    "variables beside it": {
        "kind": "execute",
        "raw_input": {"command": "git status", "env": {"GIT_PAGER": "rm"}},
    },
    "another directory": {"kind": "execute", "raw_input": {"command": "git status", "cwd": "/tmp/evil"}},
    "a directory above": {
        "kind": "execute",
        "raw_input": {"command": "git status", "workdir": "../../other"},
    },
    "a directory that is none": {"kind": "execute", "raw_input": {"command": "git status", "cwd": 7}},
    "no sandbox": {
        "kind": "execute",
        "raw_input": {"command": "git status", "dangerouslyDisableSandbox": True},
    },
    "more rights": {
        "kind": "execute",
        "raw_input": {"command": "git status", "additionalPermissions": {"network": 1}},
    },
    "a patch beside it": {
        "kind": "execute",
        "raw_input": {"command": "git status"},
        "content": [{"type": "diff", "path": "/etc/passwd", "oldText": "", "newText": "x"}],
    },
    "input that is text": {"kind": "execute", "raw_input": "git status"},
    "input that is a list": {"kind": "execute", "raw_input": ["git", "status"]},
    "content that is none": {"kind": "execute", "raw_input": {"command": "git status"}, "content": [7]},
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_no_allow_rule_fits_a_call_that_says(name: str) -> None:
    claim = asking(**UNCLEAR[name])
    assert decided(claim, ALLOW_GIT, PermissionRule(action="allow", kind="read")) == "ask"


def test_a_server_that_a_model_claims_is_none() -> None:
    claim = asking("opencode", kind="other", raw_input={"server": "trusted", "tool": "read", "arguments": {}})
    assert decided(claim, PermissionRule(action="allow", mcp_server="trusted")) == "ask"


def test_a_tool_of_a_server_runs_no_command() -> None:
    claim = asking(kind="execute", tool_name="mcp__x__run", raw_input={"command": "git status"})
    assert decided(claim, ALLOW_GIT) == "ask"


def test_what_was_too_long_to_keep_is_asked_about() -> None:
    long = {"command": "git status", "description": "x" * KEPT_BYTES}
    before = ({"sessionUpdate": "tool_call", "kind": "execute", "rawInput": long},)
    assert decided(asking(before=before), ALLOW_GIT, ALLOW_ALL_COMMANDS) == "ask"
    assert decided(asking(before=before, raw_input=long), ALLOW_GIT) == "allow"


def test_what_was_said_in_another_turn_counts_no_longer() -> None:
    translator = Translator()
    translator.begin_turn("t1")
    said = {
        "sessionUpdate": "tool_call",
        "toolCallId": "c",
        "kind": "execute",
        "rawInput": {"command": "git status"},
    }
    translator.events([Raw(json.dumps(said).encode())])
    translator.begin_turn("t2")
    claim = translator.claim(AskedToolCall(tool_call_id="c"), cwd=CWD, agent="", has_link=lambda _path: False)
    assert decided(claim, ALLOW_GIT) == "ask"


def test_no_rule_allows_another_mode() -> None:
    claim = asking(kind="switch_mode", raw_input={"plan": "x"})
    assert decided(claim, PermissionRule(action="allow", kind="switch_mode")) == "ask"
    assert rules.rule_for(claim) is None


# -- evasions: paths --------------------------------------------------------------------------------------

OUTSIDE: Final = {
    "above": "src/../../other/a.py",
    "above at the end": "src/..",
    "absolute": "/etc/passwd",
    "a name that begins so": "src-evil/a.py",
    "a home directory": "~/src/a.py",
    "a variable": "$HOME/src/a.py",
    "a null byte": "src/a\x00.py",
    "a new line": "src/a\nb",
    "a backslash": "src\\..\\a",
    "an escaped dot": "src/%2e%2e/a",
    "an address": "https://example.org/src/a",
    "a file address": "file:///etc/passwd",
    "nothing": "",
    "the whole of it": ".",
    "too long": "src/" + "x" * 5_000,
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_allow_rule_fits_a_path_that_is(name: str) -> None:
    assert decided(editing(OUTSIDE[name]), ALLOW_SRC) == "ask"


@pytest.mark.parametrize(
    "more",
    [
        {"locations": [{"path": "/etc/passwd"}]},
        {"content": [{"type": "diff", "path": "/etc/passwd", "newText": "x"}]},
        {"raw_input": {"file_path": "src/a", "output_path": "/etc/passwd"}},
        {"raw_input": {"file_path": "src/a", "edits": [{"path": "/etc/passwd"}]}},
        {"raw_input": {"file_path": "src/a", "changes": {"/etc/passwd": {"add": "x"}}}},
        {"raw_input": {"files": ["src/a", "/etc/passwd"]}},
        {"raw_input": {"path": "src/a", "command": "rm -rf /"}},
        {"raw_input": {"file_path": "src/a"}, "locations": "src/a"},
        {"kind": "delete", "raw_input": {"file_path": "src/a"}},
        {"kind": "read", "content": [{"type": "diff", "path": "src/a", "newText": "x"}]},
        {"raw_input": {"file_path": [f"src/{number}" for number in range(100)]}},
    ],
)
def test_every_path_must_fit(more: dict[str, Any]) -> None:
    call = {"kind": "edit", "raw_input": {"file_path": "src/a"}, **more}
    assert decided(asking(**call), ALLOW_SRC) == "ask"


def test_a_symbolic_link_that_is_seen_is_asked_about(tmp_path: pathlib.Path) -> None:
    work = tmp_path / "key" / "work"
    (work / "src").mkdir(parents=True)
    (work / "src" / "out").symlink_to("/etc")
    (work / "src" / "a").write_text("x")
    (tmp_path / "key" / "home").symlink_to("/etc")
    for inside in ("/session/work", str(work)):
        seen = {
            name: has_link(f"{inside}/{name}", inside=inside, outside=str(work))
            for name in ("src/a", "src/new/file", "src/out/passwd", "src/out", "x" + "/x" * 1_000)
        }
        assert list(seen.values()) == [False, False, True, True, True], seen
        near = inside.removesuffix("/work")
        assert has_link(f"{near}/home/.bashrc", inside=inside, outside=str(work))
    assert has_link("/proc/self/exe", inside="/session/work", outside=str(work))
    linked = Claim(kind="edit", paths=(f"{CWD}/src/a",), is_clear=False)
    assert decided(linked, ALLOW_SRC) == "ask"


@pytest.mark.parametrize(
    ("glob", "path", "is_match"),
    [
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/a/b.py", False),
        ("src/**", "src", True),
        ("**/x", "a/b/x", True),
        ("**/x", "x", True),
        ("a/**/b/**/c", "a/b/c", True),
        ("a/**/b/**/c", "a/1/b/2/3/c", True),
        ("a/**/b", "a/b/c", False),
        ("/etc/**", "/etc/ssl/x", True),
        ("a?", "ab", True),
        ("[ab]", "a", True),
    ],
)
def test_globs(glob: str, path: str, *, is_match: bool) -> None:
    rule = PermissionRule(action="allow", kind="edit", path=(glob,))
    assert (decided(editing(path), rule) == "allow") is is_match


def test_a_glob_with_many_stars_takes_no_time() -> None:
    rule = PermissionRule(action="deny", path=("/".join(["**", "*a*"] * 200),))
    assert decided(editing("/".join("b" * 10 for _ in range(300))), rule) == "ask"


# -- what is forbidden is found anywhere ------------------------------------------------------------------

FORBIDDEN: Final = [
    "rm x",
    "/bin/rm x",
    "./rm x",
    "\\rm x",
    "'rm' x",
    "r''m x",
    'r"m" x',
    "$'\\x72m' x",
    "ls; rm x",
    "ls && rm x",
    "ls\nrm x",
    "ls | xargs rm",
    "$(rm x)",
    "`rm x`",
    'echo "$(rm x)"',
    "(rm x)",
    "{ rm x; }",
    "env A=b rm x",
    "sudo -u root rm x",
    "nohup rm x &",
    "sh -c 'rm x'",
    "bash -lc \"sh -c 'rm x'\"",
    "find . -exec rm {} ;",
    "PAGER=rm git log",
    "tar --to-command=rm -xf a.tar",
    "rm${IFS}x",
    "rm$IFS-rf x",
    "r\\\nm x",
    ["rm", "x"],
    ["bash", "-c", "rm x"],
    "git status " + "y" * 50 + "; rm x",
]


@pytest.mark.parametrize("command", FORBIDDEN, ids=str)
def test_a_deny_rule_fits_any_part_of_a_command(command: Any) -> None:
    claim = running(command)
    assert (
        decided(claim, DENY_RM, ALLOW_ALL_COMMANDS, PermissionRule(action="allow", command=("rm",))) == "deny"
    )
    assert decided(asking(kind="other", raw_input={"cmd": command}), DENY_RM) == "deny"


@pytest.mark.parametrize("command", ["git push", "git -C . push", "git --git-dir=x push -f", "env git push"])
def test_words_between_do_not_hide_what_is_to_be_asked_about(command: str) -> None:
    assert decided(running(command), PermissionRule(action="allow", command=("git",)), ASK_PUSH) == "ask"


@pytest.mark.parametrize("command", ["ls", "git status", "cargo rmx", "firm x"])
def test_a_deny_rule_does_not_fit_another_command(command: str) -> None:
    assert decided(running(command), DENY_RM, ALLOW_ALL_COMMANDS) == "allow"


@pytest.mark.parametrize(
    "command", ["cat .env", "cat ./a/.env", "cp --from=.env x", f"cat {CWD}/.env", "cat x<.env"]
)
def test_a_path_that_is_forbidden_is_found_in_commands(command: str) -> None:
    deny = PermissionRule(action="deny", path=("**/.env",))
    assert decided(running(command), deny, ALLOW_ALL_COMMANDS) == "deny"


def test_a_path_that_leads_nobody_knows_where_is_forbidden_by_its_name() -> None:
    deny = PermissionRule(action="deny", path=("/**/.ssh/**",))
    assert decided(editing("~/.ssh/id_rsa"), deny) == "deny"
    assert decided(running("cat ~/.ssh/id_rsa"), deny) == "deny"


def test_a_command_with_very_many_parts_takes_no_time() -> None:
    assert decided(running(";".join(["a"] * 8_000)), DENY_RM, ALLOW_ALL_COMMANDS) == "ask"
    assert decided(running("(" * 16_000), DENY_RM) == "ask"
    assert decided(running("'\\" * 8_000), DENY_RM) == "ask"


@pytest.mark.parametrize(
    "words", [["a"] * 1_000_000, ["x=$(a"] * 500_000, ["x y " * 1_000_000], ["sh", "-c", "a " * 1_000_000]]
)
def test_of_a_list_of_words_no_more_is_read_than_of_a_line(words: list[str]) -> None:
    read = list(command_words.runs(words))
    assert read[0][0] == words[0][: command_words.COMMAND_CHARACTERS]
    assert sum(map(len, itertools.chain.from_iterable(read))) <= 2 * command_words.COMMAND_CHARACTERS


def test_an_input_that_is_longer_than_a_model_writes_is_not_read() -> None:
    long = running("git status", description="x" * INPUT_BYTES)
    assert (long.command, long.input, long.is_clear) == ("", "", False)
    assert decided(long, ALLOW_GIT, ALLOW_ALL_COMMANDS) == "ask"


def test_of_a_path_that_is_longer_than_any_no_more_is_read() -> None:
    claim = asking(kind="edit", content=[{"type": "diff", "path": "/a" * 100_000, "newText": ""}])
    assert not claim.paths
    assert max(map(len, claim.doubtful)) <= PATH_CHARACTERS + len(CWD) + 1
    assert decided(claim, PermissionRule(action="allow", kind="edit", path=("**",))) == "ask"


# -- properties -------------------------------------------------------------------------------------------

SHELL: Final = " \t\n;&|<>()$`{}*?[]~#!\\\"'^=-a.gitstaus/é\u202e"


@given(st.text(SHELL, max_size=40))
def test_what_is_plain_is_what_a_shell_would_read(text: str) -> None:
    words = command_words.plain(text)
    if words is not None:
        assert list(words) == shlex.split(text)
        assert all(word.isprintable() for word in words)


@given(st.text(SHELL, max_size=40))
def test_every_plain_command_is_among_those_that_are_looked_at(text: str) -> None:
    words = command_words.plain(text)
    assert words is None or words in list(command_words.runs(text))


@given(st.text(max_size=200) | st.lists(st.text(max_size=20), max_size=8))
def test_nothing_breaks_the_readers(command: Any) -> None:
    claim = running(command)
    assert len(list(command_words.runs(command))) <= command_words.RUNS
    assert decided(claim, ALLOW_GIT, DENY_RM, ASK_PUSH) in ("allow", "ask", "deny")


@given(
    st.lists(st.sampled_from(["git", "status", "rm", "-x", "a b"]), min_size=1, max_size=5), st.text(SHELL)
)
def test_a_denied_command_is_never_allowed_by_what_is_put_behind_it(words: list[str], rest: str) -> None:
    text = shlex.join([*words, "rm"]) + ";" + rest
    allow = PermissionRule(action="allow", kind="execute")
    assert decided(running(text), allow, DENY_RM) in ("deny", "ask")
    assert decided(running(text), allow) == "ask"


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON, JSON, st.sampled_from(["", "edit", "execute", "read", "switch_mode"]))
def test_no_input_breaks_a_claim(raw_input: Any, content: Any, locations: Any, kind: str) -> None:
    claim = asking(kind=kind, raw_input=raw_input, content=content, locations=locations)
    rule = rules.rule_for(claim)
    if rule is not None:
        assert decided(claim, rule) == "allow"


@given(st.lists(st.sampled_from(["src", "..", ".", "a", ""]), max_size=8).map("/".join))
def test_an_allowed_path_is_below_what_the_rule_names(path: str) -> None:
    claim = editing(path)
    if decided(claim, ALLOW_SRC) == "allow":
        assert all(f"{one}/".startswith(f"{CWD}/src/") for one in claim.paths)


# -- what an answer for always makes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim",
    [
        running("npm test"),
        editing("src/a.py"),
        asking(kind="fetch", raw_input={"url": "https://example.org"}),
        asking(kind="other", tool_name="mcp__files__write", raw_input={"path": "a"}),
    ],
)
def test_always_holds_for_the_same_call_and_not_for_another(claim: Claim) -> None:
    rule = rules.rule_for(claim)
    assert rule is not None
    assert decided(claim, rule) == "allow"
    others = [
        running("npm test x"),
        running("npm"),
        editing("src/b.py"),
        asking(kind="fetch", raw_input={"url": "b"}),
    ]
    assert [decided(other, rule) for other in others] == ["ask"] * 4


@pytest.mark.parametrize(
    "claim",
    [
        running("npm test && rm x"),
        asking(title="Delete everything?", kind="other"),
        running("x " * 1_500),
        asking(kind="edit", raw_input={"files": [f"src/{number}" for number in range(20)]}),
    ],
)
def test_always_makes_no_rule_of_what_says_too_little_or_too_much(claim: Claim) -> None:
    assert rules.rule_for(claim) is None


def test_input_is_the_same_however_it_is_written() -> None:
    first, second = (
        asking(kind="fetch", raw_input={"url": "a", "n": 1}),
        asking(kind="fetch", raw_input={"n": 1, "url": "a"}),
    )
    assert first.input == second.input != ""


# -- which option says it ---------------------------------------------------------------------------------


def options(*kinds: str) -> list[PermissionOption]:
    return [PermissionOption(f"o{number}", kind, kind) for number, kind in enumerate(kinds)]


def test_a_rule_says_yes_only_once_and_no_in_any_way() -> None:
    assert rules.answer_of("allow", options("allow_always", "allow_once", "reject_once")) == "o1"
    assert rules.answer_of("allow", options("allow_always", "reject_once")) is None
    assert rules.answer_of("deny", options("allow_once", "reject_always", "reject_once")) == "o2"
    assert rules.answer_of("deny", options("allow_once", "reject_always")) == "o1"
    assert rules.answer_of("deny", options("allow_once")) == ""
    assert rules.answer_of("ask", options("allow_once", "reject_once")) is None


def test_a_person_who_says_always_says_once_to_the_agent() -> None:
    offered = options("allow_always", "allow_once", "reject_once")
    assert rules.once(offered[0], offered) == "o1"
    assert rules.once(offered[2], offered) == "o2"
    alone = options("allow_always", "reject_once")
    assert rules.once(alone[0], alone) == "o0"
