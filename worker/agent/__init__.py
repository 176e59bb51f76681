"""The built-in agent: ACP on two pipes, with neither asyncio nor an HTTP client."""
