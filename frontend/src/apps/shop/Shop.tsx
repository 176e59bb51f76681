import "./shop.css";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { ApiError } from "../../core/index.ts";
import { Icon, language, type PartPlace, useChanges } from "../../page/index.ts";
import { type Cart, type CartLine, type Info, type Product, type Products, ShopClient } from "./client.ts";
import type { CartFigures } from "./fold.ts";
import { w } from "./words.ts";

const NOTHING: Cart = { cart: [], item_count: 0, total: 0 };

/** The shop beside the chat: the session's cart, whether a person or the agent changes it, and the products. */
export function Shop({ place }: { place: PartPlace<CartFigures | null> }) {
  useChanges(place);
  const { api, sessionId, agent, value, isProcessing } = place;
  const client = useMemo(() => new ShopClient(api, sessionId, agent), [api, sessionId, agent]);
  const [cart, setCart] = useState<Cart>(NOTHING);
  const [info, setInfo] = useState<Info | null>(null);
  const attempt = useCallback(
    async (act: () => Promise<unknown>): Promise<void> => {
      try {
        await act();
      } catch (error) {
        place.tell(w("failed", { reason: error instanceof ApiError ? error.message : String(error) }));
      }
    },
    [place],
  );
  const refresh = useCallback(
    () =>
      attempt(async () => {
        const [held, known] = await Promise.all([client.cart(), client.info()]);
        setCart(held);
        setInfo(known);
      }),
    [attempt, client],
  );
  const figures = value === null ? "" : `${value.lines} ${value.items} ${value.total}`;
  // The session's log has an event for every change of the cart; the rest changes with the turns.
  useEffect(() => void refresh(), [refresh, figures, isProcessing]);
  const change = (act: () => Promise<unknown>): Promise<void> => attempt(async () => [await act(), await refresh()]);
  return (
    <aside class="shop" aria-label={w("title")} data-testid="shop">
      <header>
        <h2>{w("title")}</h2>
        <button
          type="button"
          class="icon-button"
          aria-label={w("close")}
          onClick={() => {
            place.isPanelOpen = false;
          }}
        >
          <Icon name="close" />
        </button>
      </header>
      <CartView cart={cart} remove={(line) => change(() => client.remove(line))} clear={() => change(() => client.clear())} />
      <Grid client={client} attempt={attempt} add={(product) => change(() => client.add(product))} />
      <PreferenceList info={info} save={(key, value) => change(() => client.prefer(key, value))} />
      {info && <Insights info={info} />}
    </aside>
  );
}

function nameOf(named: { name: string; name_en?: string }): string {
  return language.value === "en" ? named.name_en || named.name : named.name;
}

function CartView({ cart, remove, clear }: { cart: Cart; remove(line: string): void; clear(): void }) {
  return (
    <section aria-label={w("cart")}>
      <h3>{w("cart")}</h3>
      {cart.cart.length === 0 && <p class="quiet">{w("empty")}</p>}
      <ul class="shop-cart" data-testid="shop-cart" aria-live="polite">
        {cart.cart.map((line: CartLine) => (
          <li key={line.id}>
            <span class="shop-name" dir="auto">
              {nameOf(line)}
            </span>
            <span class="shop-figure">
              × {line.quantity} · {line.line_total.toFixed(2)} ₪
            </span>
            <button
              type="button"
              class="quiet-button"
              aria-label={w("remove", { name: nameOf(line) })}
              onClick={() => remove(line.id)}
            >
              <Icon name="delete" />
            </button>
          </li>
        ))}
      </ul>
      {cart.cart.length > 0 && (
        <p class="shop-total">
          <strong data-testid="shop-total">{w("total", { total: cart.total.toFixed(2) })}</strong>
          <button type="button" class="text-button" onClick={clear}>
            {w("clear")}
          </button>
        </p>
      )}
    </section>
  );
}

