//! Taking secrets out of what vendors answer: by what a text means, not by how it is written. JSON may write any sign as an
//! escape, and each library writes others so (`\u003d`, `\u002B`, `\/`). So a text is looked through as it stands, and again
//! with its escapes read. Only what is found is replaced; the rest stays as it was, byte for byte.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memchr;
use memchr::memmem::Finder;
use serde::de::IgnoredAny;

use super::fields::{Is, Token, each_token};

/// What stands in an answer where a secret was.
pub(super) const MASK: &str = "***";

/// The same where a number was.
pub(super) const QUOTED: &str = "\"***\"";

/// Shorter secrets are not looked for: they would be found in the middle of words.
pub(super) const SHORTEST: usize = 4;

/// How often escapes are read in what they meant: once is usual, and again for each JSON that stands in a text of JSON.
const READ: usize = 4;

/// A form in which a secret may come back, and what stands there instead.
#[derive(Debug, Clone)]
pub(super) struct Form {
    finder: Finder<'static>,
    instead: Cow<'static, str>,
}

impl Form {
    fn new(text: &str, instead: impl Into<Cow<'static, str>>) -> Self {
        Self { finder: Finder::new(text).into_owned(), instead: instead.into() }
    }

    /// Where it is in a text as it stands.
    fn find(&self, text: &[u8]) -> impl Iterator<Item = Found<'_>> {
        let length = self.finder.needle().len();
        let found = move |at| Found { at: at..at + length, instead: Cow::Borrowed(&*self.instead) };
        // Most texts are shorter.
        let starts: Vec<_> =
            if length <= text.len() { self.finder.find_iter(text).collect() } else { Vec::new() };
        starts.into_iter().map(found)
    }
}

/// A part of a text that has to go, and what stands there instead.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) at: Range<usize>,
    pub(super) instead: Cow<'a, str>,
}

impl Found<'_> {
    /// The same with so much before it.
    pub(super) fn behind(self, length: usize) -> Self {
        Self { at: self.at.start + length..self.at.end + length, ..self }
    }
}

/// The forms in which a secret may come back beside all ways to write them in JSON: as it is, percent-encoded, in either
/// base64.
pub(super) fn forms(secret: &str, instead: impl Into<Cow<'static, str>>) -> Vec<Form> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let mut encoded = Vec::new();
    for upper in [true, false] {
        for plain in [&b"-_.~"[..], b"-_.~!*'()", b"-_.*"] {
            let percent = percent(secret, upper, |c| c.is_ascii_alphanumeric() || plain.contains(&c));
            // Forms of web pages write a space as a plus.
            encoded.push(percent.replace("%20", "+"));
            encoded.push(percent);
        }
    }
    for before in 0..3_usize {
        // In base64 the same text looks different by where it begins in its group of three; what it shares with its
        // neighbours is left out.
        let bytes = [&vec![0; before][..], secret.as_bytes()].concat();
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for base64 in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            encoded.push(base64[first..end].to_owned());
        }
    }
    encoded.retain(|form| form.len() >= SHORTEST && form != secret);
    encoded.sort_unstable();
    encoded.dedup();
    let encoded = encoded.iter().map(|form| Form::new(form, MASK));
    std::iter::once(Form::new(secret, instead)).chain(encoded).collect()
}

fn percent(text: &str, upper: bool, plain: impl Fn(u8) -> bool) -> String {
    let encode = |byte: u8| match (plain(byte), upper) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

/// Where a text has any of these forms, however it is written. In JSON that is within keys, texts and numbers.
pub(super) fn found<'a>(forms: &[&'a Form], text: &[u8]) -> Vec<Found<'a>> {
    let is_plain = memchr(b'\\', text).is_none();
    if is_plain && forms.iter().all(|form| form.find(text).next().is_none()) {
        return Vec::new();
    }
    if serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return found_in(forms, text, 0);
    }
    let mut found = Vec::new();
    each_token(text, &[], |Token { at, is, .. }| {
        let token = &text[at.clone()];
        let within = match meant(token) {
            Some(meant) => written(token, found_in(forms, &meant, 1)),
            None => found_in(forms, token, 0),
        };
        if is == Is::Number && !within.is_empty() {
            found.push(Found { at, instead: QUOTED.into() });
        } else {
            found.extend(within.into_iter().map(|found| found.behind(at.start)));
        }
    });
    found
}

