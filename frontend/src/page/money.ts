/** Dollars; small amounts with the digits that tell them apart. */
export function dollars(amount: number): string {
  const digits = amount !== 0 && Math.abs(amount) < 0.1 ? 4 : 2;
  const options = { style: "currency", currency: "USD", minimumFractionDigits: digits } as const;
  return new Intl.NumberFormat("en", { ...options, maximumFractionDigits: digits }).format(amount);
}
