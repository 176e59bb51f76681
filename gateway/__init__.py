"""Agent Gateway: serve any ACP agent to many people from one box, one process per session."""

from gateway.app import create_app
from gateway.config.tables import Config
from gateway.version import VERSION as __version__

__all__ = ["Config", "__version__", "create_app"]
