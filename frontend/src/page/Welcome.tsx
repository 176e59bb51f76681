/** What stands where nothing was said yet, and the operator's links. */

import { brand } from "./brand.ts";
import { Logo } from "./icons.tsx";
import { usePage } from "./page.ts";
import { t } from "./preferences.ts";

export function Welcome() {
  const page = usePage();
  const { welcome, welcome_text: text, suggestions } = brand.value;
  // An agent with a model answers them; the built-in one without a model plays its tour, and lists its commands.
  const offered = suggestions ?? [t("try1"), ...(page.identity.mayCommand ? [t("try2")] : [])];
  return (
    <section class="welcome" data-testid="welcome">
      <Logo />
      <h2 dir="auto">{welcome ?? t("welcome")}</h2>
      <p dir="auto">{text ?? t("welcomeText")}</p>
      <div class="suggestions">
        {offered.map((words) => (
          <button key={words} type="button" class="suggestion" dir="auto" onClick={() => void page.send(words)}>
            {words}
          </button>
        ))}
      </div>
    </section>
  );
}

export function BrandLinks() {
  const { links } = brand.value;
  if (links === undefined) return null;
  return (
    <p class="brand-links" data-testid="brand-links">
      {links.map(({ title, url }) => (
        <a key={url} class="link" href={url} target="_blank" rel="noopener noreferrer" dir="auto">
          {title}
        </a>
      ))}
    </p>
  );
}
