"""The operator's look of the page, as the page is told of it, and the logo."""

from __future__ import annotations

import pathlib

from tests.inside import gateway_inside

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><path d="M0 0"/></svg>'


async def test_the_page_is_told_its_look_and_a_reload_changes_it(tmp_path: pathlib.Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_bytes(SVG)
    config = (
        f"[page]\nname = 'Acme'\nlogo_file = '{logo}'\naccent = '#1a237e'\nwelcome = 'Hello'\n"
        "suggestions = ['One', 'Two']\nlinks = { Help = 'https://help.example' }\n"
        "[limits]\nmessage_bytes = 99\n"
    )
    async with gateway_inside(tmp_path, config=config) as gateway:
        told = await gateway.get("/api/auth")
        assert told["message_bytes"] == 99
        look = told["page"]
        assert look["accent_dark"] > look["accent"]
        assert {name: look[name] for name in look if name != "accent_dark"} == {
            "name": "Acme",
            "logo": "page/logo",
            "accent": "#1a237e",
            "welcome": "Hello",
            "suggestions": ["One", "Two"],
            "links": [{"title": "Help", "url": "https://help.example"}],
        }
        async with gateway.http.get("/page/logo") as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (200, "image/svg+xml", SVG)
            assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
            tag = answer.headers["ETag"]
        async with gateway.http.get("/page/logo", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304
        logo.write_bytes(b"x" * 200_000)  # larger than a logo may be: it is not sent
        async with gateway.http.get("/page/logo") as answer:
            assert answer.status == 404
        (tmp_path / "config.toml").write_text("[page]\n")
        assert "page.name" in gateway.inner.reload().changed
        assert "page" not in await gateway.get("/api/auth")
        async with gateway.http.get("/page/logo") as answer:
            assert answer.status == 404
