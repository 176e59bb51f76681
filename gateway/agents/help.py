"""What to do about an agent that wants credentials, ends at once or is not installed, in words for the
session that it failed in. Pure but for looking whether a program is there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.agents import grants
from gateway.agents.catalogue import Agent, AgentCatalogue
from gateway.agents.connection import AuthMethod

METHODS_NAMED: Final = 8
WORDS_CHARACTERS: Final = 200
"""So many of an agent's methods are named, each by at most so many characters of its own words."""


def credentials(agent: Agent, methods: Sequence[AuthMethod]) -> str:
    """What to set for an agent that wants credentials; `methods` are those that it offers."""
    known = agent.known
    given = [name for name in (known.credentials if known else ()) if agent.env.get(name)]
    if given:
        sentences = [f"It was given {', '.join(given)}, which it does not take."]
    else:
        sentences = [_how_to_pass(agent)]
    if known is not None and known.login and not given:
        sentences.append(known.login)
    if methods:
        sentences.append(_offered(agent, methods))
    return " ".join(sentences)


def ended_at_once(agent: Agent, said: str) -> str:
    """What an agent may lack that ended before it answered; `said` are its last words on stderr. Empty if
    nothing is known to be lacking.
    """
    if agent.is_built_in:
        return ""
    if hidden := _hidden(agent, said):
        return hidden
    known = agent.known
    if known is not None:
        return "" if any(agent.env.get(name) for name in known.credentials) else _how_to_pass(agent)
    return f"Agents get no variables but those that are named for them: {_where(agent, 'NAME')}."


def not_started(agent: Agent) -> str:
    """What to do if the command could not be run at all."""
    if agent.is_built_in or (words := not_found(agent)):
        return "" if agent.is_built_in else words
    program = _program(agent)
    runner = grants.interpreter(program, grants.with_own_directories(agent.argv, agent.search_path))
    if runner is not None and not os.path.exists(runner):
        return f"It is run by {runner}, which is not found on the gateway's PATH."
    needed = _readable(agent, os.path.dirname(os.path.realpath(program)))
    return f"It is at {program}: name what it needs to read besides in {needed}."


def _hidden(agent: Agent, said: str) -> str:
    """Words about a path of the machine that the agent missed and its walls hide; empty if there is none."""
    if not any(word in said for word in _MISSED):
        return ""
    seen = (*agent.walls().readable, *agent.sandbox.writable, *_SYSTEM)
    named = [found for found in _PATH.findall(said) if not _is_below(found, seen)]
    near = [found if os.path.exists(found) else os.path.dirname(found) for found in named]
    for path in (*near, os.path.dirname(os.path.realpath(_program(agent)))):
        if path.count("/") > 1 and os.path.exists(path) and not _is_below(path, seen):
            return f"Its walls hide {path}: if it may read that, name it in {_readable(agent, path)}."
    return ""


def _program(agent: Agent) -> str:
    return shutil.which(agent.argv[0], path=agent.search_path) or agent.argv[0]


def _is_below(path: str, others: Iterable[str]) -> bool:
    return any(path == other or path.startswith(other.rstrip("/") + "/") for other in others)


def _readable(agent: Agent, path: str) -> str:
    return f'`[agents.{agent.name}] readable = ["{path}"]`'


_MISSED: Final = ("No such file", "not found", "Cannot find", "ENOENT", "EACCES", "denied", "No module named")
_PATH: Final = re.compile(r"/[^\s'\"`:;,()<>\[\]]+")
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev", "/session")


def not_found(agent: Agent) -> str:
    """What to do if there is no such program; empty if there is, or if it cannot be told here."""
    program = agent.argv[0] if agent.argv else ""
    if agent.is_built_in or not program or shutil.which(program, path=agent.search_path) is not None:
        return ""
    if os.path.dirname(program) and os.path.exists(program):
        return f"{program} is there, but the gateway may not run it: look at its permissions."
    where = "" if os.path.dirname(program) else " on the gateway's PATH"
    words = f"The program {program} is not found{where}."
    if agent.known is not None:
        needs = f" (with {agent.known.needs})" if agent.known.needs else ""
        return f"{words} {agent.known.title} is installed by: {agent.known.install}{needs}"
    return f"{words} Install it, or give its full path."


def programs_not_found(catalogue: AgentCatalogue) -> list[str]:
    """A line for each agent whose program is not there."""
    return [f"agents.{agent.name}: {words}" for agent in catalogue.all() if (words := not_found(agent))]


def no_such_method(agent: Agent, methods: Sequence[AuthMethod]) -> str:
    """For a method that the agent does not offer."""
    words = f"[agents.{agent.name}] auth_method: the agent has no method {agent.auth_method!r}."
    return f"{words} {_offered(agent, methods)}"


def _how_to_pass(agent: Agent) -> str:
    known = agent.known
    if known is None:
        return f"Give it the variable that its manual names: {_where(agent, 'NAME')}."
    first, *others = known.credentials
    others_words = f" (or {', '.join(others)})" if others else ""
    words = f"Set {first}{others_words} for the gateway and pass it on: {_where(agent, first)}."
    if not known.dialects:
        return words
    maker = known.maker or "NAME"
    return (
        f"{words} Or keep the key outside the agent: `[providers.{maker}] key_file = …` and "
        f'`[agents.{agent.name}] provider = "{maker}"`.'
    )


def _where(agent: Agent, variable: str) -> str:
    return (
        f"`--agent-env {variable}` with `serve --agent`, "
        f'or `[agents.{agent.name}] pass_env = ["{variable}"]` in the configuration'
    )


def _offered(agent: Agent, methods: Sequence[AuthMethod]) -> str:
    shown = "; ".join(_method(agent, method) for method in methods[:METHODS_NAMED])
    named = [method.id for method in methods if method.type != "terminal"]
    usual = agent.known.auth_method if agent.known is not None else ""
    chosen = usual if usual in named else named[0] if named else ""
    choose = f' Choose one: `[agents.{agent.name}] auth_method = "{_cut(chosen)}"`.' if chosen else ""
    return f"It offers: {shown}.{choose}"


def _method(agent: Agent, method: AuthMethod) -> str:
    words = ", ".join(_cut(part) for part in (method.name, method.description) if part)
    text = f"`{_cut(method.id)}`" + (f" ({words.rstrip('.')})" if words else "")
    if method.type == "terminal":
        command = shlex.join((*agent.argv, *(method.args or ())))
        text += (
            f": run `{_cut(command)}` in a terminal; what that keeps in your HOME no session sees, "
            "so pass on the key or token that it gives you"
        )
    if variables := [variable.name for variable in method.vars or ()]:
        text += f": set {', '.join(map(_cut, variables))}"
    return text


def _cut(text: str) -> str:
    return text[:WORDS_CHARACTERS]


def joined(parts: Iterable[str]) -> str:
    """Sentences that are there, as one text."""
    return " ".join(part for part in parts if part)
