//! Many lists in one arena, with removal from the middle in constant time.
//!
//! A link ties an owner to a list: a registration to each filter it asks. It is a member of the list (doubly linked, so that it can leave a list of 100,000 without a search) and of
//! its owner's chain (singly linked: an owner leaves everything at once). 24 bytes a link, no allocation a list.

use super::slab::{NONE, Slab};

struct Link {
    /// What the list holds.
    item: u32,
    /// Which list: the number that finds the place where its head is kept.
    list: u32,
    next: u32,
    previous: u32,
    /// The next link of the same owner.
    sibling: u32,
}

/// A link that was taken out.
pub(super) struct Unlinked {
    /// The list it left.
    pub(super) list: u32,
    /// The next link of the same owner.
    pub(super) sibling: u32,
    /// The list's new head, if the link was its head: [`NONE`] if the list is empty now.
    pub(super) new_head: Option<u32>,
}

pub(super) struct Links {
    links: Slab<Link>,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self { links: Slab::new() }
    }

    /// Puts `item` before the list's `head` ([`NONE`] for an empty list) and before the owner's chain that begins
    /// with `sibling`. The link returned is the new beginning of both.
    pub(super) fn push(&mut self, list: u32, head: u32, item: u32, sibling: u32) -> u32 {
        let link = self.links.insert(Link { item, list, next: head, previous: NONE, sibling });
        if let Some(next) = self.links.get_mut(head) {
            next.previous = link;
        }
        link
    }

    /// Takes a link out of its list.
    pub(super) fn remove(&mut self, link: u32) -> Option<Unlinked> {
        let Link { list, next, previous, sibling, .. } = self.links.remove(link)?;
        if let Some(after) = self.links.get_mut(next) {
            after.previous = previous;
        }
        if let Some(before) = self.links.get_mut(previous) {
            before.next = next;
        }
        Some(Unlinked { list, sibling, new_head: (previous == NONE).then_some(next) })
    }

    /// The item of the link `head` if it is alone in its list.
    pub(super) fn sole(&self, head: u32) -> Option<u32> {
        self.links.get(head).filter(|link| link.next == NONE).map(|link| link.item)
    }

    /// The list and the item of `link` if it is alone in its list and the last in its owner's chain.
    pub(super) fn sole_tie(&self, link: u32) -> Option<(u32, u32)> {
        let tie = self.links.get(link)?;
        let is_sole = tie.next == NONE && tie.previous == NONE && tie.sibling == NONE;
        is_sole.then_some((tie.list, tie.item))
    }

    /// Moves along all lists whose heads are in `front` and appends their items to `out`; leaves `front` empty.
    ///
    /// It goes along them in step, since the way along one list is a chain of cache misses, each of which must be
    /// waited for, while those of different lists overlap.
    pub(super) fn drain_lists(&self, front: &mut Vec<u32>, out: &mut Vec<u32>) {
        while !front.is_empty() {
            front.retain_mut(|link| {
                let Some(at) = self.links.get(*link) else { return false };
                out.push(at.item);
                *link = at.next;
                at.next != NONE
            });
        }
    }
}
