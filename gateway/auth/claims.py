"""Who the claims of a token or of a provider speak of, and what their groups allow them.

Groups give and never take: what several groups give is added up. Of tenants the first in the file's order
counts, because a person is of one tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.config.tables import GroupConfig
from gateway.errors import NoGroup, Unauthorized
from gateway.principal import ALL_SCOPES, Kind, Principal, is_subject, with_implied


def principal_from(
    claims: Mapping[str, Any],
    *,
    kind: Kind,
    tenant: str,
    tenant_claim: str,
    subject_claim: str,
    scopes: tuple[str, ...],
    groups: Mapping[str, GroupConfig],
    groups_claim: str,
    without_group: str,
) -> Principal:
    """Who the claims speak of. `tenant` and `scopes` hold if no group and no claim says otherwise.

    Raises Unauthorized if they name no person, NoGroup if none of their groups is let in.
    """
    subject = claims.get(subject_claim)
    if not isinstance(subject, str) or not is_subject(subject):
        raise Unauthorized(f"The claim {subject_claim} is missing or cannot be a name here.")
    matching = _matching(claims, groups, groups_claim)
    if groups and not matching and without_group == "refuse":
        raise _no_group(claims, groups_claim)
    named = next((group.tenant for group in matching if group.tenant), None)
    if named is None:
        named = claims.get(tenant_claim) if tenant_claim else tenant
    if not isinstance(named, str):
        raise Unauthorized(f"The claim {tenant_claim} is missing.")
    given = frozenset(_united(group.scopes for group in matching) or scopes)
    return Principal(
        named, subject, kind, with_implied(given), agents=_united(group.agents for group in matching)
    )


def scopes_in(claim: Any, default: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes that a claim names, those of them that there are."""
    if claim is None:
        return default
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return tuple(word for word in words if isinstance(word, str) and word in ALL_SCOPES)


def _matching(
    claims: Mapping[str, Any], groups: Mapping[str, GroupConfig], groups_claim: str
) -> list[GroupConfig]:
    """The groups that the claims name, in the file's order."""
    claim = claims.get(groups_claim)
    names = [claim] if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return [group for name, group in groups.items() if name in names]


def _no_group(claims: Mapping[str, Any], groups_claim: str) -> NoGroup:
    if groups_claim not in claims:
        return NoGroup(
            f"Your sign-in does not say which groups you are in (the claim {groups_claim!r} is missing), and "
            "only members of certain groups may use this gateway. Ask the people who run it."
        )
    return NoGroup()


def _united(given: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Everything that is given, once, in order."""
    return tuple(dict.fromkeys(name for names in given for name in names))
