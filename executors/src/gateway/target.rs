//! Where a call goes: below the vendor's base URL and nowhere else, whatever its caller or the vendor's answer says.

use axum::http::HeaderValue;
use serde_json::Value;
use url::Url;

/// How often a path is decoded to find what a vendor might: once is usual, twice has been seen.
const DECODED: usize = 3;

/// A vendor's base URL.
#[derive(Debug, Clone)]
pub(super) struct Base {
    url: Url,
    /// Its path without a slash at the end.
    path: String,
}

/// What an address in an answer is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Below the base URL: here it is as the run has to ask for it.
    Ours(String),
    /// Anything else.
    Foreign,
}

impl Base {
    pub(super) fn new(base_url: &str) -> Result<Self, String> {
        let url = Url::parse(base_url).map_err(|error| format!("`{base_url}` is no URL: {error}"))?;
        let plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(format!("`{base_url}` is no base URL: write https://host/path"));
        }
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err("a base URL has no login, no query and no fragment".to_owned());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { url, path })
    }

    /// The URL of a call, if it surely is below the base URL.
    pub(super) fn target(&self, path: &str, query: Option<&str>) -> Result<Url, &'static str> {
        if !path.starts_with('/') || path.contains(['\\', '#', '?']) || path.chars().any(char::is_control) {
            return Err("the path has signs that do not belong there");
        }
        if climbs(path) {
            return Err("the path leads out of what it begins with");
        }
        let mut text = format!("{}{}{path}", self.url.origin().ascii_serialization(), self.path);
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        let url = Url::parse(&text).map_err(|_| "the path is none")?;
        if self.below(&url).is_none() {
            return Err("the path leads out of the vendor's API");
        }
        Ok(url)
    }

    /// The part of a URL's path below the base, if it is there.
    fn below<'a>(&self, url: &'a Url) -> Option<&'a str> {
        let same = url.scheme() == self.url.scheme()
            && url.host() == self.url.host()
            && url.port_or_known_default() == self.url.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none();
        let rest = url.path().strip_prefix(&self.path)?;
        (same && rest.starts_with('/') && !climbs(rest)).then_some(rest)
    }

    /// An address that came in the answer to a call of `asked`, as seen from a run's path.
    pub(super) fn address(&self, address: &str, asked: &Url, run: &str) -> Address {
        let Ok(url) = asked.join(address.trim()) else {
            return Address::Foreign;
        };
        let Some(rest) = self.below(&url) else {
            return Address::Foreign;
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let fragment = url.fragment().map(|fragment| format!("#{fragment}")).unwrap_or_default();
        Address::Ours(format!("{run}{rest}{query}{fragment}"))
    }

    /// A `Link` header without the links that lead elsewhere. An error: the next page of a list is elsewhere. Whoever did
    /// not hear of it would take the list for ended.
    pub(super) fn links(
        &self,
        value: &HeaderValue,
        asked: &Url,
        run: &str,
    ) -> Result<Option<HeaderValue>, ()> {
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut kept = Vec::new();
        for link in split_links(&text) {
            let Some((address, rest)) = link.trim().strip_prefix('<').and_then(|link| link.split_once('>'))
            else {
                continue;
            };
            match self.address(address, asked, run) {
                Address::Ours(ours) => kept.push(format!("<{ours}>{rest}")),
                Address::Foreign if is_next(rest) => return Err(()),
                Address::Foreign => {}
            }
        }
        if kept.is_empty() {
            return Ok(None);
        }
        HeaderValue::from_bytes(kept.join(", ").as_bytes()).map(Some).map_err(drop)
    }

    /// A body whose addresses at these pointers are the run's; none if it has no such. An error: one leads elsewhere.
    pub(super) fn body(
        &self,
        body: &[u8],
        pointers: &[String],
        asked: &Url,
        run: &str,
    ) -> Result<Option<Vec<u8>>, ()> {
        if pointers.is_empty() {
            return Ok(None);
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
            return Ok(None);
        };
        let mut changed = false;
        for pointer in pointers {
            let Some(Value::String(text)) = value.pointer_mut(pointer) else { continue };
            // A cursor that is no address stays what it is.
            let is_address = text.starts_with('/') || text.contains("://");
            if !is_address {
                continue;
            }
            match self.address(text, asked, run) {
                Address::Ours(ours) => *text = ours,
                Address::Foreign => return Err(()),
            }
            changed = true;
        }
        Ok(changed.then(|| value.to_string().into_bytes()))
    }
}

