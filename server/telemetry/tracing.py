"""Trace requests, if OpenTelemetry has an address to send traces to: the extra `otel`, and all that knows of it."""

from typing import TYPE_CHECKING, Any

from flask import Flask, request

from server.telemetry.logs import request_id
from shared.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor


def trace(app: Flask, processor: "SpanProcessor | None" = None) -> None:
    """Send a span for each request. Call it before anything else is hooked in. Raises `ConfigError`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.flask import FlaskInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(f"Traces are asked for, but {error.name} is not installed: pip install '.[otel]'.") from error

    def mark(span: Any, status: str, headers: list[tuple[str, str]]) -> None:
        span.set_attribute("request_id", request_id.get())
        span.set_attribute("http.target", request.path)  # without the query, which people put secrets into

    provider = TracerProvider(resource=Resource.create({"service.name": "image-similarity"}))
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    FlaskInstrumentor().instrument_app(
        app, response_hook=mark, tracer_provider=provider, excluded_urls="/healthz,/readyz,/metrics"
    )
