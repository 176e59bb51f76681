"""The shop: a catalogue, one cart for each conversation, and tools for agents and MCP clients."""