fn found_in<'a>(forms: &[&'a Form], text: &[u8], read: usize) -> Vec<Found<'a>> {
    // Half an escape would be left of one that begins or ends within.
    let mut found = placed(text, forms.iter().flat_map(|form| form.find(text)).collect(), Part::written);
    if let Some(meant) = meant(text).filter(|_| read < READ) {
        found.extend(written(text, found_in(forms, &meant, read + 1)));
    }
    found
}

/// The text with what was found replaced; `None` if that is nothing.
pub(super) fn without(text: &[u8], found: Vec<Found<'_>>) -> Option<Vec<u8>> {
    if found.is_empty() {
        return None;
    }
    let (mut clean, mut from) = (Vec::with_capacity(text.len()), 0);
    for Found { at, instead } in merged(found) {
        clean.extend_from_slice(&text[from..at.start]);
        clean.extend_from_slice(instead.as_bytes());
        from = at.end;
    }
    clean.extend_from_slice(&text[from..]);
    Some(clean)
}

/// In the order of the text, and none across another one. Of two at the same place the first one counts.
fn merged(mut found: Vec<Found<'_>>) -> Vec<Found<'_>> {
    found.sort_by_key(|found| (found.at.start, Reverse(found.at.end)));
    let mut merged: Vec<Found<'_>> = Vec::with_capacity(found.len());
    for next in found {
        match merged.last_mut().filter(|last| next.at.start < last.at.end) {
            Some(last) if next.at.end <= last.at.end => {}
            Some(last) => *last = Found { at: last.at.start..next.at.end, instead: MASK.into() },
            None => merged.push(next),
        }
    }
    merged
}

/// A part of a text: a stretch without escapes, or one escape and the sign that it stands for.
struct Part {
    at: Range<usize>,
    sign: Option<char>,
}

impl Part {
    /// How long it is in the text.
    fn written(&self) -> usize {
        self.at.len()
    }

    /// How long it is in what the text means.
    fn meant(&self) -> usize {
        self.sign.map_or(self.at.len(), char::len_utf8)
    }
}

/// The parts of a text whose escapes are read wherever they stand, so that JSON which is not valid has them as well.
fn parts(text: &[u8]) -> impl Iterator<Item = Part> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
        let (length, sign) = match escape(rest) {
            Some((length, sign)) => (length, Some(sign)),
            // A backslash that begins no escape stands for itself.
            None => (memchr(b'\\', &rest[1..]).map_or(rest.len(), |at| at + 1), None),
        };
        let at = from..from + length;
        from = at.end;
        Some(Part { at, sign })
    })
}

/// The escape that a text begins with, if it does: its length and its sign.
fn escape(text: &[u8]) -> Option<(usize, char)> {
    let (b'\\', letter) = (*text.first()?, *text.get(1)?) else { return None };
    let sign = match letter {
        b'"' | b'\\' | b'/' => char::from(letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => {
            let first = unit(text)?;
            if let Some(sign) = char::from_u32(first.into()) {
                return Some((6, sign));
            }
            let both = [first, unit(&text[6..])?];
            return char::decode_utf16(both).next()?.ok().map(|sign| (12, sign));
        }
    };
    Some((2, sign))
}

/// The number of a `\u…`, in capitals or not.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let number = |number: u16, digit: &u8| {
        let digit = char::from(*digit).to_digit(16).and_then(|digit| u16::try_from(digit).ok())?;
        Some(number << 4 | digit)
    };
    digits.iter().try_fold(0, number)
}

/// What a text means whose escapes are read; `None` if it has none.
pub(super) fn meant(text: &[u8]) -> Option<Vec<u8>> {
    memchr(b'\\', text)?;
    let (mut meant, mut any) = (Vec::with_capacity(text.len()), false);
    for Part { at, sign } in parts(text) {
        match sign {
            Some(sign) => meant.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes()),
            None => meant.extend_from_slice(&text[at]),
        }
        any |= sign.is_some();
    }
    any.then_some(meant)
}

