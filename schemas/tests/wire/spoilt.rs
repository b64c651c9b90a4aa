//! Bytes that were right once. The tests of every decoder take them from here, each by the path of this file.

use proptest::prelude::*;

/// Ways to spoil bytes: cut them, turn a bit, put a byte or one of these pieces in, say a part twice.
pub fn spoilt(whole: Vec<u8>, pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let spoil = (0..5u8, any::<prop::sample::Index>(), any::<u8>());
    prop::collection::vec(spoil, 0..5).prop_map(move |spoils| {
        spoils.iter().fold(whole.clone(), |mut bytes, (what, place, with)| {
            let at = place.index(bytes.len() + 1);
            match what {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= with | 1,
                2 => bytes.insert(at, *with),
                3 => drop(bytes.splice(at..at, pieces[usize::from(*with) % pieces.len()].bytes())),
                _ => {
                    let end = (at + usize::from(*with)).min(bytes.len());
                    let twice = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, twice));
                }
            }
            bytes
        })
    })
}
