//! Calls as they are on the wire. What is changed is changed in place: fields that this code does not know go through.

use bytes::{BufMut as _, Bytes, BytesMut};
use rmpv::Value;
use wanwright_provider::proto::tfplugin6::DynamicValue;

/// The message of a call that has one, where it is not compressed.
pub(super) fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?);
    (head.first() == Some(&0) && usize::try_from(length) == Ok(message.len())).then_some(message)
}

/// A call with one message.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(message.len() + 5);
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put_slice(message);
    body.freeze()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A message with another content of one of its fields, which holds a message, a text or bytes.
pub(super) fn replaced(message: &[u8], field: u64, content: &[u8]) -> Option<Vec<u8>> {
    const LENGTH_DELIMITED: u64 = 2;
    let mut made = Vec::with_capacity(message.len() + content.len());
    let mut rest = message;
    while !rest.is_empty() {
        let whole = rest;
        let tag = varint(&mut rest)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                0
            }
            1 => 8,
            LENGTH_DELIMITED => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skip..)?;
        if tag >> 3 != field {
            made.extend_from_slice(whole.get(..whole.len() - rest.len())?);
        }
    }
    put_varint(&mut made, field << 3 | LENGTH_DELIMITED);
    put_varint(&mut made, content.len() as u64);
    made.extend_from_slice(content);
    Some(made)
}

fn unpacked(value: Option<&DynamicValue>) -> Option<Value> {
    let bytes = &value?.msgpack;
    rmpv::decode::read_value(&mut bytes.as_slice()).ok()
}

/// An object with another text in one of its attributes; `None` if it has no such attribute.
pub(super) fn with_text(object: Option<&DynamicValue>, attribute: &str, text: &str) -> Option<DynamicValue> {
    let Value::Map(mut pairs) = unpacked(object)? else { return None };
    let (_, value) = pairs.iter_mut().find(|(name, _)| name.as_str() == Some(attribute))?;
    *value = Value::from(text);
    let mut msgpack = Vec::new();
    rmpv::encode::write_value(&mut msgpack, &Value::Map(pairs)).ok()?;
    Some(DynamicValue { msgpack, json: Vec::new() })
}

/// Whether there is an object at all.
pub(super) fn is_there(object: Option<&DynamicValue>) -> bool {
    const NOTHING: u8 = 0xc0;
    object.and_then(|object| object.msgpack.first()).is_some_and(|first| *first != NOTHING)
}

/// Longest id that is noted, in bytes.
const LONGEST_ID: usize = 1024;

/// An object's attribute `id`, if it has one and it is known. What a provider says may be anything, so nothing of it but the
/// id takes memory.
pub(super) fn id(object: Option<&DynamicValue>) -> Option<String> {
    let mut rest = object?.msgpack.as_slice();
    let Piece::Map(pairs) = piece(&mut rest)? else { return None };
    for _ in 0..pairs {
        let Piece::Text(name) = piece(&mut rest)? else { return None };
        if name != b"id" {
            skip(&mut rest)?;
            continue;
        }
        let Piece::Text(id) = piece(&mut rest)? else { return None };
        let id = Some(id).filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)?;
        return std::str::from_utf8(id).ok().map(str::to_owned);
    }
    None
}

/// A value of MessagePack, without what is in it.
enum Piece<'a> {
    Map(u64),
    List(u64),
    Text(&'a [u8]),
    Other,
}

