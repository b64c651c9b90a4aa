//! Trace context (W3C Trace Context, level 1): which trace a command belongs to.
//!
//! It goes from message to message in headers and is no part of what was decided. What is malformed is left out: a trace
//! is never a reason to refuse a command.

/// Longest `tracestate` that is passed on, in bytes.
const MAX_STATE: usize = 512;

/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;

/// The trace a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The value of `traceparent`.
    pub parent: String,
    /// The value of `tracestate`.
    pub state: Option<String>,
}

impl TraceContext {
    /// The trace that these headers name. None where there is none or it is malformed; a malformed `tracestate` alone is
    /// left out.
    pub fn read(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        let parent = parent?.trim();
        let state = state.map(str::trim).filter(|state| is_state(state));
        is_parent(parent).then(|| Self { parent: parent.to_owned(), state: state.map(str::to_owned) })
    }
}

/// `<version>-<trace id>-<parent id>-<flags>`, in lower-case hexadecimal digits; a later version may say more after it.
fn is_parent(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_some = |text: &str| text.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags, ref more @ ..] = parts[..] else { return false };
    let lengths = [version, trace, parent, flags].map(str::len);
    lengths == [2, 32, 16, 2]
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && version != "ff"
        && (version != "00" || more.is_empty())
        && is_some(trace)
        && is_some(parent)
        && text.len() <= MAX_STATE
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `<key>=<value>,…`, each key once.
fn is_state(text: &str) -> bool {
    let members: Vec<&str> = text.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    let mut keys: Vec<&str> = members.iter().filter_map(|member| Some(member.split_once('=')?.0)).collect();
    keys.sort_unstable();
    keys.dedup();
    text.len() <= MAX_STATE
        && (1..=MAX_MEMBERS).contains(&members.len())
        && keys.len() == members.len()
        && members.iter().all(|member| is_member(member))
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_key = |part: &str, length: usize| {
        (1..=length).contains(&part.len())
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    let key = match key.split_once('@') {
        Some((tenant, system)) => {
            is_key(tenant, 241) && is_key(system, 14) && system.as_bytes()[0].is_ascii_lowercase()
        }
        None => is_key(key, 256) && key.as_bytes()[0].is_ascii_lowercase(),
    };
    let is_value = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='));
    key && (1..=256).contains(&value.len()) && is_value && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_passed_on_as_it_is() {
        let trace = TraceContext::read(Some(PARENT), Some("rojo=00f067aa0ba902b7, 1a-2f@n=t61rcWkgMzE "));
        let trace = trace.expect("a trace");
        assert_eq!(trace.parent, PARENT);
        assert_eq!(trace.state.as_deref(), Some("rojo=00f067aa0ba902b7, 1a-2f@n=t61rcWkgMzE"));
        assert!(TraceContext::read(Some(&format!("01{}-more", &PARENT[2..])), None).is_some());
    }

    #[test]
    fn what_is_malformed_is_left_out() {
        let changed = |from: &str, to: &str| PARENT.replace(from, to);
        for bad in [
            String::new(),
            "00".into(),
            changed("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            changed("00f067aa0ba902b7", "0000000000000000"),
            changed("4bf9", "4BF9"),
            changed("4bf9", "4bg9"),
            changed("00-4", "ff-4"),
            format!("{PARENT}-more"),
            PARENT[..54].to_owned(),
            format!("{PARENT}\u{1}"),
            format!("01{}-{}", &PARENT[2..], "x".repeat(1000)),
            format!("01{}-a b", &PARENT[2..]),
        ] {
            assert_eq!(TraceContext::read(Some(&bad), None), None, "{bad}");
        }
        assert_eq!(TraceContext::read(None, Some("a=b")), None);
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        for bad in [
            "",
            "a",
            "=b",
            "a=",
            "A=b",
            "a=b,a=c",
            "a=b\u{1}",
            "a=b=c",
            "1a=b",
            "a@=b",
            &many.join(","),
            &"a".repeat(600),
        ] {
            let trace = TraceContext::read(Some(PARENT), Some(bad)).expect("the trace itself is well");
            assert_eq!(trace.state, None, "{bad}");
        }
    }
}
