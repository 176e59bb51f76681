// @vitest-environment jsdom
import { expect, it, vi } from "vitest";

vi.hoisted(() => vi.stubGlobal("self", globalThis));
const { drawnFormula } = await import("../../src/page/math.worker.ts");

it("draws TeX as MathML without a style", () => {
  const { mathml = "" } = drawnFormula("\\frac{a_1}{\\sqrt{b}} \\color{red}x \\begin{array}{c|c}a&b\\\\\\hline c&d\\end{array}", true);
  expect(mathml).toMatch(/^<math [^>]*display="block"/);
  expect(mathml).toContain("<mfrac>");
  expect(mathml).toContain('mathcolor="#ff0000"');
  expect(mathml).toContain("math-br");
  expect(mathml).not.toContain("style=");
});

it.each([
  ["\\frac{1", /end of input/],
  ["\\nonsense", /Unsupported function/],
  ["\\href{javascript:alert(1)}{x}", /Unsupported|trusted/],
  ["\\url{http://example.org}", /Unsupported|trusted/],
  ["\\includegraphics{http://example.org/a.png}", /Unsupported|trusted/],
  ["\\class{button}{x}", /trusted/],
  ["\\style{position:fixed}{x}", /trusted/],
  ["\\id{app}{x}", /trusted/],
  ["\\def\\a{\\a\\a}\\a", /Too many expansions/],
  ["\\def\\a{aaaaaaaa}\\def\\b{\\a\\a\\a\\a\\a\\a\\a\\a}\\def\\c{\\b\\b\\b\\b\\b\\b\\b\\b}\\c\\c\\c\\c\\c\\c\\c\\c", /Too many|large/],
  ["\\sqrt{".repeat(300) + "x" + "}".repeat(300), /deep|large/],
  ["{".repeat(2_000) + "x" + "}".repeat(2_000), /deep|large|Expected/],
  ["a".repeat(3_990), /large/],
])("says why it does not draw %s", (tex, reason) => {
  const before = performance.now();
  const drawn = drawnFormula(tex, false);
  expect(drawn.mathml).toBeUndefined();
  expect(drawn.reason).toMatch(reason);
  expect(drawn.reason).not.toContain("\n");
  expect(performance.now() - before).toBeLessThan(2_000);
});

it("keeps rules and spaces small", () => {
  const { mathml = "" } = drawnFormula("\\rule{9999em}{9999em}\\hspace{9999em}", false);
  for (const [, size] of mathml.matchAll(/(?:width|height)="([\d.]+)em"/g)) expect(Number(size)).toBeLessThanOrEqual(20);
});

it("takes HTML in a text as the text that it is", () => {
  const { mathml = "" } = drawnFormula("\\text{<img src=x onerror=alert(1)>}", false);
  expect(mathml).not.toContain("<img");
});
