"""The ledger against the provider's own count, over a gateway that is killed again and again."""
