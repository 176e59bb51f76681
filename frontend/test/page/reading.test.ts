// @vitest-environment jsdom
import { expect, it } from "vitest";
import { blocksOf } from "../../src/page/markdown.ts";

const html = (text: string): string =>
  blocksOf(text)
    .map((block) => (block.kind === "html" ? block.html : ""))
    .join("")
    .trim();

/** The formulas of a text as [source, is displayed]. */
function formulas(text: string): [string, boolean][] {
  const box = document.createElement("div");
  box.innerHTML = html(text);
  const found = [...box.querySelectorAll("code[class^=language-math]")];
  return found.map((one) => [one.textContent ?? "", one.className === "language-math-display"]);
}

it.each<[string, [string, boolean][]]>([
  ["so $a^2 + b^2$ is", [["a^2 + b^2", false]]],
  ["$x$, ($y$) and ב$z$.", [["x", false], ["y", false], ["z", false]]],
  ["in \\(a_1\\) and \\[a < b\\] too", [["a_1", false], ["a < b", true]]],
  ["it is $$\\int f$$ here", [["\\int f", true]]],
  ["$a_1$ and *b_2* and $c_3 * d * e$", [["a_1", false], ["c_3 * d * e", false]]],
  ["$$\na\n= b\n- c\n# d\n$$", [["a\n= b\n- c\n# d", true]]],
  ["text\n$$\na\n---\nb\n$$\nmore", [["a\n---\nb", true]]],
  ["\\[\n\\begin{aligned}\na &= b \\\\\n+ c\n\\end{aligned}\n\\]", [["\\begin{aligned}\na &= b \\\\\n+ c\n\\end{aligned}", true]]],
  ["- one\n\n  $$\n  + b\n  $$\n- two $c$", [["+ b", true], ["c", false]]],
  ["| a | b |\n|---|---|\n| $x$ | 1 |", [["x", false]]],
  ["# The size of $n$", [["n", false]]],
  ["```math\na & b\n```", [["a & b", true]]],
  ["$\\text{costs \\$5}$", [["\\text{costs \\$5}", false]]],
  ["$3 + x$ and $10$", [["3 + x", false], ["10", false]]],
])("finds the formulas of %j", (text, found) => {
  expect(formulas(text)).toEqual(found);
});

it.each([
  "from $5 and $6",
  "$5-$10, US$3 and 7$ or 8$",
  "$20 per month, or 200 a year$",
  "echo $HOME/$USER and \"$a\" and \"$b\"",
  "`$a$` and $`b`$",
  "\\$a$ and $ a $ and $$ $$",
  "$a\n\nb$",
  "$$\nnever ends",
])("leaves the dollars of %j alone", (text) => {
  expect(formulas(text)).toEqual([]);
  const box = document.createElement("div");
  box.innerHTML = html(text);
  expect(box.textContent?.split("$").length).toBe(text.split("$").length);
});

it("takes a backslash off a sign where no formula is", () => {
  expect(html("a \\( b")).toBe("<p>a ( b</p>");
  expect(html("\\[x] and \\( \\)")).toBe("<p>[x] and ( )</p>");
});

it("reads what a formula that never ends begins as a paragraph, and what is behind it", () => {
  expect(html("$$\na\n\n- b")).toBe("<p>$$\na</p>\n<ul>\n<li>b</li>\n</ul>");
});

it("raises references to footnotes, and keeps their text where it is", () => {
  const made = html("Said[^1] and more[^why].\n\n[^1]: By *whom*\n[^why]: Because\n\n    of that.\n\nEnd");
  expect(made).toContain('Said<sup><a href="#fn-1">1</a></sup> and more<sup><a href="#fn-why">why</a></sup>.');
  expect(made).toContain('<div class="note"><sup>1</sup><div><p>By <em>whom</em></p>');
  expect(made).toContain("<p>Because</p>\n<p>of that.</p>\n</div></div>");
  expect(made).toContain("<p>End</p>");
  expect(html("[^a-z] is a pattern")).toBe("<p>[^a-z] is a pattern</p>");
  expect(html("[x](#fn-1\" onclick=x) [y](#other)")).not.toContain("href=\"#other");
});

it("gives tasks and wide tables what their look needs", () => {
  expect(html("- [x] done\n- plain")).toBe('<ul>\n<li class="task">☑ done</li>\n<li>plain</li>\n</ul>');
  expect(html("| a |\n|---|\n| 1 |")).toMatch(/^<div class="wide"><table>/);
});
