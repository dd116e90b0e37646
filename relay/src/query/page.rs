//! The rows of an answer before it is sent: one snapshot for each filter, merged into one list.

use super::QueryLimits;
use crate::cache::{Listed, Snapshot};
use crate::store::Page;
use crate::types::safeguard::{Safeguard, ablated};
use crate::types::{Access, EoseHints, Filter, Key, Row, Timestamp};
use std::collections::{HashSet, VecDeque};

/// The newest events of one filter, exactly as of its head.
pub(super) type PageSnapshot = Snapshot<Candidate>;

/// One event of an answer: with its text, or still to be fetched.
#[derive(Debug, Clone)]
pub(super) enum Candidate {
    Here(Row),
    ToFetch(Key),
}

impl Candidate {
    /// How many bytes of text the candidate holds: none where the text is still to be fetched.
    pub(super) fn text_bytes(&self) -> usize {
        if let Self::Here(row) = self { row.text.len() } else { 0 }
    }
}

impl Listed for Candidate {
    fn key(&self) -> Key {
        match self {
            Self::Here(row) => row.key,
            Self::ToFetch(key) => *key,
        }
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        matches!(self, Self::Here(row) if row.is_expired(now))
    }

    fn bytes(&self) -> usize {
        if let Self::Here(row) = self { row.bytes() } else { 0 }
    }
}

impl From<Row> for Candidate {
    fn from(row: Row) -> Self {
        Self::Here(row)
    }
}

/// The page that the store has read for `limit` rows, as a snapshot.
pub(super) fn snapshot(Page { rows, rest, head, complete }: Page, limit: usize) -> PageSnapshot {
    let rows = rows.into_iter().map(Candidate::Here).chain(rest.into_iter().map(Candidate::ToFetch)).collect();
    PageSnapshot { head, limit, rows, complete, read_at: Timestamp::MIN }
}

/// Which matching rows one filter's page leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// True where it leaves out none that this reader may see.
    pub(super) is_all: bool,
    /// The next matching row, where it is known.
    pub(super) next: Option<Key>,
}

impl PageSnapshot {
    /// Keeps the `wanted` rows, and the other rows of the last one's second where these are at most `overrun` and all
    /// of them are known. A client that asks for rows before that second then misses none (NIP-67).
    pub(super) fn cut(&mut self, wanted: usize, overrun: usize) -> Cut {
        let Some(last) = wanted.checked_sub(1) else { return Cut { is_all: false, next: None } };
        let mut end = wanted.min(self.rows.len());
        if let Some(second) = self.rows.get(last).map(|row| row.key().created_at) {
            let whole = self.rows.partition_point(|row| row.key().created_at >= second);
            let is_known = whole < self.rows.len() || self.complete;
            if is_known && whole - wanted <= overrun {
                end = if ablated(Safeguard::WholeSeconds) { whole.min(wanted + 1) } else { whole };
            }
        }
        let next = self.rows.get(end).map(Listed::key);
        self.rows.truncate(end);
        Cut { is_all: next.is_none() && (self.complete || ablated(Safeguard::Finish)), next }
    }
}

/// The answer to `filters`, and the hints for its EOSE.
pub(super) fn compose(
    mut snapshots: Vec<PageSnapshot>,
    filters: &[Filter],
    access: &Access,
    limits: QueryLimits,
) -> (VecDeque<Candidate>, EoseHints) {
    if !limits.eose_hints {
        return (merge(snapshots), EoseHints::default());
    }
    let mut hints = EoseHints { finish: true, ..EoseHints::default() };
    let mut next = Vec::new();
    for (snapshot, filter) in snapshots.iter_mut().zip(filters) {
        let wanted = limits.rows_of(filter);
        let cut = snapshot.cut(wanted, limits.overrun_of(wanted));
        // Where every id was found, nothing was held back.
        let has_all_ids = filter.ids.as_ref().is_some_and(|ids| ids.len() == snapshot.rows.len());
        hints.finish &= cut.is_all && (has_all_ids || access.holds_nothing_back(filter));
        hints.auth |= access.could_show_more(filter);
        next.extend(cut.next);
    }

    let answer = merge(snapshots);
    // A row that one filter leaves out may be part of another filter's page.
    next.retain(|key| answer.binary_search_by_key(&key.order(), |candidate| candidate.key().order()).is_err());
    hints.more = !next.is_empty();
    (answer, hints)
}