/// Where a text has what was found in what it means.
pub(super) fn written<'a>(text: &[u8], found: Vec<Found<'a>>) -> Vec<Found<'a>> {
    let mut found = placed(text, found, Part::meant);
    for Found { instead, .. } in found.iter_mut().filter(|found| found.instead.contains('"')) {
        *instead = instead.replace('"', "\\\"").into();
    }
    found
}

/// The same in places of the text, never in the middle of an escape. `length` says what their places were counted in.
fn placed<'a>(text: &[u8], found: Vec<Found<'a>>, length: impl Fn(&Part) -> usize) -> Vec<Found<'a>> {
    let (mut parts, mut from) = (parts(text).peekable(), 0);
    // Asked for one place after the other, as they are in the text.
    let mut place = |offset: usize| {
        while let Some(part) = parts.next_if(|part| from + length(part) <= offset) {
            from += length(&part);
        }
        let part = parts.peek()?;
        let plain = part.at.start + offset - from;
        Some(if part.sign.is_some() { part.at.clone() } else { plain..plain + 1 })
    };
    let placed = merged(found).into_iter().filter_map(|found| {
        let (first, last) = (place(found.at.start)?, place(found.at.end.checked_sub(1)?)?);
        Some(Found { at: first.start..last.end, ..found })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn clean(secret: &str, text: &str) -> Option<String> {
        let forms = forms(secret, MASK);
        let found = found(&forms.iter().collect::<Vec<_>>(), text.as_bytes());
        without(text.as_bytes(), found).map(|clean| String::from_utf8(clean).unwrap())
    }

    #[test]
    fn every_occurrence_is_masked_and_nothing_else() {
        let text = r#"{"got":"Bearer s3cret","again":"s3crets3cret"}"#;
        assert_eq!(clean("s3cret", text).unwrap(), r#"{"got":"Bearer ***","again":"******"}"#);
        assert_eq!(clean("s3cret", "s3cre"), None);
        assert_eq!(clean("", "anything"), None);
        assert_eq!(clean("abc", "abc"), None, "too short to be looked for");
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        for plain in ["p/a+s\"s word=", "s3cr3t/tok+en=", "k€y \\ ☃𝄞"] {
            let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            for form in [
                plain.to_owned(),
                serde_json::to_string(plain).unwrap(),
                encoded(plain),
                encoded(&format!("user:{plain}")),
                encoded(&format!("Bearer {plain}; and more")),
                encoded(&format!("me:{plain}!")).replace('+', "-").replace('/', "_"),
                encoded(&format!("a:{plain}>>?")).replace('+', "\\u002B").replace('/', "\\/"),
                percent(plain, true, |c| c.is_ascii_alphanumeric()),
                percent(plain, false, |c| c.is_ascii_alphanumeric()).replace("%20", "+"),
            ] {
                let clean = clean(plain, &format!("<{form}>")).unwrap_or_else(|| panic!("{form}"));
                assert!(clean.contains("***") && clean.len() < form.len(), "{form}: {clean}");
            }
        }
    }

    #[test]
    fn what_json_means_is_masked_however_it_is_written() {
        const SECRET: &str = "a+b/c=<d>'&\"é𝄞";
        let units = |hex: fn(u16) -> String| SECRET.encode_utf16().map(hex).collect::<String>();
        let by_gson = r#"a+b/c\u003d\u003cd\u003e\u0027\u0026\"é𝄞"#;
        let by_dotnet = r"a\u002Bb/c=\u003Cd\u003E\u0027\u0026\u0022\u00E9\uD834\uDD1E";
        let (lower, upper) = (units(|unit| format!("\\u{unit:04x}")), units(|unit| format!("\\u{unit:04X}")));
        let by_php = r#"a+b\/c=<d>'&\"\u00e9\ud834\udd1e"#;
        for writing in [by_gson, by_dotnet, &lower, &upper, by_php] {
            let quoted = |text: &str| Value::from(text).to_string();
            for (text, wanted) in [
                (format!(r#"{{"m":"<{writing}>"}}"#), r#"{"m":"<***>"}"#),
                (format!(r#"{{"{writing}":["{writing}{writing}"]}}"#), r#"{"***":["******"]}"#),
                (json!({"m": format!("{{\"n\":\"{writing}\"}}")}).to_string(), r#"{"m":"{\"n\":\"***\"}"}"#),
                (quoted(&quoted(&format!("\"{writing}\""))), r#""\"\\\"***\\\"\"""#),
                // What is no JSON although it looks so.
                (format!(r#"{{"m":"<{writing}>",}}"#), r#"{"m":"<***>",}"#),
                (format!("{{\"m\":\"<{writing}"), "{\"m\":\"<***"),
                (format!("\\ \\u12 {writing}\\"), "\\ \\u12 ***\\"),
                (format!("'{}'", writing.replace("\\\"", "\"").replace(r"\u0022", "\"")), "'***'"),
            ] {
                assert_eq!(clean(SECRET, &text).as_deref(), Some(wanted), "{text}");
            }
        }
    }

    #[test]
    fn what_stands_around_a_secret_stays_as_it_was_byte_for_byte() {
        let text = r#" {"n":1e400,"big":123456789012345678901234567890.10,"\u0061":"\u003d\ud834", "x":"SECRET", "n":1 } "#;
        assert_eq!(clean("other", text), None);
        assert_eq!(clean("s=cr", text), None);
        assert_eq!(clean("\",\"x", text), None, "nor what is of several parts of it");
        assert_eq!(clean("true", "[true,\"true\"]").unwrap(), "[true,\"***\"]");
        assert_eq!(clean("2345", "[123456.5,2345,\"12345\"]").unwrap(), "[\"***\",\"***\",\"1***\"]");
        assert_eq!(
            clean("secr\u{65}t", &text.replace("SECRET", "s\\u0065cret")).unwrap(),
            text.replace("SECRET", "***")
        );
        assert_eq!(clean("nabcd", r#"{"m":"\nabcd"}"#), None, "it means something else");
        assert_eq!(clean("nabcd", r#"{"m":"\nabcd""#).unwrap(), r#"{"m":"***""#, "who knows what this means");
        assert_eq!(clean("abcd\\", r#"{"m":"abcd\\"}"#).unwrap(), r#"{"m":"***"}"#);
    }

    /// A text as some library may write it, and that as a text again.
    fn writing(text: &str, ways: &[u8], nested: u8) -> String {
        let mut ways = ways.iter().cycle();
        let mut written = String::new();
        for sign in text.chars() {
            let plain = Value::from(sign.to_string()).to_string();
            let mut units = [0; 2];
            match ways.next().unwrap() % 4 {
                0 => {
                    sign.encode_utf16(&mut units).iter().for_each(|unit| written += &format!("\\u{unit:04x}"))
                }
                1 => {
                    sign.encode_utf16(&mut units).iter().for_each(|unit| written += &format!("\\u{unit:04X}"))
                }
                2 if sign == '/' => written += "\\/",
                _ => written += &plain[1..plain.len() - 1],
            }
        }
        if nested == 0 { written } else { writing(&format!("\"{written}\""), &[3], nested - 1) }
    }

    proptest! {
        #[test]
        fn no_writing_hides_a_secret(
            secret in "[a-f/+=\"\\\\nu0é𝄞]{4,12}",
            (before, after) in ("[a-fnu0\"\\\\/é]{0,6}", "[a-fnu0\"\\\\/é]{0,6}"),
            ways in prop::collection::vec(any::<u8>(), 1..12),
            nested in 0..3_u8,
        ) {
            let said = format!("{before}{secret}{after}.");
            let text = format!(r#"{{"n":1e400,"m":"{}"}}"#, writing(&said, &ways, nested));
            let clean = clean(&secret, &text).expect("it is there");
            let (start, rest) = clean.split_at(13);
            prop_assert_eq!(start, r#"{"n":1e400,"m"#);
            let mut meant: Value = serde_json::from_str(&format!("{{\"m{rest}")).expect("it is still JSON");
            let mut meant = meant["m"].take();
            for _ in 0..nested {
                let Ok(inner) = serde_json::from_str::<String>(meant.as_str().unwrap()) else {
                    prop_assert!(secret.contains(['"', '\\']), "it looks like no JSON: {} {}", text, clean);
                    return Ok(());
                };
                meant = inner.into();
            }
            let meant = meant.as_str().unwrap();
            prop_assert!(meant.contains("***") && !meant.contains(&secret), "{}: {}", text, clean);
        }
    }
}
