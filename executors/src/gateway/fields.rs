//! The keys, texts and numbers of JSON where they stand, and which of them are in fields that hold secrets. What is no valid JSON
//! is read as far as it looks like some.

use std::borrow::Cow;
use std::ops::Range;

use super::mask::meant;

/// A part of JSON that says something of its own. Keys and texts come without their quotes.
pub(super) struct Token {
    pub(super) at: Range<usize>,
    pub(super) is: Is,
    /// Whether it is in a field that holds secrets, at any depth.
    pub(super) inside: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Key,
    Text,
    Number,
}

/// Hands over one after the other.
pub(super) fn each_token(json: &[u8], fields: &[String], mut act: impl FnMut(Token)) {
    // Whether the objects and lists around are in such a field, and whether the next value is.
    let (mut around, mut inside) = (Vec::new(), false);
    let mut from = 0;
    while let Some(byte) = json.get(from) {
        let start = from;
        from += 1;
        match byte {
            b'"' => {
                let at = from..from + length(&json[from..]);
                from = json.len().min(at.end + 1);
                if json[from..].trim_ascii_start().starts_with(b":") {
                    act(Token { at: at.clone(), is: Is::Key, inside });
                    let key = meant(&json[at.clone()]).map_or(Cow::Borrowed(&json[at]), Cow::Owned);
                    inside |= fields.iter().any(|field| field.as_bytes() == &*key);
                } else {
                    act(Token { at, is: Is::Text, inside });
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                from += json[from..].iter().take_while(|byte| is_part(byte)).count();
                act(Token { at: start..from, is: Is::Number, inside });
            }
            b'{' | b'[' => around.push(inside),
            b'}' | b']' => inside = around.pop().unwrap_or_default(),
            b',' => inside = around.last().copied().unwrap_or_default(),
            _ => {}
        }
    }
}

/// How long a text is up to the quote that ends it.
fn length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(json: &str) -> Vec<&str> {
        let mut found = Vec::new();
        each_token(json.as_bytes(), &["psk".to_owned()], |token| {
            if token.inside && token.is != Is::Key {
                found.push(&json[token.at]);
            }
        });
        found
    }

    #[test]
    fn what_is_in_a_field_is_found_at_any_depth_and_its_neighbours_are_not() {
        assert_eq!(inside(r#"{"a":"x","psk":"y","b":["z",1],"c":{"d":2}}"#), ["y"]);
        assert_eq!(
            inside(r#"{"psk":{"a":["x",-1.5e3,{"b":"y"}],"c":"z"},"d":"no"}"#),
            ["x", "-1.5e3", "y", "z"]
        );
        assert_eq!(
            inside(r#"[[{"psk":[]},"no"],{"psk" : "x\"},{\\"},"no",{"p\u0073k":"y"}]"#),
            [r#"x\"},{\\"#, "y"]
        );
        assert_eq!(inside(r#"{"psk":null,"a":"no","psk":true,"b":0}"#), [""; 0]);
        assert_eq!(inside(r#"{"a":"psk","b":"psk"}"#), [""; 0]);
        let deep = "[".repeat(100_000) + r#"{"psk":"x"}"#;
        assert_eq!(inside(&deep), ["x"]);
    }

    #[test]
    fn what_is_no_json_is_read_as_far_as_it_goes() {
        assert_eq!(inside(r#"got {"psk": "x", "a": 1} } ] and {"psk":"y"#), ["x", "y"]);
        assert_eq!(inside("\"psk\":"), [""; 0]);
        for text in ["\"", "\\", "\"\\", "-", "{", "}", ",", ":", ""] {
            assert_eq!(inside(text), [""; 0]);
        }
    }
}