/// Merges the filters' rows: newest first, ties by lowest id, each event once.
pub(super) fn merge(snapshots: Vec<PageSnapshot>) -> VecDeque<Candidate> {
    let single = snapshots.len() == 1;
    let mut all: Vec<Candidate> = snapshots.into_iter().flat_map(|snapshot| snapshot.rows).collect();
    if !single {
        let mut seen = HashSet::with_capacity(all.len());
        // Where two filters have the same event, the one with its text comes first and stays.
        all.sort_by_key(|candidate| (candidate.key().order(), matches!(candidate, Candidate::ToFetch(_))));
        all.retain(|candidate| seen.insert(candidate.key().id));
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EventId, Head, Kind, PrivateKinds, PublicKey, TagFilter};
    use std::slice::from_ref;

    const LIMITS: QueryLimits = QueryLimits {
        default_limit: 3,
        max_limit: 10,
        eose_hints: true,
        boundary_overrun: 2,
        max_text_bytes: 1 << 20,
        head_timeout: std::time::Duration::from_secs(1),
    };

    fn key(created_at: Timestamp, id: u8) -> Key {
        Key { created_at, id: EventId::from_bytes([id; 32]) }
    }

    fn page(keys: &[Key], complete: bool) -> PageSnapshot {
        let rows = keys.iter().map(|key| Candidate::ToFetch(*key)).collect();
        PageSnapshot { head: Head::default(), limit: 100, rows, complete, read_at: 0 }
    }

    fn kinds(kinds: &[u16]) -> Filter {
        Filter { kinds: Some(kinds.iter().map(|kind| Kind(*kind)).collect()), ..Filter::default() }
    }

    fn hints(pages: &[PageSnapshot], filters: &[Filter], access: &Access) -> String {
        compose(pages.to_vec(), filters, access, LIMITS).1.names().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_page_goes_on_to_the_end_of_its_last_second() {
        let seconds =
            |seconds: &[Timestamp]| seconds.iter().zip(0..).map(|(second, id)| key(*second, id)).collect::<Vec<_>>();
        let cut = |rows: &[Timestamp], complete, wanted, overrun| {
            let mut page = page(&seconds(rows), complete);
            let cut = page.cut(wanted, overrun);
            (page.rows.len(), cut.is_all, cut.next.map(|key| key.created_at))
        };

        assert_eq!(cut(&[9, 8, 7, 7, 6], false, 3, 2), (4, false, Some(6)));
        assert_eq!(cut(&[9, 8, 7, 7], true, 3, 2), (4, true, None), "the second is the last of all");
        assert_eq!(cut(&[9, 8, 7, 7], false, 3, 2), (3, false, Some(7)), "there may be more of the second");
        assert_eq!(cut(&[9, 8, 7, 7, 7, 7, 6], false, 3, 2), (3, false, Some(7)), "too many");
        assert_eq!(cut(&[9, 9], true, 1, 0), (1, false, Some(9)));
        assert_eq!(cut(&[9, 8], false, 3, 2), (2, false, None), "nothing is known of the rest");
        assert_eq!(cut(&[9, 8, 7], false, 3, 2), (3, false, None));
        assert_eq!(cut(&[], true, 3, 2), (0, true, None));
        assert_eq!(cut(&[], true, 0, 0), (0, false, None), "who asks for nothing learns nothing");
    }

    #[test]
    fn an_answer_is_all_where_each_filter_is() {
        let (one, stranger) = (kinds(&[1]), Access::default());
        let (all, part) = (page(&[key(9, 1)], true), page(&[9, 8, 7, 6].map(|at| key(at, at as u8)), false));
        assert_eq!(hints(from_ref(&all), from_ref(&one), &stranger), "finish");
        assert_eq!(hints(from_ref(&part), from_ref(&one), &stranger), "more");
        assert_eq!(hints(&[all.clone(), part.clone()], &[one.clone(), one.clone()], &stranger), "more");
        // What the one leaves out, the other brings.
        let rest = page(&[key(6, 6)], true);
        assert_eq!(hints(&[part.clone(), rest], &[one.clone(), one.clone()], &stranger), "");
        assert_eq!(hints(&[], &[], &stranger), "finish");
        assert_eq!(hints(&[all], &[Filter { limit: Some(0), ..one.clone() }], &stranger), "");
        let off = QueryLimits { eose_hints: false, ..LIMITS };
        assert_eq!(compose(vec![part], &[one], &stranger, off).1, EoseHints::default());
    }

    #[test]
    fn rights_count_by_the_filter_and_never_by_what_is_stored() {
        let reader = PublicKey::from_bytes([1; 32]);
        let private_kinds = PrivateKinds::default().with_author_only(vec![Kind(78)]);
        let stranger = Access { private_kinds, ..Access::default() };
        let known = Access { authenticated: [reader].into_iter().collect(), ..stranger.clone() };
        let recipient = |key: PublicKey| [TagFilter { letter: b'p', values: [key.to_hex().into()].into() }].into();
        let other = PublicKey::from_bytes([2; 32]);
        let table = [
            (kinds(&[1]), "finish", "finish"),
            // It names no private kind, and could select some.
            (Filter::default(), "", ""),
            (kinds(&[1, 1059]), "auth", ""),
            (kinds(&[78]), "auth", ""),
            (Filter { authors: Some([reader].into()), ..kinds(&[1, 78]) }, "auth", "finish"),
            (Filter { authors: Some([reader, other].into()), ..kinds(&[78]) }, "auth", ""),
            (Filter { tags: recipient(reader), ..kinds(&[1059]) }, "auth", "finish"),
            (Filter { tags: recipient(reader), ..kinds(&[78, 1059]) }, "auth", ""),
            (Filter { tags: recipient(other), ..kinds(&[1059]) }, "auth", ""),
            // The author of a gift wrap is no reader of it.
            (Filter { authors: Some([reader].into()), ..kinds(&[1059]) }, "auth", ""),
            // All that it asks for was found.
            (Filter { ids: Some([key(9, 1).id].into()), ..Filter::default() }, "finish", "finish"),
            (Filter { ids: Some([key(9, 1).id, key(9, 2).id].into()), ..Filter::default() }, "", ""),
        ];

        for (filter, to_stranger, to_known) in table {
            let page = [page(&[key(9, 1)], true)];
            let told = [&stranger, &known].map(|access| hints(&page, from_ref(&filter), access));
            assert_eq!(told, [to_stranger, to_known], "{filter:?}");
        }
    }
}
