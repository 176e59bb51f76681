"""How Hypothesis runs here: without bounds on real time, which a busy machine misses for no fault of ours."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
