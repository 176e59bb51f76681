"""Permission rules: which of them a tool call fits, and which answer follows. Pure.

Deny wins over ask, ask over allow, at whatever level a rule was made; what fits no rule is for a person.

Guarantees: an allow rule fits a call only if everything that the call says was read, agrees, and fits; a
command must be one plain command (`command_words.plain`), and each path must fit. A deny or ask rule fits if
any part does. A rule reads what the agent says of a call (`claims.py`), never its title.
"""

from __future__ import annotations

import fnmatch
import functools
import glob as globs
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from gateway.agents import command_words
from gateway.agents.claims import Claim, paths_of_words
from gateway.config.permissions import RuleConfig
from gateway.config.tables import Config, PermissionsConfig
from gateway.events.facts import NamedRule, PermissionOption, PermissionRule

SESSION_RULES: Final = 200
"""A session has at most so many rules of its own."""
RULE_PATHS: Final = 8
"""A rule that an answer makes names at most so many paths."""
RULE_CHARACTERS: Final = 2_000
"""Its command and its paths are together at most so long, so that a person can read what it says."""
NEVER_ALLOWED: Final = frozenset(("switch_mode",))
"""Kinds that no rule allows: in another mode an agent may stop asking."""
_WEIGHT: Final = {"deny": 0, "ask": 1, "allow": 2}


# -- which there are --------------------------------------------------------------------------------------


def operator_rules(config: Config, *, tenant: str, agent: str) -> Iterator[NamedRule]:
    """The operator's rules for the sessions of one tenant with one agent, by their names in the file."""
    yield from _named("permissions", config.permissions)
    if tenant in config.tenants:
        yield from _named(f"tenants.{tenant}.permissions", config.tenants[tenant].permissions)
    if agent in config.agents:
        yield from _named(f"agents.{agent}.permissions", config.agents[agent].permissions)


def all_rules(config: Config, *, tenant: str | None = None) -> Iterator[NamedRule]:
    """Every rule of the operator; with `tenant`, without those of other tenants."""
    yield from _named("permissions", config.permissions)
    for name, one in config.tenants.items():
        if tenant in (None, name):
            yield from _named(f"tenants.{name}.permissions", one.permissions)
    for name, agent in config.agents.items():
        yield from _named(f"agents.{name}.permissions", agent.permissions)


def _named(prefix: str, permissions: PermissionsConfig) -> Iterator[NamedRule]:
    for action in ("deny", "ask", "allow"):
        rules: tuple[RuleConfig, ...] = getattr(permissions, action)
        for number, rule in enumerate(rules, 1):
            yield NamedRule(
                f"{prefix}.{action}.{number}",
                PermissionRule(
                    action=action,
                    kind=rule.kind,
                    tool=rule.tool,
                    command=rule.words,
                    path=rule.globs,
                    mcp_server=rule.mcp_server,
                ),
            )


# -- which one answers ------------------------------------------------------------------------------------


def decide(claim: Claim, rules: Iterable[NamedRule], *, cwd: str) -> NamedRule | None:
    """The rule that decides about a call in a session whose directory is `cwd`; None: a person does."""
    parts = _Parts(claim, cwd)
    fitting = (named for named in rules if _fits(named.rule, parts))
    return min(fitting, key=lambda named: _WEIGHT[named.rule.action], default=None)


class _Parts:
    """What any rule may be about in a call, each read once however many rules there are."""

    def __init__(self, claim: Claim, cwd: str) -> None:
        self.claim = claim
        self.cwd = cwd

    @functools.cached_property
    def runs(self) -> list[tuple[str, ...]]:
        """Every list of words that its command might run."""
        return list(command_words.runs(self.claim.command)) if self.claim.command else []

    @functools.cached_property
    def paths(self) -> list[str]:
        """Every path that it names, or that a word of its command may be."""
        of_command = (path for words in self.runs for path in paths_of_words(words, self.cwd))
        return list(dict.fromkeys((*self.claim.paths, *self.claim.doubtful, *of_command)))


def _fits(rule: PermissionRule, parts: _Parts) -> bool:
    """Whether a rule is about this call: strictly if it allows, generously if it does not."""
    claim = parts.claim
    if rule.action != "allow":
        return _fits_any(rule, parts)
    if rule.mcp_server and not rule.command and not rule.path:  # whatever its arguments
        return claim.kind not in NEVER_ALLOWED and _names_fit(rule, claim)
    return _may_allow(claim) and _fits_whole(rule, claim, parts.cwd)


