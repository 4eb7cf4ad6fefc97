//! What stands in a log for the id of a session without a user: whoever has the whole id may execute the session.

/// The first half of a UUID, the rest zero: enough to find it by, and what is missing cannot be guessed. All programs, the
/// edge and the database show the same half. Of what is no UUID nothing is left.
pub fn masked(id: &str) -> String {
    let first = id.get(..18).filter(|_| id.len() == 36).unwrap_or_default();
    format!("{first}-0000-000000000000")
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn half_of_an_id_is_left() {
        let id = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f";
        assert_eq!(masked(id), "5e3d9a52-71c4-4c1b-0000-000000000000");
        for wrong in ["", "5e3d9a52", &id[1..], "\u{e4}".repeat(18).as_str()] {
            let masked = masked(wrong);
            assert!(masked.is_empty() || !masked.contains("5e3d"), "{masked}");
        }
    }
}
