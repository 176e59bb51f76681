"""Renders the Helm chart without Helm: the few forms that it uses, and an error for any other."""

from __future__ import annotations

import pathlib
import re
import textwrap
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

RELEASE: Final = "gw"
_IF: Final = re.compile(r"\{\{- if \.Values\.(\w+) \}\}\n(.*?)\{\{- end \}\}\n", re.DOTALL)
_BLOCK: Final = re.compile(r"\n? *\{\{- (toYaml )?\.Values\.(\w+) \| nindent (\d+) \}\}")
_VALUE: Final = re.compile(r"\{\{ \.(Values|Release)\.(\w+) \}\}")


def rendered(chart: pathlib.Path, **changes: Any) -> list[dict[str, Any]]:
    """Every document that the chart makes with its values, changed as given."""
    values = {**yaml.safe_load((chart / "values.yaml").read_text()), **changes}
    documents: list[dict[str, Any]] = []
    for template in sorted((chart / "templates").glob("*.yaml")):
        text = _filled(template.read_text(), values)
        assert "{{" not in text, f"{template.name} uses a form that is not known here: {text}"
        documents += [document for document in yaml.safe_load_all(text) if document]
    return documents


def _filled(text: str, values: dict[str, Any]) -> str:
    def block(match: re.Match[str]) -> str:
        value = values[match[2]]
        written = yaml.safe_dump(value) if match[1] else value
        return "\n" + textwrap.indent(written.rstrip("\n"), " " * int(match[3]))

    text = _IF.sub(lambda match: match[2] if values[match[1]] else "", text)
    text = _BLOCK.sub(block, text)
    known = {"Values": values, "Release": {"Name": RELEASE}}
    return _VALUE.sub(lambda match: str(known[match[1]][match[2]]), text)
