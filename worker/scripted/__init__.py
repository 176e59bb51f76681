"""The scripted ACP agent for tests: it plays a JSON file. It imports parts of `agent`."""
