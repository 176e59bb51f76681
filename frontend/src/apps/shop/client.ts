/** What the shop view asks of the gateway, for the session on screen. */

import { type Api, ApiError } from "../../core/index.ts";

export interface Product {
  id: string;
  name: string;
  name_en: string;
  price_formatted: string;
  category: string;
  category_en: string;
  image: string;
  is_purchasable: boolean;
  is_in_stock: boolean;
}

export interface Category {
  name: string;
  name_en: string;
}

export interface Products {
  products: Product[];
  total: number;
  page: number;
  pages: number;
  categories: Category[];
}

export interface CartLine {
  id: string;
  name: string;
  name_en?: string;
  quantity: number;
  line_total: number;
}

export interface Cart {
  cart: CartLine[];
  item_count: number;
  total: number;
}

export interface Info {
  analytics: {
    session_duration: string;
    conversation_count: number;
    top_topics: { word: string; count: number }[];
    preferences: Record<string, unknown>;
  };
}

export class ShopClient {
  readonly #api: Api;
  readonly #sessionId: string;
  readonly #agent: string | null;

  constructor(api: Api, sessionId: string, agent: string | null) {
    this.#api = api;
    this.#sessionId = sessionId;
    this.#agent = agent;
  }

  products(search: string, category: string, page: number): Promise<Products> {
    const query = new URLSearchParams({ search, category, page: String(page) });
    return this.#ask("GET", `/products?${query}`);
  }

  cart(): Promise<Cart> {
    return this.#ask("GET", `${this.#path}/cart`);
  }

  /** Null for a session that the shop knows nothing of yet. */
  async info(): Promise<Info | null> {
    try {
      return await this.#ask<Info>("GET", `${this.#path}/info`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  add(productId: string): Promise<unknown> {
    return this.#once(() => this.#ask("POST", `${this.#path}/cart/add`, { product_id: productId }));
  }

  remove(line: string): Promise<unknown> {
    return this.#ask("POST", `${this.#path}/cart/remove`, { id: line });
  }

  clear(): Promise<unknown> {
    return this.#ask("DELETE", `${this.#path}/cart/clear`);
  }

  prefer(key: string, value: string): Promise<unknown> {
    return this.#once(() => this.#ask("POST", `${this.#path}/preferences`, { [key]: value }));
  }

  /** A route below /api/v1/shopping; what its envelope holds. */
  async #ask<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
    const answer = await this.#api.call<{ data: T }>(method, `/api/v1/shopping${path}`, body);
    return answer.data;
  }

  get #path(): string {
    return `/session/${encodeURIComponent(this.#sessionId)}`;
  }

  /** A session in which nothing was said yet is made first. */
  async #once<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof ApiError && error.code === "not_found")) throw error;
      const agent = this.#agent === null ? {} : { agent: this.#agent };
      await this.#api.createSession({ session_id: this.#sessionId, ...agent });
      return act();
    }
  }
}
