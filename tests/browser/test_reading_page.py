"""What an agent writes and does, as its reader sees it: formulas, diagrams, code, differences, tool calls.
Nothing in any of it runs, leads elsewhere or leaves its frame.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import pytest
from playwright.async_api import Page, Request, expect

from tests.browser.conftest import OpenPage
from tests.browser.readable import complaints, fits
from tests.gateways import RunningGateway
from tests.shared import SHARED, crowding, eventually, fresh_id, shared_gateway
from tests.streams import state_when

ANSWER: Final = (
    r"""
## Reading

Inline $a^2 + b^2 = c^2$ and \(\sqrt{x}\), but $5 and $6 are prices[^1]. Wrong: $\frac{1$.

$$
\int_0^1 x\,dx
= \frac12
$$

```mermaid
flowchart LR
  A[Start] --> B{Choice}
  B -->|yes| C[End]
```

```mermaid
flowchart nonsense [[[
```

- [x] done
- [ ] open

| COLUMNS |
| DASHES |
| CELLS |

```python
def answer(a_long_name_for_an_argument, another_long_name_for_an_argument, one_more_of_them): return 42
```

[^1]: In *any* currency.
""".replace("COLUMNS", " | ".join(f"column {n}" for n in range(20)))
    .replace("DASHES", " | ".join("---" for _ in range(20)))
    .replace("CELLS", " | ".join("cell" for _ in range(20)))
)


def _call(name: str, kind: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    update = {"sessionUpdate": "tool_call", "toolCallId": name, "title": f"title of {name}"}
    return {"update": {**update, "kind": kind, "status": status, **more}}


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]


EDIT: Final = {
    "type": "diff",
    "path": "/work/app.py",
    "oldText": "import os\nname = 'old'\n",
    "newText": "import os\nname = 'new'\nmore = 1\n",
}
WORK: Final[list[dict[str, Any]]] = [
    {"think": "Let me look around."},
    _call("r1", "read", locations=[{"path": "/work/app.py"}]),
    _call("s1", "search", rawInput={"pattern": "TODO"}),
    _call("x0", "execute", "failed", rawInput={"command": "make"}, content=_text("no rule")),
    {"say": "Found it."},
    _call("e1", "edit", content=[EDIT]),
    _call("x1", "execute", rawInput={"command": "npm test"}, content=_text("12 passed\nin 3 s")),
    {
        "plan": [
            {"content": f"step {status}", "priority": "low", "status": status}
            for status in ("completed", "pending")
        ]
    },
    {"say": ANSWER},
]
ELSEWHERE: Final = "http://elsewhere.invalid"
HOSTILE: Final = rf"""
<script>window.ran=1</script><img src="{ELSEWHERE}/a.png" onerror="window.ran=2">
<svg onload="window.ran=3"><image href="{ELSEWHERE}/b.png"/></svg><iframe src="{ELSEWHERE}"></iframe>

[link](javascript:window.ran=4) ![picture]({ELSEWHERE}/c.png) [^x](javascript:window.ran=5)

$\href{{javascript:window.ran=6}}{{x}}$ $\includegraphics{{{ELSEWHERE}/d.png}}$
$\text{{<img src=x onerror=window.ran=7>}}$
$\def\a{{\a\a}}\a$ $\style{{background:url({ELSEWHERE}/e.png)}}{{x}}$ $<img src=x onerror=window.ran=8>$

```mermaid
flowchart LR
  A["<img src='{ELSEWHERE}/f.png' onerror='parent.ran=9'>"] --> B
  click A "javascript:parent.ran=10"
  click B href "{ELSEWHERE}" _top
```

```mermaid
%%{{init: {{"securityLevel": "loose", "htmlLabels": true, "themeCSS": "@import url({ELSEWHERE}/h.css)"}}}}%%
flowchart LR
  A["<script>top.ran=11</script>"] --> B
```

[^x]: javascript:window.ran=12
"""
AGENTS: Final = {"reader": {"turns": [WORK]}, "hostile": {"turns": [[{"say": HOSTILE}]]}}

gateway = shared_gateway(agents=AGENTS)
pytestmark = [SHARED, pytest.mark.browser]


async def opened(gateway: RunningGateway, open_page: OpenPage, agent: str) -> tuple[Page, list[Request]]:
    """A page with what the agent said, and what it asks for."""
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    await state_when(gateway.http, session_id, lambda state: not state["is_processing"])
    page = await open_page("about:blank")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    await page.goto(f"{gateway.url}/#s={session_id}")
    return page, asked


async def expect_drawn(page: Page, diagrams: int) -> None:
    """Waits until every diagram is drawn, or says why not; one that took too long is asked for again."""

    async def is_drawn() -> bool:
        for again in await page.get_by_test_id("diagram-again").all():
            await again.click()
        drawn, why = page.get_by_test_id("diagram"), page.get_by_test_id("diagram-why")
        waiting = await page.get_by_test_id("diagram-again").count()
        return waiting == 0 and await drawn.count() + await why.count() == diagrams

    await eventually(is_drawn, seconds=40 * crowding())


async def test_an_answer_is_drawn_as_it_is_meant(gateway: RunningGateway, open_page: OpenPage) -> None:
    page, _ = await opened(gateway, open_page, "reader")
    answer = page.get_by_test_id("message-agent").last

    await expect(answer.locator("math")).to_have_count(3)
    await expect(answer.locator("math mfrac")).to_have_count(1)
    await expect(answer.locator(".formula-why")).to_contain_text("end of input")
    await expect(answer).to_contain_text("but $5 and $6 are prices")
    assert await answer.locator("math[style], math [style]").count() == 0

    address = page.url
    await answer.locator("sup a").click()
    await expect(answer.locator(".note")).to_be_focused()
    assert page.url == address

    await expect_drawn(page, 2)
    picture = answer.get_by_test_id("diagram").locator("img")
    assert await picture.evaluate("(image) => image.decode().then(() => image.naturalWidth > 50)")
    light = await picture.get_attribute("src")
    await expect(answer.get_by_test_id("diagram-why")).to_contain_text("cannot be drawn")

    code = answer.locator("figure.code").filter(has_text="def answer")
    pre = code.locator("pre")
    assert await pre.evaluate("(box) => box.scrollWidth > box.clientWidth")
    await code.get_by_test_id("code-wrap").click()
    assert await pre.evaluate("(box) => box.scrollWidth <= box.clientWidth")
    async with page.expect_download() as waiting:
        await code.get_by_test_id("code-save").click()
    assert (await waiting.value).suggested_filename == "code.py"

    calls = page.get_by_test_id("tool-call")
    run = page.get_by_test_id("tool-run")
    await expect(run).to_contain_text("3 steps")
    await expect(run).to_contain_text("1 failed")
    await expect(calls).to_have_count(2)
    await run.click()
    await expect(calls).to_have_count(5)
    await expect(calls.nth(0)).to_contain_text("Read app.py")
    await expect(calls.nth(1)).to_contain_text("Searched for TODO")
    await expect(calls.nth(2)).to_contain_text("Ran make")
    await expect(calls.nth(2).locator(".tool-first")).to_have_text("no rule")
    await expect(calls.nth(2)).to_have_class("tool tool-failed")
    await expect(calls.nth(3)).to_contain_text("Edited app.py+2 −1")
    await expect(calls.nth(4).locator(".tool-first")).to_have_text("12 passed")
    steps = page.get_by_test_id("plan").locator("li")
    await expect(steps).to_have_text(["done: step completed", "to do: step pending"])

    diff = calls.nth(3).get_by_test_id("diff")
    await expect(diff.locator("del")).to_have_text("name = 'old'")
    await expect(diff.locator("del mark")).to_have_text("old")
    await expect(diff.locator("ins .hljs-string").first).to_have_text("'new'")
    await expect(diff.locator(".diff-no").first).to_have_text("1")
    await diff.get_by_test_id("diff-side").click()
    await expect(diff.locator(".is-side .diff-half")).to_have_count(6)

    await expect_readable(page)
    await page.evaluate("Object.assign(localStorage, {'agw.theme': 'dark', 'agw.language': 'he'})")
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.reload()
    await expect(page.locator("html[dir=rtl][data-theme=dark]")).to_have_count(1)
    await expect_readable(page)
    dark = await page.get_by_test_id("diagram").locator("img").get_attribute("src")
    assert dark != light, "a diagram has the page's colours"


async def expect_readable(page: Page) -> None:
    """All of it is drawn, nothing has to be scrolled sideways but inside itself, and axe finds no fault."""
    await expect(page.locator("math")).to_have_count(3)
    await expect_drawn(page, 2)
    assert await fits(page)
    assert await page.locator(".wide").evaluate("(box) => box.scrollWidth > box.clientWidth")
    assert await complaints(page) == []


async def test_nothing_of_a_hostile_answer_runs_or_is_fetched(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page, asked = await opened(gateway, open_page, "hostile")
    answer = page.get_by_test_id("message-agent").last
    await expect(answer.locator(".formula-why")).to_have_count(4)
    await expect(answer.locator("math")).to_have_count(2)
    await expect_drawn(page, 2)
    for picture in await answer.get_by_test_id("diagram").locator("img").all():
        await picture.evaluate("(image) => image.decode()")
        drawing = unquote(str(await picture.get_attribute("src")))
        assert not re.search(
            r"<(?:a|script|image|iframe)\b|\bhref=\"(?!#)|\bon\w+=|url\((?!#)|@import", drawing
        )
    await expect(
        answer.locator("script, iframe, svg image, [onerror], [onload], [href^=javascript]")
    ).to_have_count(0)
    await expect(answer.locator("img:not([src^='data:image/svg'])")).to_have_count(0)
    assert await page.evaluate("window.ran") is None
    addresses = {request.url for request in asked}
    assert [one for one in addresses if not one.startswith((gateway.url, "data:", "blob:", "about:"))] == []
    assert {frame.url for frame in page.frames} <= {page.url, f"{gateway.url}/diagram.html"}
