"""A server of S3 in a thread of the tests' process: `with bucket() as url`, a place for `cluster.files`.

It keeps what it is given in memory, and takes every key.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
from collections.abc import Iterator
from typing import Final

import pytest

BUCKET: Final = "agent-gateway-tests"
REGION: Final = "us-east-1"


@contextlib.contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a place in an empty bucket, while the block runs."""
    moto = pytest.importorskip("moto.server", reason="requirements-dev.txt is not installed")
    pytest.importorskip("obstore", reason="requirements-dev.txt is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        connection = http.client.HTTPConnection(host, port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield f"s3://{BUCKET}/files?endpoint=http://{host}:{port}&region={REGION}"
    finally:
        server.stop()
