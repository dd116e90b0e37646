//! The tags of one event, sorted for comparison with many filters.

use crate::types::{Event, Filter, TagFilter};
use smallvec::SmallVec;

/// An event's tags in order.
///
/// An event can have thousands of tags, and thousands of filters can ask for them. With sorted tags a comparison with a
/// filter of one value is a search, not a scan.
pub(super) struct Probe<'a> {
    tags: SmallVec<[(u8, &'a str); 16]>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        let mut tags: SmallVec<_> = event.tags().iter().map(|tag| (tag.letter, &*tag.value)).collect();
        tags.sort_unstable();
        tags.dedup();
        Self { tags }
    }

    /// True when the event satisfies the conditions on tags.
    pub(super) fn suits_tags(&self, filter: &Filter) -> bool {
        filter.tags.iter().all(|condition| self.has_one_of(condition))
    }

    /// Searches the longer of the two lists for each element of the shorter.
    fn has_one_of(&self, condition: &TagFilter) -> bool {
        let letter = condition.letter;
        let from = self.tags.partition_point(|(other, _)| *other < letter);
        let tags = self.tags.get(from..).unwrap_or_default();
        let tags = tags.get(..tags.partition_point(|(other, _)| *other == letter)).unwrap_or_default();
        if condition.values.len() < tags.len() {
            condition.values.iter().any(|wanted| tags.binary_search_by(|(_, value)| (*value).cmp(wanted)).is_ok())
        } else {
            tags.iter().any(|(_, value)| condition.values.binary_search_by(|wanted| (**wanted).cmp(value)).is_ok())
        }
    }
}
