//! The name that someone meant.

/// The candidate that fewest single letters set apart from `name`.
pub(super) fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates.min_by_key(|candidate| distance(name, candidate))
}

/// Whether `name` is most likely `meant` with a slip of the finger in it.
pub(super) fn is_slip(name: &str, meant: &str) -> bool {
    distance(name, meant) <= 2
}

/// Letters to insert, delete or replace to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let names = ["node.listen", "node.advertise", "admin.listen"];
        let nearest = |name| nearest(name, names.iter().map(|&name| name.to_owned()));
        assert_eq!(nearest("node.lisen").as_deref(), Some("node.listen"));
        assert_eq!(nearest("node.advertize").as_deref(), Some("node.advertise"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
