/** What a file is written in, by its name. */

const LANGUAGES: Record<string, string> = {
  py: "python", js: "javascript", mjs: "javascript", cjs: "javascript", jsx: "javascript", ts: "typescript",
  tsx: "typescript", rb: "ruby", rs: "rust", sh: "bash", yml: "yaml", htm: "html", kt: "kotlin", md: "markdown",
  cs: "csharp", h: "c", hpp: "cpp", cc: "cpp", toml: "ini", cfg: "ini",
}; // prettier-ignore

export function languageOfFile(path: string): string {
  const suffix = /\.(\w+)$/.exec(path)?.[1]?.toLowerCase() ?? "";
  return LANGUAGES[suffix] ?? suffix;
}