/// Reads the beginning of a value, or all of it where it has no parts.
fn piece<'a>(rest: &mut &'a [u8]) -> Option<Piece<'a>> {
    let number = |rest: &mut &'a [u8], bytes: usize| -> Option<u64> {
        Some(take(rest, bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let text = |rest: &mut &'a [u8], length: u64| take(rest, usize::try_from(length).ok()?);
    let [first] = *take(rest, 1)? else { return None };
    Some(match first {
        0x80..=0x8f => Piece::Map(u64::from(first & 0x0f)),
        0x90..=0x9f => Piece::List(u64::from(first & 0x0f)),
        0xa0..=0xbf => Piece::Text(text(rest, u64::from(first & 0x1f))?),
        0xd9..=0xdb => {
            let length = number(rest, 1 << (first - 0xd9))?;
            Piece::Text(text(rest, length)?)
        }
        0xdc | 0xdd => Piece::List(number(rest, 2 << (first - 0xdc))?),
        0xde | 0xdf => Piece::Map(number(rest, 2 << (first - 0xde))?),
        // Bytes, and values of a kind of their own, whose kind is a byte more.
        0xc4..=0xc9 => {
            let (begin, kind) = if first < 0xc7 { (0xc4, 0) } else { (0xc7, 1) };
            let length = number(rest, 1 << (first - begin))?;
            text(rest, length.checked_add(kind)?)?;
            Piece::Other
        }
        0xd4..=0xd8 => {
            take(rest, 1 + (1 << (first - 0xd4)))?;
            Piece::Other
        }
        0xca | 0xce | 0xd2 => take(rest, 4).map(|_| Piece::Other)?,
        0xcb | 0xcf | 0xd3 => take(rest, 8).map(|_| Piece::Other)?,
        0xcc | 0xd0 => take(rest, 1).map(|_| Piece::Other)?,
        0xcd | 0xd1 => take(rest, 2).map(|_| Piece::Other)?,
        // Small numbers, nothing, and yes and no.
        _ => Piece::Other,
    })
}

/// Passes over a value with all that is in it.
fn skip(rest: &mut &[u8]) -> Option<()> {
    let mut left = 1_u64;
    while left > 0 {
        left -= 1;
        left = left.checked_add(match piece(rest)? {
            Piece::Map(pairs) => pairs.checked_mul(2)?,
            Piece::List(items) => items,
            Piece::Text(_) | Piece::Other => 0,
        })?;
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use wanwright_provider::proto::tfplugin6::{ClientCapabilities, configure_provider};

    use super::*;

    #[test]
    fn an_id_is_found_behind_values_of_every_kind() {
        let long = "x".repeat(70_000);
        let values = [
            Value::Nil,
            Value::from(true),
            Value::from(-5),
            Value::from(200),
            Value::from(70_000),
            Value::from(u64::MAX),
            Value::from(-40_000_i64),
            Value::from(1.5),
            Value::F32(1.5),
            Value::from("short"),
            Value::from("x".repeat(200)),
            Value::from(long),
            Value::Binary(vec![1; 300]),
            Value::Ext(0, vec![0]),
            Value::Ext(12, vec![0; 5]),
            Value::Array((0..20).map(Value::from).collect()),
            Value::Map(vec![(Value::from("id"), Value::from("inner"))]),
        ];
        for value in &values {
            let all = object(&[("a", value.clone()), ("id", Value::from("o-1")), ("z", value.clone())]);
            assert_eq!(id(Some(&all)).as_deref(), Some("o-1"), "{value:?}");
            for cut in 0..all.msgpack.len().min(400) {
                let cut = DynamicValue { msgpack: all.msgpack[..cut].to_vec(), json: Vec::new() };
                let _ = id(Some(&cut));
            }
        }
        for unknown in [Value::Nil, Value::Ext(0, vec![0]), Value::from(""), Value::from("x".repeat(2000))] {
            assert_eq!(id(Some(&object(&[("id", unknown)]))), None);
        }
        // Millions of values that are not there, or are nothing, take no memory.
        for bytes in
            [vec![0xdf, 0xff, 0xff, 0xff, 0xff], [vec![0xdd, 0x03, 0, 0, 0], vec![0xc0; 1 << 20]].concat()]
        {
            assert_eq!(id(Some(&DynamicValue { msgpack: bytes, json: Vec::new() })), None);
        }
        let there = |msgpack| is_there(Some(&DynamicValue { msgpack, json: Vec::new() }));
        assert!(there(vec![0x80]) && !there(vec![0xc0]) && !there(Vec::new()) && !is_there(None));
    }

    fn object(pairs: &[(&str, Value)]) -> DynamicValue {
        let pairs = pairs.iter().map(|(name, value)| (Value::from(*name), value.clone())).collect();
        let mut msgpack = Vec::new();
        rmpv::encode::write_value(&mut msgpack, &Value::Map(pairs)).expect("written");
        DynamicValue { msgpack, json: Vec::new() }
    }

    #[test]
    fn one_field_is_replaced_and_what_nobody_here_knows_is_kept() {
        let unknown = Value::Ext(0, vec![0]);
        let config = object(&[("base_url", Value::from("old")), ("token", unknown.clone())]);
        let request = configure_provider::Request {
            terraform_version: "1.11.4".to_owned(),
            config: Some(config),
            client_capabilities: Some(ClientCapabilities {
                deferral_allowed: true,
                write_only_attributes_allowed: false,
            }),
        };
        let mut sent = request.encode_to_vec();
        // Field 99, a number, and field 100, eight bytes: of a protocol that is newer than this code.
        put_varint(&mut sent, 99 << 3);
        put_varint(&mut sent, 300);
        put_varint(&mut sent, 100 << 3 | 1);
        sent.extend([7; 8]);
        let config = with_text(request.config.as_ref(), "base_url", "http://new").expect("it has one");
        let made = replaced(&sent, 2, &config.encode_to_vec()).expect("a message");
        let read = configure_provider::Request::decode(made.as_slice()).expect("a message");
        assert_eq!(read.terraform_version, "1.11.4");
        assert_eq!(read.client_capabilities, request.client_capabilities);
        let wanted = object(&[("base_url", Value::from("http://new")), ("token", unknown)]);
        assert_eq!(read.config, Some(wanted));
        let tail = [&[0x98, 0x06, 0xac, 0x02, 0xa1, 0x06][..], &[7; 8]].concat();
        assert!(made.windows(tail.len()).any(|part| part == tail), "{made:?}");
        assert_eq!(with_text(request.config.as_ref(), "url", "x"), None);
        for cut in 1..sent.len() {
            // Whatever comes, it is read or refused.
            let _ = replaced(&sent[..cut], 2, b"");
        }
    }

    #[test]
    fn ids_are_read_and_nothing_else() {
        let known = object(&[("id", Value::from("o-1")), ("psk", Value::from("hush"))]);
        assert_eq!(id(Some(&known)).as_deref(), Some("o-1"));
        assert_eq!(id(Some(&object(&[("id", Value::Ext(0, vec![0]))]))), None);
        assert_eq!(id(Some(&object(&[("name", Value::from("x"))]))), None);
        let nothing = DynamicValue { msgpack: vec![0xc0], json: Vec::new() };
        assert!(is_there(Some(&known)) && !is_there(Some(&nothing)) && !is_there(None));
    }

    #[test]
    fn a_call_is_one_message_that_is_whole() {
        assert_eq!(message(&framed(b"abc")), Some(&b"abc"[..]));
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x01x", b"\0\0\0\0\x02x", b"\0\0\0\0\x01xy"] {
            assert_eq!(message(wrong), None);
        }
    }
}
