//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): the caller's trace is continued, so the logs of the
//! edge, the controller and a runtime can be joined by one trace id. Beside it goes the edge's id of the request, by which
//! they can be joined too: X-Request-ID, which Envoy makes and gives the caller with the answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Section 3.3.1.1 of the specification: at least this many characters should be passed on; more is dropped.
const TRACESTATE_LIMIT: usize = 512;

#[derive(Clone, Debug)]
pub struct TraceContext {
    /// A UUID.
    request_id: String,
    trace_id: String,
    /// This request's own span, which the runtime sees as its parent.
    span_id: String,
    flags: String,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// Continues the trace of `headers`, or starts one where there is none or an invalid one: its id is then the request's,
    /// so that who has one has both. Without an id of the edge's, the request gets one here.
    pub fn continued(headers: &HeaderMap) -> Self {
        let span_id = random_hex::<8>();
        let request_id = headers
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| is_uuid(id))
            .map_or_else(random_uuid, str::to_owned);
        match headers.get(TRACEPARENT).and_then(parse) {
            Some((trace_id, flags)) => TraceContext {
                request_id,
                trace_id: trace_id.to_owned(),
                span_id,
                flags: flags.to_owned(),
                state: headers
                    .get(TRACESTATE)
                    .filter(|state| state.len() <= TRACESTATE_LIMIT)
                    .cloned(),
            },
            None => TraceContext {
                trace_id: request_id.replace('-', ""),
                request_id,
                span_id,
                flags: "00".to_owned(),
                state: None,
            },
        }
    }

    pub fn request_id(&self) -> &str {
        &self.request_id
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
        let request_id =
            HeaderValue::try_from(&self.request_id).expect("hexadecimal digits and dashes");
        headers.insert(REQUEST_ID, request_id);
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

/// Of any version, in lower case, as Envoy writes it, and not all zeroes, as no trace's id is.
fn is_uuid(text: &str) -> bool {
    let parts = text.split('-').map(str::len);
    parts.eq([8, 4, 4, 4, 12])
        && text.split('-').all(|part| is_hex(part, part.len()))
        && text.bytes().any(|byte| byte != b'0' && byte != b'-')
}

fn random_uuid() -> String {
    let hex = random_hex::<16>();
    let ends = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    ends.map(|(start, end)| &hex[start..end]).join("-")
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
    fn the_edges_id_of_the_request_goes_on_and_is_the_traces_where_there_is_none() {
        let id = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f";
        let mut received = HeaderMap::new();
        received.insert(REQUEST_ID, HeaderValue::from_static(id));
        let context = TraceContext::continued(&received);
        let as_trace = "5e3d9a5271c44c1b9f0e6a1b2c3d4e5f";
        assert_eq!((context.request_id(), context.trace_id()), (id, as_trace));
        let mut sent = HeaderMap::new();
        context.inject(&mut sent);
        assert_eq!(TraceContext::continued(&sent).request_id(), id);
        received.insert(TRACEPARENT, HeaderValue::from_static(VALID));
        let context = TraceContext::continued(&received);
        assert_eq!(context.request_id(), id);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_is_no_id_is_not_logged_and_not_sent_on() {
        for wrong in [
            "",
            "secret",
            "5E3D9A52-71C4-4C1B-9F0E-6A1B2C3D4E5F",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let mut received = HeaderMap::new();
            received.insert(REQUEST_ID, HeaderValue::from_static(wrong));
            let context = TraceContext::continued(&received);
            assert_ne!(context.request_id(), wrong);
            assert!(is_uuid(context.request_id()), "{}", context.request_id());
            assert!(is_hex(context.trace_id(), 32), "{}", context.trace_id());
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
