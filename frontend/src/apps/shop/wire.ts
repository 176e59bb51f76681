// Made by frontend/wire.py from the gateway's Python types. Change those, and run it again.

/**
 * The session's cart is another one: how many lines and pieces, and what they cost (`"19.80"`, in ₪). What is in
 * it is asked for: it is forgotten sooner than the log.
 */
export interface CartChanged {
  type: "cart";
  lines: number;
  items: number;
  total: string;
}
