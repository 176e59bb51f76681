"""Values of people and tenants: encrypted at rest, encrypted anew, lost, and whose key a call uses."""

from __future__ import annotations

import logging
import pathlib
from typing import Final

import msgspec
import pytest

from gateway.config.tables import Config, TenantConfig
from gateway.egress.own_keys import VALUE_CHARACTERS, CallKey, OwnKeys, checked_value
from gateway.egress.vault import Vault
from gateway.errors import InvalidField, OwnKeyMissing, StoreFull
from gateway.principal import Account
from gateway.stores.memory.secrets import MemorySecrets
from gateway.stores.secrets import SecretName, StoredSecret

ONE: Final = b"1" * 32
TWO: Final = b"2" * 32
NAME: Final = SecretName("provider", "acme/ann", "anthropic")
CANARY: Final = "sk-canary-5f2a"


async def opened(store: MemorySecrets, secret: bytes = ONE, *, old: tuple[bytes, ...] = ()) -> Vault:
    vault = Vault(store, wall_ms=lambda: 7)
    await vault.open(secret, old=old)
    return vault


async def test_a_value_is_read_again_and_kept_as_ciphertext_only() -> None:
    store = MemorySecrets()
    await (await opened(store)).set(NAME, CANARY)
    (stored,) = await store.all()
    assert CANARY.encode() not in msgspec.json.encode(stored.ciphertext) + stored.ciphertext
    vault = await opened(store)
    assert vault.get(NAME) == CANARY
    assert [(kept.name, kept.set_at, kept.state) for kept in vault.kept("acme/ann")] == [(NAME, 7, "set")]
    assert CANARY not in repr(vault) + repr(vars(vault)) + repr(vault.kept("acme/ann"))
    assert await vault.remove(NAME)
    assert vault.get(NAME) is None


async def test_the_same_value_has_another_ciphertext_each_time() -> None:
    store, seen = MemorySecrets(), set()
    vault = await opened(store)
    for _ in range(2):
        await vault.set(NAME, CANARY)
        seen |= {one.ciphertext for one in await store.all()}
    assert len(seen) == 2


async def test_a_row_under_another_persons_name_decrypts_to_nothing() -> None:
    store = MemorySecrets()
    await (await opened(store)).set(NAME, CANARY)
    (stored,) = await store.all()
    stolen = SecretName("provider", "acme/eve", "anthropic")
    await store.put(msgspec.structs.replace(stored, name=stolen))
    vault = await opened(store)
    assert vault.get(stolen) is None
    assert vault.get(NAME) == CANARY


@pytest.mark.parametrize("ciphertext", [b"", b"x", b"\0" * 40])
async def test_a_damaged_value_reads_as_lost(ciphertext: bytes) -> None:
    store = MemorySecrets()
    await (await opened(store)).set(NAME, CANARY)
    (stored,) = await store.all()
    await store.put(msgspec.structs.replace(stored, ciphertext=ciphertext))
    vault = await opened(store)
    assert vault.get(NAME) is None
    assert [kept.state for kept in vault.kept("acme/ann")] == ["lost"]


async def test_an_old_secret_is_read_and_everything_is_encrypted_anew() -> None:
    store = MemorySecrets()
    await (await opened(store, ONE)).set(NAME, CANARY)
    (before,) = await store.all()
    assert (await opened(store, TWO, old=(ONE,))).get(NAME) == CANARY
    (after,) = await store.all()
    assert after.key_id != before.key_id
    assert after.set_at == before.set_at
    assert (await opened(store, TWO)).get(NAME) == CANARY, "the old secret is needed no more"


async def test_a_lost_secret_loses_its_values_and_breaks_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemorySecrets()
    await (await opened(store, ONE)).set(NAME, CANARY)
    with caplog.at_level(logging.WARNING):
        vault = await opened(store, TWO)
    assert "1 keys or credentials" in caplog.text
    assert CANARY not in caplog.text
    assert [kept.state for kept in vault.kept("acme/ann")] == ["lost"]
    await vault.set(NAME, "new")
    assert vault.get(NAME) == "new"
    assert [kept.state for kept in vault.kept("acme/ann")] == ["set"]


class _Full(MemorySecrets):
    async def put(self, secret: StoredSecret) -> None:
        raise StoreFull


