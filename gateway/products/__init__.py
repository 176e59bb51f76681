"""Product chat: a visitor asks about a product, the agent answers, a person can take over."""
