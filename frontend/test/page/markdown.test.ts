// @vitest-environment jsdom
import { expect, it } from "vitest";
import { blocksOf, sanitised } from "../../src/page/markdown.ts";
import { countOf, diffLines } from "../../src/page/diff.ts";

const html = (text: string): string =>
  blocksOf(text)
    .map((block) => (block.kind === "html" ? block.html : ""))
    .join("");

const EVIL = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg><script>alert(1)</script></svg>",
  "[click](javascript:alert(1))",
  "[click](  JaVaScRiPt:alert(1))",
  "[click](data:text/html;base64,PHNjcmlwdD4=)",
  '<a href="javascript:alert(1)">x</a>',
  "<iframe src=//evil></iframe>",
  '<p style="position:fixed" onclick="alert(1)">x</p>',
  '<form action="//evil"><input name=a><button>x</button></form>',
  "![x](https://evil.example/beacon.png)",
  '<img src="https://evil.example/beacon.png">',
  '<math><mtext><table><mglyph><style><img src=x onerror="alert(1)">',
  '<div data-testid="permission-option" class="button primary" id="app">Allow</div>',
];

function expectNothingActive(made: string): void {
  const box = document.createElement("div");
  box.innerHTML = made;
  expect(box.querySelector("script, iframe, img, form, input, button, style, svg, math, object")).toBeNull();
  const names = [...box.querySelectorAll("*")].flatMap((element) => element.getAttributeNames());
  expect(names.filter((name) => !["href", "target", "rel", "class", "align"].includes(name))).toEqual([]);
  for (const link of box.querySelectorAll("a[href]"))
    expect(link.getAttribute("href")).toMatch(/^(https?:|mailto:)/);
  for (const one of box.querySelectorAll("[class]")) expect(one.className).toMatch(/^language-/);
}

it.each(EVIL)("leaves nothing active of %s", (text) => {
  expectNothingActive(html(text));
});

it.each(EVIL)("and would not if Markdown let it through: %s", (text) => {
  expectNothingActive(sanitised(text));
});

it("shows HTML as the text that it is, but for plain tags", () => {
  expect(html("H<sub>2</sub>O<br>and <script>x</script>")).toBe(
    "<p>H<sub>2</sub>O<br>and &lt;script&gt;x&lt;/script&gt;</p>\n",
  );
  expect(html("<script>\nlet a = 1\n</script>")).toContain("&lt;script&gt;");
});

it("opens links elsewhere, without a way back", () => {
  const made = html("[docs](https://example.org/a) and <mailto:me@example.org>");
  expect(made).toContain('href="https://example.org/a"');
  expect(made.match(/rel="noopener noreferrer"/g)).toHaveLength(2);
  expect(made.match(/target="_blank"/g)).toHaveLength(2);
});

it("keeps code apart, with its language and its own text", () => {
  expect(blocksOf("Before\n\n```python\nprint('<b>')\n```\n\nafter")).toMatchObject([
    { kind: "html" },
    { kind: "code", language: "python", code: "print('<b>')" },
    { kind: "html" },
  ]);
});

it("draws an unfinished answer: open code, open table", () => {
  expect(blocksOf("```js\nlet a = 1")).toMatchObject([{ kind: "code", code: "let a = 1" }]);
  expect(html("| a | b |\n|---|---|\n| 1 |")).toContain("<table>");
});

it("keeps finished blocks while the text grows", () => {
  const before = blocksOf("# One\n\nTwo");
  const after = blocksOf("# One\n\nTwo and more\n\nThree");
  expect(after[0]).toEqual(before[0]);
  expect(after).toHaveLength(3);
});

it("keeps tables, lists and task lists", () => {
  const made = html("- [x] done\n- [ ] open\n\n| a | b |\n|:--|--:|\n| 1 | 2 |");
  expect(made).toContain("☑ done");
  expect(made).toContain("☐ open");
  expect(made).toContain('align="right"');
});

it("tells two texts apart by lines", () => {
  const lines = diffLines("a\nb\nc\n", "a\nB\nc\nd\n");
  expect(lines).toEqual([
    { kind: "same", text: "a" },
    { kind: "removed", text: "b" },
    { kind: "added", text: "B" },
    { kind: "same", text: "c" },
    { kind: "added", text: "d" },
  ]);
  expect(countOf(lines)).toEqual({ added: 2, removed: 1 });
});

it("leaves out what is far from a change", () => {
  const many = Array.from({ length: 40 }, (_, n) => `line ${n}`);
  const lines = diffLines(many.join("\n"), [...many, "end"].join("\n"));
  expect(lines[0]).toEqual({ kind: "gap", text: "" });
  expect(lines).toHaveLength(5);
});

it("shows a new file whole", () => {
  expect(diffLines("", "x\ny")).toEqual([
    { kind: "added", text: "x" },
    { kind: "added", text: "y" },
  ]);
});
