"""Limits of a worker by the kind of its work, `limits_preset`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from worker.spec import MIB, Limits

LimitsPreset = Literal["chat", "coding"]
PRESETS: Final[Mapping[LimitsPreset, Limits]] = {
    "chat": Limits(),
    "coding": Limits(
        memory_bytes=4096 * MIB,
        processes=1024,
        open_files=16_384,
        turn_cpu_seconds=14_400,
        file_bytes=4096 * MIB,
        disk_bytes=16_384 * MIB,
        files=500_000,
        temporary_bytes=512 * MIB,
        turn_seconds=14_400,
    ),
}
"""`python -m tests.builds` installs and builds a repository of eight packages under `coding`."""


def chosen(preset: LimitsPreset, own: Mapping[str, int]) -> Limits:
    """The limits of a preset, but what somebody chose otherwise: a value that is not the default's."""
    values = {
        name: own[name] if name in own and own[name] != getattr(PRESETS["chat"], name) else limit
        for name, limit in ((name, getattr(PRESETS[preset], name)) for name in Limits.__struct_fields__)
    }
    return Limits(**values)
