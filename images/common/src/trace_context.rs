//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): the caller's trace is continued, so the logs of the
//! edge, the controller and a runtime can be joined by one trace id.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Section 3.3.1.1 of the specification: at least this many characters should be passed on; more is dropped.
const TRACESTATE_LIMIT: usize = 512;

#[derive(Clone, Debug)]
pub struct TraceContext {
    trace_id: String,
    /// This request's own span, which the runtime sees as its parent.
    span_id: String,
    flags: String,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// Continues the trace of `headers`, or starts one where there is none or an invalid one.
    pub fn continued(headers: &HeaderMap) -> Self {
        let span_id = random_hex::<8>();
        match headers.get(TRACEPARENT).and_then(parse) {
            Some((trace_id, flags)) => TraceContext {
                trace_id: trace_id.to_owned(),
                span_id,
                flags: flags.to_owned(),
                state: headers
                    .get(TRACESTATE)
                    .filter(|state| state.len() <= TRACESTATE_LIMIT)
                    .cloned(),
            },
            None => TraceContext {
                trace_id: random_hex::<16>(),
                span_id,
                flags: "00".to_owned(),
                state: None,
            },
        }
    }

    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    pub fn span_id(&self) -> &str {
        &self.span_id
    }

    /// Writes the headers for a call made on behalf of this request.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let parent = format!("00-{}-{}-{}", self.trace_id, self.span_id, self.flags);
        let parent = HeaderValue::try_from(parent).expect("hexadecimal digits and dashes");
        headers.insert(TRACEPARENT, parent);
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// Trace id and flags of a valid `traceparent`. A version above 00 may carry more fields after those of 00.
fn parse(header: &HeaderValue) -> Option<(&str, &str)> {
    let text = header.to_str().ok()?;
    let mut fields = text.split('-');
    let (version, trace_id) = (fields.next()?, fields.next()?);
    let (parent_id, flags) = (fields.next()?, fields.next()?);
    let extra = fields.next().is_some();
    let valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace_id, 32)
        && is_hex(parent_id, 16)
        && is_hex(flags, 2)
        && trace_id.bytes().any(|byte| byte != b'0')
        && parent_id.bytes().any(|byte| byte != b'0')
        && (version != "00" || !extra);
    valid.then_some((trace_id, flags))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn random_hex<const BYTES: usize>() -> String {
    use std::fmt::Write;

    let mut text = String::with_capacity(2 * BYTES);
    loop {
        let mut bytes = [0u8; BYTES];
        rand::rng().fill(&mut bytes);
        // All zeroes is the one value that the specification calls invalid.
        if bytes.iter().any(|byte| *byte != 0) {
            for byte in bytes {
                write!(text, "{byte:02x}").expect("writing to a String does not fail");
            }
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &str, state: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        if let Some(state) = state {
            headers.insert(TRACESTATE, HeaderValue::from_str(state).unwrap());
        }
        headers
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let context = TraceContext::continued(&headers(VALID, Some("vendor=x")));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(context.span_id(), "00f067aa0ba902b7");
        let mut sent = HeaderMap::new();
        context.inject(&mut sent);
        assert_eq!(
            sent[TRACEPARENT].to_str().unwrap(),
            format!(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01",
                context.span_id()
            )
        );
        assert_eq!(sent[TRACESTATE], "vendor=x");
    }

    #[test]
    fn an_invalid_trace_is_replaced_and_its_state_dropped() {
        for invalid in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            let context = TraceContext::continued(&headers(invalid, Some("vendor=x")));
            assert!(is_hex(context.trace_id(), 32), "{invalid}");
            assert_ne!(
                context.trace_id(),
                "4bf92f3577b34da6a3ce929d0e0e4736",
                "{invalid}"
            );
            assert!(context.state.is_none(), "{invalid}");
        }
    }

    #[test]
    fn a_later_version_with_more_fields_is_continued() {
        let later =
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like";
        let context = TraceContext::continued(&headers(later, None));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
