// @vitest-environment jsdom
import { expect, it } from "vitest";
import { showRich } from "../../../src/apps/product_chat/rich.ts";

function shown(text: string): HTMLElement {
  const place = document.createElement("div");
  showRich(place, text);
  return place;
}

it("shows a little Markdown", () => {
  const place = shown("# no heading\n**strong *inner* too** and *soft* `a*b*` 2*3*4\n\n1. one\n2. two\n- three\n\n```js\nx < y\n```\n[mail](mailto:a@b.example), https://c.example/d.");
  expect(place.innerHTML).toBe(
    "<div># no heading\n<strong>strong <em>inner</em> too</strong> and <em>soft</em> <code>a*b*</code> 2*3*4</div>" +
      "<ol><li>one</li><li>two</li><li>three</li></ol>" +
      '<pre dir="ltr" tabindex="0">x &lt; y</pre>' +
      '<div><a href="mailto:a@b.example" target="_blank" rel="noopener noreferrer nofollow ugc">mail</a>, ' +
      '<a href="https://c.example/d" target="_blank" rel="noopener noreferrer nofollow ugc">https://c.example/d</a>.</div>',
  );
});

it.each([
  "<img src=x onerror=alert(1)>",
  "[click](javascript:alert(1))",
  "[click](JaVaScRiPt:alert`1`)",
  "[click](data:text/html;base64,PHNjcmlwdD4=)",
  "[click](/relative) [click](//host)",
  "<a href='https://x.example'>x</a",
  "**<script>alert(1)</script>**",
])("makes nothing of %s that could do anything", (text) => {
  const place = shown(text);
  expect(place.querySelectorAll("script, img, [href^='javascript' i], [href^='data' i]")).toHaveLength(0);
  expect(place.textContent).toContain(text.replace(/\*\*|`/g, "").slice(0, 8));
});

it("is quick with text that is meant to be slow", () => {
  for (const text of ["*".repeat(19_000), "[".repeat(19_000), "**a".repeat(6_000), "`".repeat(19_000), "x\n".repeat(9_000)]) {
    const began = performance.now();
    shown(text);
    expect(performance.now() - began).toBeLessThan(2_000);
  }
});
