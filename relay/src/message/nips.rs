//! The NIPs that this relay implements. The information document (NIP-11), the landing page and docs/protocol.md name
//! these and no others.

/// The number of each supported NIP, ascending, and what it is about in a few words for people. The information
/// document names some of them only where a setting turns them on.
pub const SUPPORTED_NIPS: &[(u16, &str)] = &[
    (1, "notes, profiles, subscriptions"),
    (9, "deletion on request"),
    (11, "this information"),
    (13, "proof of work"),
    (17, "private messages"),
    (40, "notes that expire"),
    (42, "clients that prove who they are"),
    (45, "counting"),
    (59, "gift wraps"),
    (62, "vanishing on request"),
    (67, "whether an answer is complete"),
    (70, "notes that only their author may publish"),
    (78, "an application's data, for its author alone"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The numbers in the first column of the table of docs/protocol.md.
    fn documented(page: &str) -> BTreeSet<u16> {
        let cells = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
        cells.flat_map(|cell| cell.split(',')).filter_map(|number| number.trim().parse().ok()).collect()
    }

    #[test]
    fn the_protocol_page_describes_exactly_these() {
        let supported: Vec<u16> = SUPPORTED_NIPS.iter().map(|(number, _)| *number).collect();
        assert!(supported.is_sorted_by(|a, b| a < b), "{supported:?}");
        let page = include_str!("../../../docs/protocol.md");
        assert_eq!(documented(page), supported.into_iter().collect());
        assert_eq!(documented("| NIP | what |\n|---|---|\n| 01 | a |\n| 17, 59 | b |"), [1, 17, 59].into(), "control");
    }
}