def _may_allow(claim: Claim) -> bool:
    """Whether all of it was read, agrees, and is nothing that a shell makes something else of."""
    return claim.is_clear and claim.kind not in NEVER_ALLOWED and not (claim.command and not claim.words)


def _names_fit(rule: PermissionRule, claim: Claim) -> bool:
    return (
        rule.kind in ("", claim.kind)
        and rule.tool in ("", claim.tool)
        and rule.mcp_server in ("", claim.mcp_server)
        and rule.input in ("", claim.input)
    )


def _fits_whole(rule: PermissionRule, claim: Claim, cwd: str) -> bool:
    if not _names_fit(rule, claim):
        return False
    if rule.command:
        given = claim.words if rule.is_exact else claim.words[: len(rule.command)]
        return given == rule.command and not claim.mcp_server
    if rule.path:
        has_paths = bool(claim.paths) and not claim.command
        return has_paths and all(any(_matches(g, p, rule, cwd) for g in rule.path) for p in claim.paths)
    return True


def _fits_any(rule: PermissionRule, parts: _Parts) -> bool:
    if not _names_fit(rule, parts.claim):
        return False
    if rule.command:
        return any(_runs_it(words, rule) for words in parts.runs)
    if rule.path:
        return any(_matches(glob, path, rule, parts.cwd) for glob in rule.path for path in parts.paths)
    return True


def _runs_it(words: Sequence[str], rule: PermissionRule) -> bool:
    """Whether the rule's words are among these in this order, the program first, wherever it lies. Others may
    be between them: `git -C . push` is a `git push`.
    """
    if rule.is_exact:
        return tuple(words) == rule.command
    first, *rest = rule.command
    wanted = command_words.program(first)
    for at, word in enumerate(words):
        if word == first or command_words.program(word) == wanted:
            later = iter(words[at + 1 :])
            return all(one in later for one in rest)
    return False


# -- globs ------------------------------------------------------------------------------------------------


def _matches(glob: str, path: str, rule: PermissionRule, cwd: str) -> bool:
    if rule.is_exact:
        return path == glob
    return _is_match(posixpath.join(globs.escape(cwd), glob), path)


def _is_match(glob: str, path: str) -> bool:
    """Whether a path fits a glob: `*` and `?` inside one directory, `**` over any number of them."""
    return _parts_match(tuple(glob.strip("/").split("/")), tuple(path.strip("/").split("/")))


def _parts_match(wanted: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Takes as many steps as both are long together, multiplied, however many `**` there are."""
    reached = {0}
    for glob in wanted:
        if glob == "**":
            reached = set(range(min(reached, default=len(parts) + 1), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatch.fnmatchcase(parts[at], glob)}
        if not reached:
            return False
    return len(parts) in reached


# -- what an answer for always makes ----------------------------------------------------------------------


def rule_for(claim: Claim) -> PermissionRule | None:
    """What an answer for always holds for: this call and no other; None if the call says too little for a
    rule, or nothing that a rule may allow.
    """
    size = sum(len(text) + 1 for text in (*claim.words, *claim.paths))
    is_named = bool(claim.mcp_server and claim.tool) and claim.kind not in NEVER_ALLOWED
    if not is_named and (not _may_allow(claim) or size > RULE_CHARACTERS):
        return None
    about = PermissionRule(action="allow", kind=claim.kind, tool=claim.tool, mcp_server=claim.mcp_server)
    if is_named:
        return about
    if claim.words:
        return replace(about, command=claim.words, is_exact=True)
    if 0 < len(claim.paths) <= RULE_PATHS:
        return replace(about, path=claim.paths, is_exact=True)
    if claim.input and not claim.paths:
        return replace(about, input=claim.input)
    return None


# -- which option says it ---------------------------------------------------------------------------------


def answer_of(action: str, options: Sequence[PermissionOption]) -> str | None:
    """The option by which a rule answers; empty: the request is cancelled, as it offers no way to say no.
    None: a person answers, also if the only way to say yes is for always.
    """
    if action == "ask":
        return None
    kinds = ("allow_once",) if action == "allow" else ("reject_once", "reject_always")
    found = next((o.option_id for kind in kinds for o in options if o.kind == kind), None)
    return "" if found is None and action == "deny" else found


def once(chosen: PermissionOption, options: Sequence[PermissionOption]) -> str:
    """What the agent is told of a person's choice: for always becomes once, if there is a once."""
    if not chosen.kind.endswith("_always"):
        return chosen.option_id
    kind = chosen.kind.replace("_always", "_once")
    return next((o.option_id for o in options if o.kind == kind), chosen.option_id)