async def test_a_full_disk_does_not_keep_old_values_from_being_read() -> None:
    store = MemorySecrets()
    await (await opened(store, ONE)).set(NAME, CANARY)
    full = _Full()
    full._secrets = store._secrets
    vault = await opened(full, TWO, old=(ONE,))
    assert vault.get(NAME) == CANARY
    with pytest.raises(StoreFull):
        await vault.set(NAME, "other")
    assert vault.get(NAME) == CANARY


# -- whose key --------------------------------------------------------------------------------------------


async def keys(tmp_path: pathlib.Path, *, person: bool, tenant: bool, file: bool) -> OwnKeys:
    vault = await opened(MemorySecrets())
    if person:
        await vault.set(NAME, "of-ann")
    if tenant:
        await vault.set(SecretName("provider", "acme", "anthropic"), "of-acme")
    found = OwnKeys(vault)
    if file:
        path = tmp_path / "key"
        path.write_text("of-file\n")
        found.read_files(Config(tenants={"acme": TenantConfig(keys={"anthropic": str(path)})}))
    return found


ANN: Final = Account("acme/ann", "key-1")


@pytest.mark.parametrize(
    ("person", "tenant", "file", "policy", "expected"),
    [
        (True, True, True, "allowed", ("of-ann", "person")),
        (False, True, True, "allowed", ("of-acme", "tenant")),
        (False, False, True, "allowed", ("of-file", "tenant")),
        (False, False, False, "allowed", ("of-gateway", "gateway")),
        (True, True, False, "no", ("of-gateway", "gateway")),
        (True, True, True, "no", ("of-file", "tenant")),
        (True, False, False, "required", ("of-ann", "person")),
        (False, True, False, "required", ("of-acme", "tenant")),
        (False, False, False, "required", None),
    ],
)
async def test_a_call_uses_the_persons_key_then_the_tenants_then_the_gateways(
    tmp_path: pathlib.Path,
    person: bool,
    tenant: bool,
    file: bool,
    policy: str,
    expected: tuple[str, str] | None,
) -> None:
    own = await keys(tmp_path, person=person, tenant=tenant, file=file)
    call = {"own_keys": policy, "gateway_key": "of-gateway"}
    if expected is None:
        with pytest.raises(OwnKeyMissing, match="PUT /api/me/keys/anthropic"):
            own.for_call("anthropic", ANN, **call)  # type: ignore[arg-type]
        return
    found = own.for_call("anthropic", ANN, **call)  # type: ignore[arg-type]
    assert (found.value, found.owner) == expected
    assert expected[0] not in repr(found)


async def test_a_key_is_for_its_owners_calls_only(tmp_path: pathlib.Path) -> None:
    own = await keys(tmp_path, person=True, tenant=True, file=True)
    others = [Account(owner, "k") for owner in ("acme/eve", "beta/ann", "acme/ann/x")]
    found = [own.for_call("anthropic", one, own_keys="allowed", gateway_key="g") for one in others]
    assert [key.owner for key in found] == ["tenant", "gateway", "tenant"]
    other = own.for_call("openai", ANN, own_keys="allowed", gateway_key="g")
    assert other == CallKey("g", "gateway")


async def test_a_file_that_vanished_keeps_the_key_that_was_read(tmp_path: pathlib.Path) -> None:
    own = await keys(tmp_path, person=False, tenant=False, file=True)
    config = Config(tenants={"acme": TenantConfig(keys={"anthropic": str(tmp_path / "key")})})
    (tmp_path / "key").write_text("changed")
    own.read_files(config)
    (tmp_path / "key").unlink()
    own.read_files(config)
    assert own.for_call("anthropic", ANN, own_keys="no", gateway_key="g").value == "changed"
    own.read_files(Config())
    assert own.for_call("anthropic", ANN, own_keys="no", gateway_key="g").value == "g"


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "a b", "a\nb", "a\r\nX-Other: 1", "ключ", "a\u200bb", "a\0b", "x" * (VALUE_CHARACTERS + 1)],
)
def test_a_key_that_cannot_be_in_a_header_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        checked_value(text, kind="provider")
    assert not text.strip() or text not in str(refused.value)


def test_blanks_round_a_pasted_key_are_dropped_and_a_value_may_have_some_inside() -> None:
    assert checked_value(" sk-1\n", kind="provider") == "sk-1"
    assert checked_value("token a b ", kind="credential") == "token a b"
    with pytest.raises(InvalidField):
        checked_value("a\nb", kind="credential")
