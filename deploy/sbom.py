"""What the product is made of, as CycloneDX JSON on stdout. `make sbom` keeps it in build/.

The Python packages are those of requirements.txt that are installed beside this interpreter, with their
licences; the page's are those of frontend/package-lock.json that a browser is given.
The same input gives the same bytes: there is no time in it.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import pathlib
import re
import sys
import urllib.parse
import uuid
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).parent.parent
PRODUCT: Final = "agent-gateway"
LICENCE_MOST: Final = 80
"""Some packages put the whole text of their licence where its name belongs."""
UNSAID = {"khroma": "MIT"}
"""Packages of the page that have their licence in a file alone → what it is."""


def locked(text: str) -> list[str]:
    """The names in a lock file."""
    return re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, flags=re.M)


def python_parts() -> list[dict[str, Any]]:
    """The locked packages that are installed here: the others are for other systems."""
    found = []
    for name in locked((ROOT / "requirements.txt").read_text()):
        try:
            found.append(_python_part(importlib.metadata.metadata(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _python_part(metadata: Any) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
    purl = f"pkg:pypi/{name}@{metadata['Version']}"
    part = {"type": "library", "bom-ref": purl, "name": name, "version": metadata["Version"], "purl": purl}
    return part | _licences(metadata)


def _licences(metadata: Any) -> dict[str, Any]:
    if expression := metadata.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    said = (metadata.get("License") or "").strip()
    if said and "\n" not in said and len(said) <= LICENCE_MOST and said != "UNKNOWN":
        return {"licenses": [{"license": {"name": said}}]}
    classifiers = metadata.get_all("Classifier") or []
    names = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    return {"licenses": [{"license": {"name": one}} for one in names]} if names else {}


def page_parts(lock: dict[str, Any]) -> list[dict[str, Any]]:
    """What the page is built of."""
    parts = []
    for place, entry in lock["packages"].items():
        if not place or entry.get("dev") or entry.get("optional") or entry.get("devOptional"):
            continue
        name = place.rpartition("node_modules/")[2]
        scope, _, plain = name.rpartition("/")
        prefix = f"{urllib.parse.quote(scope, safe='')}/" if scope else ""
        purl = f"pkg:npm/{prefix}{plain}@{entry['version']}"
        part: dict[str, Any] = {
            "type": "library", "bom-ref": purl, "name": name, "version": entry["version"], "purl": purl,
        }  # fmt: skip
        algorithm, _, digest = entry.get("integrity", "").partition("-")
        if algorithm == "sha512":
            part["hashes"] = [{"alg": "SHA-512", "content": base64.b64decode(digest).hex()}]
        if licence := entry.get("license", UNSAID.get(name)):
            part["licenses"] = [{"expression": licence}]
        parts.append(part)
    return parts


def bill() -> dict[str, Any]:
    """The whole document."""
    lock = json.loads((ROOT / "frontend" / "package-lock.json").read_text())
    version = re.search(r'VERSION: Final = "(.+)"', (ROOT / "gateway" / "version.py").read_text())
    if version is None:
        raise SystemExit("gateway/version.py names no VERSION.")
    parts = sorted([*python_parts(), *page_parts(lock)], key=lambda part: str(part["bom-ref"]))
    root = f"pkg:pypi/{PRODUCT}@{version[1]}"
    product = {
        "type": "application", "bom-ref": root, "name": PRODUCT, "version": version[1], "purl": root,
        "licenses": [{"expression": "Apache-2.0"}],
    }  # fmt: skip
    refs = [part["bom-ref"] for part in parts]
    content = json.dumps([product, parts], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": product},
        "components": parts,
        "dependencies": [{"ref": root, "dependsOn": refs}],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bill(), indent=2, ensure_ascii=False) + "\n")
