"""What a file is, by its name, and how it can be served without danger. The one table of types, which
`sniffing` reads, too.

A file that an agent wrote is served from the gateway's own address. So what a browser could run there never
has its own type: a script, a style sheet, XML are plain text (with `nosniff`, nobody loads that as a
script). HTML, SVG and PDF are shown as what they are by a link for a preview, in a sandbox without an
origin.
"""

from __future__ import annotations

import mimetypes
from typing import Final, Literal

Preview = Literal["image", "svg", "pdf", "markdown", "csv", "html", "text", "none"]

PLAIN: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
SANDBOX: Final = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""No script, no request, no form, no origin: only what is in the file itself."""
LOCKED: Final = "sandbox; default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Images of pixels that models understand, too."""
_IMAGES: Final = (*PICTURES, "image/avif", "image/bmp", "image/x-icon")
_DOCUMENTS: Final = ("application/pdf", "application/zip")
_SOUND: Final = ("audio/", "video/")
_SHOWN: Final[dict[Preview, str]] = {
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "html": "text/html; charset=utf-8",
}
_TEXTS: Final = (
    *("application/json", "application/xml", "application/javascript", "application/x-sh"),
    *("application/toml", "application/yaml", "application/sql", "application/x-ndjson"),
)
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_OPEN: Final = "application/vnd.oasis.opendocument."
_BARE: Final = frozenset(
    {
        *("dockerfile", "makefile", "license", "licence", "readme", "changelog", "notice", "authors"),
        *("gemfile", "rakefile", "procfile", "justfile", "vagrantfile", "jenkinsfile"),
    }
)
_CODE: Final = (
    "astro bash bat c cc cfg clj conf cpp cs cxx dart diff env erl ex exs fish fs go gradle graphql h hpp "
    "hs ini java jl js jsonc json5 jsonl jsx kt lock log lua m mjs cjs ml mts nim nix org patch php pl pm "
    "proto ps1 py pyi r rb rs rst sass scala scss sh sql svelte swift tcl tex tf toml ts tsx txt vb vim "
    "vue xml xsl yaml yml zig zsh gitignore gitattributes editorconfig dockerignore npmrc properties "
    "ipynb css less"
)

_types: Final = mimetypes.MimeTypes(filenames=())  # not the machine's own list: the same everywhere
for _suffix, _type in {
    **{f".{suffix}": "text/plain" for suffix in _CODE.split()},
    **{".md": "text/markdown", ".markdown": "text/markdown", ".csv": "text/csv", ".tsv": "text/csv"},
    **{".py": "text/x-python", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"},
    **{".json": "application/json", ".ipynb": "application/json", ".xml": "text/xml"},
    **dict.fromkeys((".ts", ".tsx", ".mts"), "text/typescript"),
    **dict.fromkeys((".jsonl", ".ndjson"), "application/x-ndjson"),
    **{".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon", ".bmp": "image/bmp"},
    **{".xhtml": "application/xhtml+xml", ".svg": "image/svg+xml", ".wasm": "application/wasm"},
    **{".toml": "application/toml", ".yaml": "application/yaml", ".yml": "application/yaml"},
    **{".docx": _OFFICE + "wordprocessingml.document", ".odt": _OPEN + "text", ".ods": _OPEN + "spreadsheet"},
    **{".xlsx": _OFFICE + "spreadsheetml.sheet", ".pptx": _OFFICE + "presentationml.presentation"},
    **{".odp": _OPEN + "presentation", ".epub": "application/epub+zip", ".jar": "application/java-archive"},
    **{".zip": "application/zip", ".pdf": "application/pdf"},
}.items():
    _types.add_type(_type, _suffix)


def media_type(name: str) -> str:
    """What the name says that the file is; `application/octet-stream` if it says nothing."""
    base = name.rpartition("/")[2].lower()
    kind, coding = _types.guess_type("x/" + base)
    if coding is not None:
        return "application/gzip" if coding == "gzip" else BYTES
    if kind is not None:
        return kind
    return "text/plain" if base.lstrip(".") in _BARE or base.lstrip(".") in _CODE.split() else BYTES


def is_text_type(kind: str) -> bool:
    """True for types whose files are text."""
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+xml", "+json"))


def preview(name: str) -> Preview:
    """How the page can show a file of this name."""
    kind = media_type(name)
    if kind in _IMAGES:
        return "image"
    for shown, own in _SHOWN.items():
        if kind == own.partition(";")[0]:
            return shown
    if kind == "text/markdown":
        return "markdown"
    if kind == "text/csv":
        return "csv"
    return "text" if is_text_type(kind) else "none"


def harmless_type(name: str) -> str:
    """The type that a download has."""
    kind = media_type(name)
    if kind in _IMAGES or kind.startswith(_SOUND) or kind in _DOCUMENTS:
        return kind
    return PLAIN if preview(name) not in ("none", "svg") else BYTES


def shown_type(name: str) -> str:
    """The type that a preview has."""
    return _SHOWN.get(preview(name), harmless_type(name))
