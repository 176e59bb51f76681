import { signal } from "@preact/signals";
import type { FunctionComponent } from "preact";
import { Icon } from "../../page/icons.tsx";
import { useConversation, usePage } from "../../page/page.ts";
import { t } from "../../page/preferences.ts";

/** The shop, once it was opened for the first time. */
const shop = signal<FunctionComponent | null>(null);

/** Opens the shop, and says how much is in the cart. */
export function ShopButton() {
  const page = usePage();
  const items = useConversation().chat.cart?.items ?? 0;
  return (
    <button
      type="button"
      class="text-button"
      data-testid="open-shop"
      aria-label={items > 0 ? t("shopWithItems", { n: items }) : t("shop")}
      aria-expanded={page.isShopOpen.value}
      onClick={async () => {
        page.isShopOpen.value = !page.isShopOpen.value;
        shop.value ??= (await import("./Shop.tsx")).Shop;
      }}
    >
      <Icon name="cart" />
      {items > 0 && <span data-testid="cart-items">{items}</span>}
    </button>
  );
}

export function ShopPanel() {
  const page = usePage();
  const Shop = shop.value;
  return page.isShopOpen.value && Shop ? <Shop key={page.conversation.value.sessionId} /> : null;
}
