"""What this application refuses. The first paragraph of a class is what its caller reads."""

from __future__ import annotations

from gateway.errors import GatewayError


class TooManyNotes(GatewayError):
    """This conversation has as many notes as it may have."""

    code = "too_many_notes"
    status = 409
