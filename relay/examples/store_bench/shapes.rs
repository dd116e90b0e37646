//! The shapes of filter that clients send, each with its rows and its limit.

use crate::world::{NOW, World};
use rand::RngExt;
use relay::types::{Filter, Kind, TagFilter};

/// One shape.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) limit: usize,
    /// The target for the 95th percentile on PostgreSQL, in milliseconds.
    pub(crate) target: Option<f64>,
    pub(crate) make: fn(&mut World) -> Filter,
}

fn list<T: Ord>(mut list: Vec<T>) -> Option<Box<[T]>> {
    list.sort();
    list.dedup();
    Some(list.into())
}

fn some<T>(count: usize, mut make: impl FnMut() -> T) -> Option<Box<[T]>>
where
    T: Ord,
{
    list((0..count).map(|_| make()).collect())
}

fn kinds(kinds: &[u16]) -> Option<Box<[Kind]>> {
    list(kinds.iter().copied().map(Kind).collect())
}

fn tag(letter: u8, values: Vec<String>) -> TagFilter {
    TagFilter { letter, values: list(values.into_iter().map(String::into_boxed_str).collect()).unwrap() }
}

fn tags<const N: usize>(conditions: [TagFilter; N]) -> Box<[TagFilter]> {
    let mut conditions = Vec::from(conditions);
    conditions.sort_by_key(|condition| condition.letter);
    conditions.into()
}

fn earlier(world: &mut World) -> Option<i64> {
    Some(NOW - world.random.random_range(0..10_000_000))
}

/// All shapes.
pub(crate) fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut shape = |name, limit, target: f64, make| {
        shapes.push(Shape { name, limit, target: (target > 0.0).then_some(target), make });
    };
    shape("one id", 1, 1.0, |w| Filter { ids: list(vec![w.any_id()]), ..Filter::default() });
    shape("100 ids", 100, 0.0, |w| Filter { ids: some(100, || w.any_id()), ..Filter::default() });
    shape("profile", 1, 2.0, |w| Filter { authors: list(vec![w.author()]), kinds: kinds(&[0]), ..Filter::default() });
    shape("300 profiles", 300, 0.0, |w| Filter {
        authors: some(300, || w.author()),
        kinds: kinds(&[0]),
        ..Filter::default()
    });

    shape("notes of one author, limit 20", 20, 2.0, |w| Filter {
        authors: list(vec![w.author()]),
        kinds: kinds(&[1]),
        ..Filter::default()
    });

    shape("one author, any kind, limit 50", 50, 0.0, |w| Filter {
        authors: list(vec![w.author()]),
        ..Filter::default()
    });
    shape("feed of 500 active authors, limit 50", 50, 25.0, |w| Filter {
        authors: some(500, || w.author()),
        kinds: kinds(&[1, 6]),
        ..Filter::default()
    });

    shape("feed of 500 active authors, limit 500", 500, 60.0, |w| Filter {
        authors: some(500, || w.author()),
        kinds: kinds(&[1, 6]),
        ..Filter::default()
    });

    shape("feed of 500 any authors, limit 50", 50, 25.0, |w| Filter {
        authors: some(500, || w.any_author()),
        kinds: kinds(&[1, 6]),
        ..Filter::default()
    });

    shape("feed of 500 dormant authors, limit 50", 50, 25.0, |w| Filter {
        authors: some(500, || w.dormant_author()),
        kinds: kinds(&[1, 6]),
        ..Filter::default()
    });

    shape("feed of 500 dormant authors, limit 500", 500, 60.0, |w| Filter {
        authors: some(500, || w.dormant_author()),
        kinds: kinds(&[1, 6]),
        ..Filter::default()
    });

    shape("feed of 1000 any authors, 4 kinds, limit 100", 100, 0.0, |w| Filter {
        authors: some(1000, || w.any_author()),
        kinds: kinds(&[1, 6, 7, 30023]),
        ..Filter::default()
    });

    shape("300 authors, any kind, limit 50", 50, 0.0, |w| Filter {
        authors: some(300, || w.author()),
        ..Filter::default()
    });
    shape("feed of 500 authors, one week, limit 50", 50, 25.0, |w| {
        let until = earlier(w);
        Filter {
            authors: some(500, || w.author()),
            kinds: kinds(&[1, 6]),
            since: until.map(|until| until - 7 * 86_400),
            until,
            ..Filter::default()
        }
    });

    shape("popular #p, limit 100", 100, 5.0, |w| Filter {
        tags: tags([tag(b'p', vec![w.celebrity().to_hex()])]),
        ..Filter::default()
    });
    shape("popular #p and kinds, limit 100", 100, 5.0, |w| Filter {
        tags: tags([tag(b'p', vec![w.celebrity().to_hex()])]),
        kinds: kinds(&[1, 6, 7, 9735]),
        ..Filter::default()
    });

    shape("one #e, limit 100", 100, 5.0, |w| Filter {
        tags: tags([tag(b'e', vec![w.recent_id().to_hex()])]),
        ..Filter::default()
    });
    shape("50 #e, limit 100", 100, 10.0, |w| Filter {
        tags: tags([tag(b'e', (0..50).map(|_| w.any_id().to_hex()).collect())]),
        ..Filter::default()
    });

    shape("#p and author, limit 50", 50, 0.0, |w| Filter {
        tags: tags([tag(b'p', vec![w.author().to_hex()])]),
        authors: list(vec![w.author()]),
        ..Filter::default()
    });

    shape("three AND-ed tags of one event, limit 100", 100, 10.0, |w| {
        let [e, p, t] = w.triple();
        Filter { tags: tags([tag(b'e', vec![e]), tag(b'p', vec![p]), tag(b't', vec![t])]), ..Filter::default() }
    });
    shape("three AND-ed popular tags, limit 100", 100, 10.0, |w| Filter {
        tags: tags([tag(b'p', vec![w.celebrity().to_hex()]), tag(b't', vec![w.topic()]), tag(b'l', vec!["en".into()])]),
        ..Filter::default()
    });

    shape("kinds 1 6 7, limit 100", 100, 3.0, |w| Filter {
        kinds: kinds(&[1, 6, 7]),
        until: earlier(w),
        ..Filter::default()
    });

    shape("kind 1, limit 100", 100, 3.0, |w| Filter { kinds: kinds(&[1]), until: earlier(w), ..Filter::default() });
    shape("an absent kind, limit 100", 100, 3.0, |_| Filter { kinds: kinds(&[1, 31_234]), ..Filter::default() });
    shape("one day, limit 100", 100, 3.0, |w| {
        let until = earlier(w);
        Filter { since: until.map(|until| until - 86_400), until, ..Filter::default() }
    });
    shapes
}
