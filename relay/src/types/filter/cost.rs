//! What a filter costs the relay, in bytes, from its shape alone: pure, so that a limit on it refuses the same REQ on
//! every relay and at every load.

use super::Filter;

/// What the matcher keeps beside the values of one filter, whatever its shape: the entry, its subscribers, its
/// place in the tables.
const ENTRY_BYTES: usize = 320;

/// What the matcher keeps for each value that a filter is filed under: one cache line, the table around it at its
/// least load, and where the filter finds it again.
const POSTING_BYTES: usize = 128;

/// What a text costs beside its bytes: a pointer, a length, and what the allocator rounds up to.
const TEXT_OVERHEAD_BYTES: usize = 32;

/// What a query holds for each list that it merges: a key, the list's newest element and its place in the order.
const LIST_BYTES: usize = 64;

/// No store merges the lists of more (author, kind) pairs than this; from there on it looks at the kinds that the
/// authors have used, of which [`KINDS_OF_AN_AUTHOR`] are a generous guess.
const MAX_MERGED_PAIRS: usize = 32_768;
const KINDS_OF_AN_AUTHOR: usize = 12;

impl Filter {
    /// The bytes that an open subscription holds for this filter, an upper estimate: the filter in the
    /// subscription and in the matcher, and all the places under which the matcher files it. Equal filters of several
    /// subscriptions are held once by the matcher; each is counted in full.
    pub fn held_bytes(&self) -> usize {
        let own = size_of::<Self>() + self.value_bytes();
        ENTRY_BYTES + 2 * own + self.longest_list() * POSTING_BYTES
    }

    /// The bytes that answering this filter as part of a REQ or COUNT takes: [`held_bytes`](Self::held_bytes), and what
    /// the query holds for the lists that the store merges. The rows of the answer are not in it.
    pub fn cost_bytes(&self) -> usize {
        self.held_bytes().saturating_add(self.merged_lists().saturating_mul(LIST_BYTES))
    }

    /// The bytes of all values.
    fn value_bytes(&self) -> usize {
        let fixed = |list: usize, bytes: usize| list * bytes;
        let tags = self.tags.iter().map(|tag| {
            let texts = tag.values.iter().map(|value| value.len() + TEXT_OVERHEAD_BYTES);
            size_of_val(tag) + texts.sum::<usize>()
        });
        fixed(self.ids.as_ref().map_or(0, |ids| ids.len()), 32)
            + fixed(self.authors.as_ref().map_or(0, |authors| authors.len()), 32)
            + fixed(self.kinds.as_ref().map_or(0, |kinds| kinds.len()), 2)
            + tags.sum::<usize>()
    }

    /// How many places the matcher files this filter under at most: it picks one of the lists.
    fn longest_list(&self) -> usize {
        let lists = [
            self.ids.as_ref().map_or(1, |ids| ids.len()),
            self.authors.as_ref().map_or(1, |authors| authors.len()),
            self.kinds.as_ref().map_or(1, |kinds| kinds.len()),
        ];
        lists.into_iter().chain(self.tags.iter().map(|tag| tag.values.len())).max().unwrap_or(1)
    }

    /// How many lists of the store's indexes a query merges at most.
    fn merged_lists(&self) -> usize {
        let authors = self.authors.as_ref().map_or(0, |authors| authors.len());
        let pairs = authors.saturating_mul(self.kinds.as_ref().map_or(KINDS_OF_AN_AUTHOR, |kinds| kinds.len()));
        let pairs = if pairs > MAX_MERGED_PAIRS { authors.saturating_mul(KINDS_OF_AN_AUTHOR) } else { pairs };
        pairs.max(self.longest_list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, PublicKey, TagFilter};

    fn keys(count: usize) -> Option<Box<[PublicKey]>> {
        let key = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            PublicKey::from_bytes(bytes)
        };
        Some((0..count).map(key).collect())
    }

    fn kinds(count: u16) -> Option<Box<[Kind]>> {
        Some((0..count).map(Kind).collect())
    }

    #[test]
    fn every_value_is_counted() {
        let base = Filter::default().held_bytes();
        assert!(base >= 2 * size_of::<Filter>());
        let authors = |count| Filter { authors: keys(count), ..Filter::default() }.held_bytes();
        assert_eq!(authors(1_000) - authors(999), 2 * 32 + POSTING_BYTES);
        let tag =
            |values: Box<[Box<str>]>| Filter { tags: [TagFilter { letter: b't', values }].into(), ..Filter::default() };
        let (short, long) = (tag([Box::from("x")].into()), tag([Box::from("x".repeat(1_001))].into()));
        assert_eq!(long.held_bytes() - short.held_bytes(), 2_000, "a long text is held twice");
        assert!(tag(Box::default()).held_bytes() > base);
    }

    /// 1,200 subscriptions of 1,900 authors took 414 MiB: 190 bytes an author.
    #[test]
    fn a_follow_list_costs_about_what_was_measured() {
        let filter = Filter { authors: keys(1_900), kinds: kinds(2), ..Filter::default() };
        let measured = 414 * 1024 * 1024 / 1_200;
        let counted = filter.held_bytes();
        assert!(counted > measured && counted < measured * 5 / 4, "{counted} counted, {measured} measured");
    }

    #[test]
    fn a_query_costs_its_lists_too() {
        let lists = |authors, count| {
            let filter = Filter { authors: keys(authors), kinds: kinds(count), ..Filter::default() };
            (filter.cost_bytes() - filter.held_bytes()) / LIST_BYTES
        };
        assert_eq!(lists(100, 20), 2_000);
        assert_eq!(lists(1, 3), 3);
        assert_eq!(lists(1_000, 1_000), 12_000, "the authors' own kinds are fewer");
        let all = Filter { kinds: kinds(u16::MAX), ..Filter::default() };
        assert!(all.cost_bytes() > 65_535 * (POSTING_BYTES + LIST_BYTES), "a long list of kinds is not cheap");
    }
}
