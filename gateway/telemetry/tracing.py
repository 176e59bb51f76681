"""Traces for OpenTelemetry, an extra: a request, below it its turn, below that the agent's start, every model
call, every tool call and every wait for a person, by the names and attributes of the GenAI semantic
conventions.

Guarantees: no client's session id is in a span, and no text of a prompt, an answer or a tool call unless
`telemetry.capture_content` says so; if no endpoint is configured, OpenTelemetry is not imported, and a span
costs a call that does nothing.
"""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""The standard ones; either is enough."""
EXPORT_SECONDS: Final = 3.0
"""How long a collector that does not answer may hold up the end."""
CONTENT_CHARACTERS: Final = 16_384
"""What a span carries of one text, if it carries texts."""
SERVICE: Final = "agent-gateway"

Attributes = Mapping[str, str | int]


class TracingMissing(OSError):
    """An endpoint is configured and OpenTelemetry is not installed."""


class Span(Protocol):
    """Something that takes time."""

    def end(
        self,
        *,
        name: str = "",
        error: str = "",
        attributes: Attributes | None = None,
        at_ms: int | None = None,
    ) -> None:
        """It is over, now or at this time (milliseconds since 1970 UTC); `error` is a slug. Only the first
        end counts.
        """


class Tracer(Protocol):
    """Makes spans."""

    def start(
        self,
        name: str,
        *,
        parent: Span | None = None,
        headers: Mapping[str, str] | None = None,
        attributes: Attributes | None = None,
        at_ms: int | None = None,
    ) -> Span:
        """A span from now on, or from this time on; `headers` are those of a request, which may go on with
        its caller's trace.
        """

    def record(
        self, name: str, *, seconds: float, parent: Span | None, attributes: Attributes, error: str = ""
    ) -> None:
        """A span that took so long and is over now."""

    def close(self) -> None:
        """Sends what is left; bounded."""


class _Nothing:
    """No tracing."""

    def start(self, *_: object, **__: object) -> Span:
        return NO_SPAN

    def record(self, *_: object, **__: object) -> None: ...

    def end(self, **_: object) -> None: ...

    def close(self) -> None: ...


NO_TRACER: Final = _Nothing()
NO_SPAN: Final[Span] = NO_TRACER

_current: Final[contextvars.ContextVar[Span]] = contextvars.ContextVar("agent_gateway.span", default=NO_SPAN)


def current() -> Span:
    """The request that the current context belongs to."""
    return _current.get()


def enter(span: Span) -> None:
    """Makes a span that of the current context."""
    _current.set(span)


def tracer(endpoint: str, *, version: str) -> Tracer:
    """A tracer that sends to this OTLP/HTTP endpoint, or to the one that the environment names.

    Raises TracingMissing.
    """
    if not endpoint and not any(os.environ.get(name) for name in VARIABLES):
        return NO_TRACER
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingMissing(
            "Traces are configured, but OpenTelemetry is not installed: pip install 'agent-gateway[otel]'"
        ) from error
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.version": version}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS)))
    return OtelTracer(provider)


class OtelTracer:
    """OpenTelemetry's spans behind this module's words; `provider` is its TracerProvider."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def start(
        self,
        name: str,
        *,
        parent: Span | None = None,
        headers: Mapping[str, str] | None = None,
        attributes: Attributes | None = None,
        at_ms: int | None = None,
    ) -> Span:
        kind = self._trace.SpanKind.INTERNAL if headers is None else self._trace.SpanKind.SERVER
        if headers is not None:
            context = self._propagator.extract({"traceparent": headers.get("traceparent", "")})
        else:
            context = self._context(parent)
        span = self._tracer.start_span(
            name, context=context, kind=kind, attributes=attributes, start_time=_nanoseconds(at_ms)
        )
        return _OtelSpan(span)

    def record(
        self, name: str, *, seconds: float, parent: Span | None, attributes: Attributes, error: str = ""
    ) -> None:
        began = time.time_ns() - round(seconds * 1e9)
        kind = self._trace.SpanKind.CLIENT
        context = self._context(parent)
        span = self._tracer.start_span(
            name, context=context, kind=kind, attributes=attributes, start_time=began
        )
        _OtelSpan(span).end(error=error)

    def _context(self, parent: Span | None) -> Any:
        """Of a parent that is ours; else of none, never of what else runs in this process."""
        empty = self._trace.set_span_in_context(self._trace.INVALID_SPAN)
        return self._trace.set_span_in_context(parent.span) if isinstance(parent, _OtelSpan) else empty

    def close(self) -> None:
        self._provider.shutdown()


class _OtelSpan:
    def __init__(self, span: Any) -> None:
        self.span = span

    def end(
        self,
        *,
        name: str = "",
        error: str = "",
        attributes: Attributes | None = None,
        at_ms: int | None = None,
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        if not self.span.is_recording():
            return
        if name:
            self.span.update_name(name)
        self.span.set_attributes(dict(attributes or {}))
        if error:
            self.span.set_attribute("error.type", error)
            self.span.set_status(Status(StatusCode.ERROR, error))
        self.span.end(end_time=_nanoseconds(at_ms))


def _nanoseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * 1_000_000
