//! The writer's statements. Those for many rows come in a few fixed sizes, filled up with NULL; and all statements of a
//! transaction are one text, and one trip to the connection's thread: see docs/decisions.

use super::bind::add;
use super::error::translate;
use crate::store::StoreError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};
use std::fmt::Write;

/// The sizes of a statement, in rows, ascending.
const SIZES: [usize; 7] = [1, 4, 16, 64, 128, 256, 512];

/// A statement for many rows of parameters, in several sizes.
#[derive(Debug)]
pub(super) struct ManyRows {
    columns: usize,
    sizes: Vec<(usize, String)>,
}

impl ManyRows {
    /// `before (VALUES (?,…),(?,…)) after` in each size.
    fn new(before: &str, columns: usize, after: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        let sql = |rows: usize| format!("{before} (VALUES {}){after};", vec![row.as_str(); rows].join(","));
        Self { columns, sizes: SIZES.iter().map(|rows| (*rows, sql(*rows))).collect() }
    }

    /// The smallest size for `rows`, or the largest.
    fn size_for(&self, rows: usize) -> Option<&(usize, String)> {
        self.sizes.iter().find(|(size, _)| *size >= rows).or(self.sizes.last())
    }
}

/// Several statements with their parameters, run in one trip.
#[derive(Default)]
pub(super) struct Script {
    sql: String,
    arguments: SqliteArguments,
}

impl Script {
    /// Appends `statement` for `items`, as many times as it takes; `bind` adds the parameters of one item.
    pub(super) fn rows<T>(
        &mut self,
        statement: &ManyRows,
        mut items: &[T],
        mut bind: impl FnMut(&mut SqliteArguments, &T),
    ) {
        while !items.is_empty() {
            let Some((size, sql)) = statement.size_for(items.len()) else { return };
            let (piece, rest) = items.split_at(items.len().min(*size));
            self.sql.push_str(sql);
            self.arguments.reserve(size * statement.columns, 0);
            piece.iter().for_each(|item| bind(&mut self.arguments, item));
            (0..(size - piece.len()) * statement.columns).for_each(|_| add(&mut self.arguments, None::<i64>));
            items = rest;
        }
    }

    /// Appends a statement whose parameters `bind` adds.
    pub(super) fn one(&mut self, sql: &str, bind: impl FnOnce(&mut SqliteArguments)) {
        // Writing to a String cannot fail.
        let _ = write!(self.sql, "{sql};");
        bind(&mut self.arguments);
    }

    #[cfg(test)]
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// Runs the statements; one that fails ends the script.
    pub(super) async fn run(self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments);
        query.execute(connection).await.map(drop).map_err(translate)
    }
}

/// The statements for many rows.
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
        // The rows that fill a size up begin with NULL, and no other row does.
        let insert = |into: &str, columns: usize| {
            ManyRows::new(&format!("INSERT {into} SELECT * FROM"), columns, " WHERE column1 IS NOT NULL")
        };
        Self {
            // An error rolls the whole transaction back; OR ROLLBACK spares SQLite the copies for undoing one
            // statement.
            insert_event: insert(
                "OR ROLLBACK INTO event (row, ord, kind, author, id, created_at, expires_at, text)",
                8,
            ),
            insert_tag: insert("OR IGNORE INTO tag (hash, ord, row, kind)", 4),
            delete_tag: ManyRows::new("DELETE FROM tag WHERE (hash, ord, row) IN", 3, ""),
            upsert_address: insert("OR REPLACE INTO address (key, row, created_at, id, deleted_up_to)", 5),
            insert_tombstone: insert("OR IGNORE INTO tombstone (id, requester)", 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_sizes_and_filled_up() {
        let statement = ManyRows::new("X", 2, "");
        for (count, sizes) in
            [(0, &[][..]), (1, &[1]), (3, &[4]), (65, &[128]), (512, &[512]), (1_030, &[512, 512, 16])]
        {
            let (items, mut seen) = ((0..count).collect::<Vec<u32>>(), Vec::new());
            let mut script = Script::default();
            script.rows(&statement, &items, |arguments, item| {
                seen.push(*item);
                [*item, *item].iter().for_each(|value| add(arguments, *value));
            });
            let marks = script.sql.split_terminator(';').map(|sql| sql.matches('?').count() / 2).collect::<Vec<_>>();
            assert_eq!((marks.as_slice(), seen), (sizes, items));
            assert_eq!(script.arguments.len(), script.sql.matches('?').count());
        }
    }
}
