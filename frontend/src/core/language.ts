/** The languages that there are, and texts with places to fill in; none of the page's words. */

export type Language = "en" | "he";

export type Params = Record<string, string | number>;

/**
 * `{name}` becomes the parameter; `{n|one:a file|other:# files}` the words for its number in this language
 * (`Intl.PluralRules`), in which `#` is the number as it is written there; `0:` is for none of them.
 */
export function filled(language: Language, words: string, params: Params): string {
  return words
    .replace(/\{(\w+)\|([^}]*)\}/g, (whole, name: string, forms: string) => {
      const number = Number(params[name]);
      if (params[name] === undefined || Number.isNaN(number)) return whole;
      const known = new Map(forms.split("|").map((form) => form.split(/:(.*)/s) as [string, string]));
      const form = known.get(number ? new Intl.PluralRules(language).select(number) : "0") ?? known.get("other") ?? "#";
      return form.replaceAll("#", numeral(language, number));
    })
    .replace(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole));
}

/** A number as it is written in a language; of a small one a browser has to load nothing for that. */
export function numeral(language: Language, number: number): string {
  return Number.isInteger(number) && number >= 0 && number < 1_000 ? String(number) : number.toLocaleString(language);
}

export function directionOf(language: Language): "ltr" | "rtl" {
  return language === "he" ? "rtl" : "ltr";
}

/** The language a browser asks for, of those there are. */
export function preferred(languages: readonly string[]): Language {
  for (const tag of languages) {
    const base = tag.toLowerCase().split("-")[0];
    if (base === "he" || base === "iw") return "he";
    if (base === "en") return "en";
  }
  return "en";
}
