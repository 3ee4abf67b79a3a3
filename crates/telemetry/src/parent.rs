//! A trace context as W3C's `traceparent`: `00-<trace id>-<span id>-<flags>`.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};

use crate::span::tracer;

/// The header's name, in gRPC metadata and in Kafka records.
pub(crate) const HEADER: &str = "traceparent";

/// The context of the span that the running future is under, sampled or not, for a request to another service.
pub fn traceparent() -> Option<String> {
    tracer()?;
    Context::map_current(|context| {
        let span = context.span();
        span.span_context().is_valid().then(|| format(span.span_context()))
    })
}

pub(crate) fn format(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8())
}

/// Reads a header. A later version's begins with what is read here; anything else is none.
pub(crate) fn parse(header: &str) -> Option<SpanContext> {
    let mut parts = header.splitn(5, '-');
    let mut hex = |digits: usize| {
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        parts.next().filter(|part| part.len() == digits && part.bytes().all(lower))
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        let context = parse(SAMPLED).expect("a trace context");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(format(&context), SAMPLED);
        let unsampled = parse(&SAMPLED.replace("-01", "-00")).expect("a trace context");
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn a_later_version_is_read_by_its_beginning_and_anything_else_is_none() {
        assert!(parse(&format!("{}-more", SAMPLED.replacen("00", "01", 1))).is_some());
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ñ-00f067aa0ba902b-01",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
