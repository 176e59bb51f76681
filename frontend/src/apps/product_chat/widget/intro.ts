/** What the widget shows before anything was said: a greeting, questions to begin with, and when nobody is there. */

import type { WidgetSettings } from "../wire.ts";
import type { Words } from "./words.ts";

export class Intro {
  #place: HTMLElement;
  #words: Words;
  #ask: (question: string) => void;

  constructor(place: HTMLElement, words: Words, ask: (question: string) => void) {
    this.#place = place;
    this.#words = words;
    this.#ask = ask;
  }

  /** Shows the shop's words, or the widget's own; nothing if the shop cannot be reached. */
  show(settings: WidgetSettings | null): void {
    if (settings === null) return;
    const words = this.#words;
    const parts: HTMLElement[] = [paragraph(settings.greeting || words.greeting(settings.product.name))];
    if (!settings.is_open) {
      const away = paragraph(settings.away || words.away);
      away.className = "away";
      parts.push(away);
    }
    const list = document.createElement("ul");
    list.className = "suggestions";
    list.setAttribute("aria-label", words.suggest);
    for (const question of settings.suggestions.length > 0 ? settings.suggestions : words.suggestions) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.dir = "auto";
      button.textContent = question;
      button.addEventListener("click", () => this.#ask(question));
      item.append(button);
      list.append(item);
    }
    this.#place.replaceChildren(...parts, list);
  }
}

function paragraph(text: string): HTMLElement {
  const made = document.createElement("p");
  made.dir = "auto";
  made.textContent = text;
  return made;
}
