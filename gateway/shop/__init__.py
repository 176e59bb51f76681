"""The shop: a catalogue, a cart for each conversation, and tools that agents call."""
