//! How JSON libraries write a text: they escape different signs, and all mean the same.

/// The text without its quotes as serde writes it, as Gson, System.Text.Json and PHP do, and with every sign escaped in
/// small letters and in capitals.
pub fn writings(text: &str) -> [String; 6] {
    let quoted = serde_json::Value::from(text).to_string();
    let quoted = quoted[1..quoted.len() - 1].to_owned();
    let unit = |unit: u16, capitals: bool| {
        if capitals { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") }
    };
    let but = |escaped: &str, capitals: bool| -> String {
        let write = |sign: char| match (escaped.contains(sign), u16::try_from(u32::from(sign))) {
            (true, Ok(sign)) => unit(sign, capitals),
            _ => sign.to_string(),
        };
        quoted.chars().map(write).collect()
    };
    let all = |capitals: bool| text.encode_utf16().map(|sign| unit(sign, capitals)).collect();
    let (gson, dotnet, php) = (but("=<>&'", false), but("+<>&'`", true), quoted.replace('/', "\\/"));
    [quoted.clone(), gson, dotnet, php, all(false), all(true)]
}

#[test]
fn all_of_them_mean_the_same() {
    let text = "a+b=\"c\\d/<é𝄞>";
    let mut written = writings(text).to_vec();
    for writing in &written {
        let read: String = serde_json::from_str(&format!("\"{writing}\"")).expect(writing);
        assert_eq!(read, text, "{writing}");
    }
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), 6, "{written:?}");
}