function Grid(props: {
  client: ShopClient;
  attempt(act: () => Promise<unknown>): Promise<void>;
  add(product: string): void;
}) {
  const { client, attempt, add } = props;
  const [search, setSearch] = useState("");
  const [category, setCategory] = useState("");
  const [pages, setPages] = useState(1);
  const [found, setFound] = useState<Products | null>(null);
  useEffect(() => {
    let isCurrent = true;
    void attempt(async () => {
      const read = await Promise.all(
        Array.from({ length: pages }, (_, index) => client.products(search, category, index + 1)),
      );
      const [first] = read;
      if (isCurrent && first) setFound({ ...first, products: read.flatMap((each) => each.products) });
    });
    return () => {
      isCurrent = false;
    };
  }, [attempt, client, search, category, pages]);
  return (
    <section aria-label={w("products")}>
      <h3>{w("products")}</h3>
      <div class="shop-filters">
        <input
          type="search"
          maxLength={200}
          aria-label={w("search")}
          placeholder={w("search")}
          data-testid="shop-search"
          onInput={(event) => {
            setSearch(event.currentTarget.value);
            setPages(1);
          }}
        />
        <select
          aria-label={w("category")}
          onChange={(event) => {
            setCategory(event.currentTarget.value);
            setPages(1);
          }}
        >
          <option value="">{w("all")}</option>
          {found?.categories.map((each) => (
            <option key={each.name} value={each.name}>
              {nameOf(each)}
            </option>
          ))}
        </select>
      </div>
      {found?.total === 0 && <p class="quiet">{w("nothing")}</p>}
      <ul class="shop-grid" data-testid="shop-products">
        {found?.products.map((product) => (
          <Tile key={product.id} product={product} add={add} />
        ))}
      </ul>
      {found && pages < found.pages && (
        <button type="button" class="text-button" onClick={() => setPages(pages + 1)}>
          {w("more")}
        </button>
      )}
    </section>
  );
}

function Tile({ product, add }: { product: Product; add(product: string): void }) {
  const isForSale = product.is_in_stock && product.is_purchasable;
  return (
    <li>
      {product.image && <img src={addressOf(product.image)} alt="" loading="lazy" width={96} height={96} />}
      <span class="shop-name" dir="auto">
        {nameOf(product)}
      </span>
      <span class="shop-figure">{shownPrice(product.price_formatted)}</span>
      <button
        type="button"
        class="text-button"
        disabled={!isForSale}
        aria-label={isForSale ? w("addName", { name: nameOf(product) }) : w("soldOut")}
        onClick={() => add(product.id)}
      >
        {w(isForSale ? "add" : "soldOut")}
      </button>
    </li>
  );
}

/** Pictures that come with a store are served beside the page, whatever path a proxy put before it. */
function addressOf(image: string): string {
  const own = image.startsWith("/") ? image.indexOf("/shop/images/") : -1;
  return own < 0 ? image : new URL(`.${image.slice(own)}`, document.baseURI).href;
}

function PreferenceList({ info, save }: { info: Info | null; save(key: string, value: string): void }) {
  const known = Object.entries(info?.analytics.preferences ?? {});
  return (
    <section aria-label={w("preferences")}>
      <h3>{w("preferences")}</h3>
      <dl data-testid="shop-preferences">
        {known.map(([key, value]) => (
          <div key={key}>
            <dt dir="auto">{key}</dt>
            <dd dir="auto">{typeof value === "string" ? value : JSON.stringify(value)}</dd>
          </div>
        ))}
      </dl>
      <form
        class="shop-filters"
        onSubmit={(event) => {
          event.preventDefault();
          const data = new FormData(event.currentTarget);
          save(String(data.get("key")).trim(), String(data.get("value")).trim());
          event.currentTarget.reset();
        }}
      >
        <input name="key" required maxLength={128} aria-label={w("key")} placeholder={w("key")} />
        <input name="value" required maxLength={1000} aria-label={w("value")} placeholder={w("value")} />
        <button type="submit" class="text-button">
          {w("save")}
        </button>
      </form>
    </section>
  );
}

function Insights({ info }: { info: Info }) {
  const { session_duration, conversation_count, top_topics } = info.analytics;
  return (
    <section aria-label={w("insights")}>
      <h3>{w("insights")}</h3>
      <dl data-testid="shop-insights">
        <div>
          <dt>{w("duration")}</dt>
          <dd>{session_duration}</dd>
        </div>
        <div>
          <dt>{w("messages")}</dt>
          <dd>{conversation_count}</dd>
        </div>
        {top_topics.length > 0 && (
          <div>
            <dt>{w("topics")}</dt>
            <dd dir="auto">{top_topics.map((topic) => topic.word).join(", ")}</dd>
          </div>
        )}
      </dl>
    </section>
  );
}

/** With two decimals, as the cart has prices. */
function shownPrice(text: string): string {
  const found = /^(\d+(?:\.\d{1,2})?) ₪$/.exec(text);
  return found ? `${Number(found[1]).toFixed(2)} ₪` : text;
}
