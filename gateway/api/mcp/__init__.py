"""The MCP server: the route, the SDK behind it, and the same over stdio."""
