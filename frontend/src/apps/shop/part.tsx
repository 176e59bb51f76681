/** The shop's part of the page: how much is in the session's cart, and the shop beside the conversation. */

import { drawnBy, Glyph, language, type PagePart, type PartPlace, useChanges } from "../../page/index.ts";
import { type CartFigures, cartFold } from "./fold.ts";

export const shop: PagePart<CartFigures | null> = {
  applications: ["shop", "shopping_assistant"],
  title: { en: "Shop", he: "חנות" },
  fold: cartFold,
  header: drawnBy(Button),
  panel: async (element, place) => drawnBy((await import("./Shop.tsx")).Shop)(element, place),
};

const CART = "M4 5h2.200l2 10h9.300l2-7.500H7M9.500 19h.01M16.500 19h.01";
/** Of the button alone: the other words come with the panel. */
const WORDS = {
  en: { shop: "Shop", withItems: "Shop, {n} in the cart" },
  he: { shop: "חנות", withItems: "חנות, {n} בעגלה" },
};

/** The agent that comes with the shop. */
const AGENT = "shop";

/**
 * Opens the shop, and says how much is in the cart. It is there in conversations that shop: with the shop's own agent,
 * or once something is in their cart. In others the shop is opened from the palette.
 */
function Button({ place }: { place: PartPlace<CartFigures | null> }) {
  useChanges(place);
  const items = place.value?.items ?? 0;
  if (place.currentAgent !== AGENT && place.value === null && !place.isPanelOpen) return null;
  const words = WORDS[language.value];
  return (
    <button
      type="button"
      class="text-button"
      data-testid="open-shop"
      aria-label={items > 0 ? words.withItems.replace("{n}", String(items)) : words.shop}
      aria-expanded={place.isPanelOpen}
      onClick={() => {
        place.isPanelOpen = !place.isPanelOpen;
      }}
    >
      <Glyph path={CART} />
      {items > 0 && <span data-testid="cart-items">{items}</span>}
    </button>
  );
}
