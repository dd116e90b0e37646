//! The writer's statements that carry many rows: a few fixed sizes each, so that they stay prepared.

use std::sync::Arc;

/// A statement with `rows` rows of parameters.
#[derive(Debug, Clone)]
struct Sized {
    rows: usize,
    sql: Arc<str>,
}

/// A statement in several sizes, the largest first, the smallest for one row.
#[derive(Debug, Clone)]
pub(super) struct ManyRows {
    sizes: Vec<Sized>,
}

impl ManyRows {
    /// `before (?,…),(?,…) after` for each of `sizes`.
    fn new(before: &str, columns: usize, after: &str, sizes: &[usize]) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        let sql = |rows: usize| format!("{before} {}{after}", vec![row.as_str(); rows].join(",")).into();
        Self { sizes: sizes.iter().map(|rows| Sized { rows: *rows, sql: sql(*rows) }).collect() }
    }

    /// Cuts `items` into pieces for which there is a statement.
    pub(super) fn pieces<'a, T>(&'a self, mut items: &'a [T]) -> impl Iterator<Item = (&'a Arc<str>, &'a [T])> {
        std::iter::from_fn(move || {
            let size = self.sizes.iter().find(|size| size.rows <= items.len() && size.rows > 0)?;
            let (piece, rest) = items.split_at(size.rows);
            items = rest;
            Some((&size.sql, piece))
        })
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) insert_event: ManyRows,
    pub(super) insert_tag: ManyRows,
    pub(super) delete_tag: ManyRows,
    pub(super) upsert_address: ManyRows,
    pub(super) insert_tombstone: ManyRows,
}

impl Statements {
    pub(super) fn new() -> Self {
        let few = [64, 8, 1];
        let many = [256, 16, 1];
        Self {
            insert_event: ManyRows::new(
                "INSERT INTO event (row, ord, kind, author, id, created_at, expires_at, text) VALUES",
                8,
                "",
                &few,
            ),
            insert_tag: ManyRows::new("INSERT OR IGNORE INTO tag (hash, ord, row, kind) VALUES", 4, "", &many),
            delete_tag: ManyRows::new("DELETE FROM tag WHERE (hash, ord, row) IN (VALUES", 3, ")", &many),
            upsert_address: ManyRows::new(
                "INSERT OR REPLACE INTO address (key, row, created_at, id, deleted_up_to) VALUES",
                5,
                "",
                &few,
            ),
            insert_tombstone: ManyRows::new("INSERT OR IGNORE INTO tombstone (id, requester) VALUES", 2, "", &many),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_in_order() {
        let statement = ManyRows::new("X VALUES", 2, "", &[8, 1]);
        let items: Vec<u32> = (0..19).collect();
        let pieces: Vec<_> = statement.pieces(&items).map(|(sql, piece)| (sql.matches('?').count(), piece)).collect();
        assert_eq!(pieces.iter().map(|(_, piece)| piece.len()).collect::<Vec<_>>(), [8, 8, 1, 1, 1]);
        assert!(pieces.iter().all(|(marks, piece)| *marks == 2 * piece.len()));
        assert_eq!(pieces.concat_items(), items);
    }

    trait ConcatItems {
        fn concat_items(&self) -> Vec<u32>;
    }

    impl ConcatItems for Vec<(usize, &[u32])> {
        fn concat_items(&self) -> Vec<u32> {
            self.iter().flat_map(|(_, piece)| piece.iter().copied()).collect()
        }
    }
}
