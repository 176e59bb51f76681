"""The clients that there are, with everything stored in PostgreSQL (tests/stored.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.products import test_rest as rest
from tests.products.clients import *  # noqa: F403 - the tests
from tests.products.clients import RATES
from tests.products.shop import shared_shop
from tests.shared import SHARED, shared_gateway
from tests.stored import stored_in

pytestmark = SHARED


@pytest.fixture(scope="module", autouse=True)
def on_postgresql() -> Iterator[None]:
    with stored_in("postgresql"):
        yield


gateway = shared_gateway()
shop = shared_shop(**RATES)
test_chats_survive_a_restart = rest.test_chats_survive_a_restart_with_their_numbers
