//! The nearest known name to one that is not known.

/// The candidate that differs least from `name`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long unknown name costs quadratic work and is no slip of the keyboard.
    if name.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .map(|(_, candidate)| candidate)
}

/// "Did you mean" and the nearest candidate, else the list of candidates.
pub(crate) fn advice(name: &str, candidates: &[&str]) -> String {
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => "nothing is allowed here".to_owned(),
        None => format!("known here: {}", candidates.join(", ")),
    }
}

/// Edits from one to the other in characters, two swapped neighbours being one edit; ASCII case does not count.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_ascii_lowercase().chars().collect();
    let right: Vec<char> = right.to_ascii_lowercase().chars().collect();
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=left.len() {
        for j in 1..=right.len() {
            let changed = usize::from(left[i - 1] != right[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            let swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        assert_eq!(nearest("vlna", ["hostname", "vlan"]), Some("vlan"));
        assert_eq!(nearest("vlans", ["hostname", "vlan"]), Some("vlan"));
        assert_eq!(nearest("host_name", ["hostname", "vlan"]), Some("hostname"));
        assert_eq!(nearest("colour", ["hostname", "vlan"]), None);
        assert_eq!(nearest(&"v".repeat(100_000), ["vlan"]), None);
    }

    #[test]
    fn the_distance_is_symmetric() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("sitting", "kitten"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
