/** The shop's texts. They are loaded with it, so that other pages do not carry them. */

import { language } from "../../page/index.ts";

const en = {
  title: "Shop",
  close: "Close the shop",
  cart: "Cart",
  empty: "The cart is empty.",
  total: "Total {total} ₪",
  remove: "Remove {name}",
  clear: "Empty the cart",
  products: "Products",
  search: "Search products",
  category: "Category",
  all: "All categories",
  add: "Add",
  addName: "Add {name} to the cart",
  soldOut: "Sold out",
  nothing: "No products match.",
  more: "More products",
  preferences: "Preferences",
  key: "What",
  value: "How",
  save: "Save",
  insights: "This session",
  duration: "Duration",
  messages: "Messages",
  topics: "Topics",
  failed: "This failed: {reason}",
};

const he: Record<keyof typeof en, string> = {
  title: "חנות",
  close: "סגירת החנות",
  cart: "עגלה",
  empty: "העגלה ריקה.",
  total: "סה״כ {total} ₪",
  remove: "הסרת {name}",
  clear: "ריקון העגלה",
  products: "מוצרים",
  search: "חיפוש מוצרים",
  category: "קטגוריה",
  all: "כל הקטגוריות",
  add: "הוספה",
  addName: "הוספת {name} לעגלה",
  soldOut: "אזל",
  nothing: "לא נמצאו מוצרים.",
  more: "מוצרים נוספים",
  preferences: "העדפות",
  key: "מה",
  value: "איך",
  save: "שמירה",
  insights: "השיחה הזאת",
  duration: "משך",
  messages: "הודעות",
  topics: "נושאים",
  failed: "זה לא הצליח: {reason}",
};

export function w(key: keyof typeof en, params: Record<string, string> = {}): string {
  const words = language.value === "he" ? he : en;
  return words[key].replace(/\{(\w+)\}/g, (whole, name: string) => params[name] ?? whole);
}