/// Whether a path goes up, or would where its percent signs are decoded.
fn climbs(path: &str) -> bool {
    let mut text = path.to_owned();
    for _ in 0..=DECODED {
        if text.split(['/', '\\']).any(|part| matches!(part.split(';').next(), Some("." | ".."))) {
            return true;
        }
        let decoded = decoded(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    // Encoded more often than anybody has a reason to.
    true
}

fn decoded(text: &str) -> String {
    let hex = |at: usize| text.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match hex(at).filter(|_| *byte == b'%') {
            Some(meant) => {
                out.push(meant);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the parameters of a link say that it is the next page.
fn is_next(parameters: &str) -> bool {
    let parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut relations = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"));
    relations.any(|(_, said)| {
        let said = said.trim().trim_matches('"');
        said.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

/// The links of a header: what commas part, unless they are within an address or a quoted text.
fn split_links(text: &str) -> Vec<&str> {
    let (mut links, mut start, mut within, mut quoted) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '<' if !quoted => within = true,
            '>' if !quoted => within = false,
            '"' if !within => quoted = !quoted,
            ',' if !within && !quoted => {
                links.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    links.push(&text[start..]);
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "http://127.0.0.1:1/r/run";

    fn base() -> Base {
        Base::new("https://api.vendor.example/api/").unwrap()
    }

    #[test]
    fn a_call_stays_below_the_base_url() {
        let target = |path, query| base().target(path, query).map(|url| url.to_string());
        assert_eq!(
            target("/v1/a%2Fb", Some("x=/../y")).unwrap(),
            "https://api.vendor.example/api/v1/a%2Fb?x=/../y"
        );
        assert_eq!(
            target("//evil.example/x", None).unwrap(),
            "https://api.vendor.example/api//evil.example/x"
        );
        assert_eq!(target("/@evil.example", None).unwrap(), "https://api.vendor.example/api/@evil.example");
        for path in [
            "",
            "v1",
            "/..",
            "/../x",
            "/v1/../../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/..%2fx",
            "/%252e%252e/x",
            "/..%5cx",
            "/\\evil.example",
            "/v1/..;/x",
            "/%25252525252e",
            "/./x",
            "/a\nb",
        ] {
            assert!(target(path, None).is_err(), "{path}");
        }
    }

    #[test]
    fn addresses_in_answers_are_the_runs_or_foreign() {
        let asked = base().target("/v1/sites", None).unwrap();
        let address = |text| base().address(text, &asked, RUN);
        let ours = |rest: &str| Address::Ours(format!("{RUN}{rest}"));
        assert_eq!(address("https://api.vendor.example/api/v1/sites?page=2"), ours("/v1/sites?page=2"));
        assert_eq!(address("/api/v1/x"), ours("/v1/x"));
        assert_eq!(address("?page=2"), ours("/v1/sites?page=2"));
        assert_eq!(address("https://api.vendor.example:443/api/v1/x"), ours("/v1/x"));
        for foreign in [
            "https://evil.example/api/v1",
            "//evil.example/api/v1",
            "http://api.vendor.example/api/v1",
            "/other/v1",
            "https://api.vendor.example:8443/api/v1",
            "https://a@api.vendor.example/api/v1",
            "javascript:alert(1)",
            "/api/../x",
            "/apix",
            "file:///etc/passwd",
            "https://api.vendor.example.evil.example/api/v1",
            "\\\\evil.example/api/v1",
        ] {
            assert_eq!(address(foreign), Address::Foreign, "{foreign}");
        }
    }

    #[test]
    fn links_and_bodies_are_rewritten() {
        let asked = base().target("/v1/sites", None).unwrap();
        let header = "<https://api.vendor.example/api/v1/sites?a=1,2>; rel=\"next, please\", <https://docs.example/>; rel=help";
        let kept = base().links(&HeaderValue::from_static(header), &asked, RUN).unwrap().unwrap();
        assert_eq!(kept.to_str().unwrap(), format!("<{RUN}/v1/sites?a=1,2>; rel=\"next, please\""));
        let links = |text: &[u8]| {
            let header = HeaderValue::from_bytes(text).unwrap();
            base().links(&header, &asked, RUN).map(|kept| kept.map(|kept| kept.as_bytes().to_vec()))
        };
        assert_eq!(links(b"<https://docs.example/>; rel=help"), Ok(None));
        // Behind a proxy that the vendor does not know of, or to somebody else.
        for next in ["rel=next", "REL=\"prev Next\"; title=\"more\"", "title=x; rel = \"next\""] {
            for host in ["http://api.vendor.example/api", "https://evil.example/api"] {
                assert_eq!(
                    links(format!("<{host}/v1/sites?page=2>; {next}").as_bytes()),
                    Err(()),
                    "{host} {next}"
                );
            }
        }
        let odd =
            links("</api/v1/sites?page=2>; rel=next; title=\"n\u{e4}chste\"".as_bytes()).unwrap().unwrap();
        assert!(odd.starts_with(format!("<{RUN}/v1/sites?page=2>; rel=next").as_bytes()));
        let pointers = ["/next".to_owned(), "/links/next".to_owned()];
        let body = |text: &str| {
            let rewritten = base().body(text.as_bytes(), &pointers, &asked, RUN);
            rewritten.map(|body| body.map(|body| String::from_utf8(body).unwrap()))
        };
        let wanted = format!(r#"{{"next":"{RUN}/v1/sites?page=2"}}"#);
        assert_eq!(body(r#"{"next":"https://api.vendor.example/api/v1/sites?page=2"}"#), Ok(Some(wanted)));
        assert_eq!(body(r#"{"next":"b2Zmc2V0","other":"https://evil.example"}"#), Ok(None));
        assert_eq!(body(r#"{"links":{"next":"https://evil.example/api/v1"}}"#), Err(()));
        assert_eq!(body("not json"), Ok(None));
    }
}
