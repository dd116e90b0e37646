//! How a server answers a filter, for `relay explain`.

use super::error::translate;
use super::inventory::{self, Partition};
use super::nodes::Role;
use super::plan::{PlanQuestion, SESSION, Statement, page};
use super::planner::{PageProbe, Picked, Planner, Thresholds};
use super::read::question;
use super::schema;
use crate::config::Redacted;
use crate::store::form::Form;
use crate::store::{Read, StoreError};
use crate::types::{Epoch, Filter, Head, Position};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;

/// Inspects one server, on a connection of its own that is set up like those for clients.
pub struct ServerInspector {
    connection: PgConnection,
    planner: Planner,
}

/// The plan of one read on one server, and the measurements of its execution.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The name of the form that answers.
    pub form: &'static str,
    /// The reason for that form.
    pub why: String,
    /// The statements of the read, in order, without those that chose the form.
    pub steps: Vec<ExplainStep>,
}

/// One statement of an [`Explanation`].
#[derive(Debug, Clone)]
pub struct ExplainStep {
    /// The name of its form.
    pub name: &'static str,
    /// Its text, with placeholders.
    pub sql: String,
    /// The values of the placeholders, as SQL literals.
    pub parameters: String,
    /// The plan, as `EXPLAIN (ANALYZE, BUFFERS)` prints it.
    pub plan: String,
    /// The rows that the plan's top node returned.
    pub rows: u64,
    /// The pages of 8 KiB that it read, from memory or disk.
    pub buffers: u64,
    /// Its execution time on the server.
    pub milliseconds: f64,
}

/// The use of an index since the server's statistics began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexUse {
    /// Its table; for partitions, the partitioned table.
    pub table: String,
    /// Its name; for partitions, the name of the table's index.
    pub index: String,
    /// The number of scans.
    pub scans: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// True when it enforces uniqueness: then the database needs it even if no query reads it.
    pub unique: bool,
}

/// The role of a server, and its head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerPosition {
    /// The role that the server reports.
    pub role: Role,
    /// Its head.
    pub head: Head,
    /// For a server that has received more than it has applied, the age of what it applied last, in seconds; else 0.
    pub seconds_behind: f64,
}

/// The longest time that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const SERVER_POSITION: &str = "SELECT pg_is_in_recovery(), epoch, position, \
    CASE WHEN pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() \
         THEN coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) ELSE 0 END::float8 \
    FROM head";

impl ServerInspector {
    /// Connects to the server at `url`, within five seconds.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where the server does not answer, [`StoreError::TooNew`] where a newer version of
    /// this program has migrated the schema.
    pub async fn connect(url: &Redacted) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.expose().parse().map_err(translate)?;
        let options = options.application_name("skein explain").options(SESSION);
        let connected = async {
            let mut connection = options.connect().await.map_err(translate)?;
            let planner = Planner::new(schema::hasher(&mut connection).await?, Thresholds::default());
            Ok(Self { connection, planner })
        };
        timeout(CONNECT_TIMEOUT, connected).await.unwrap_or(Err(StoreError::Unreachable("database server")))
    }

    /// The role of the server, and its head.
    pub async fn server_position(&mut self) -> Result<ServerPosition, StoreError> {
        let row = sqlx::query(SERVER_POSITION).fetch_one(&mut self.connection).await.map_err(translate)?;
        let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned).map_err(translate);
        let replica: bool = row.try_get(0).map_err(translate)?;
        Ok(ServerPosition {
            role: if replica { Role::Replica } else { Role::Primary },
            head: Head { epoch: Epoch(number(1)?), position: Position(number(2)?) },
            seconds_behind: row.try_get(3).map_err(translate)?,
        })
    }

    /// Runs the statements of a read and reports how they went. `EXPLAIN ANALYZE` takes time itself, so its figures are
    /// above those of the plain statements.
    pub async fn explain(&mut self, read: &Read<'_>) -> Result<Explanation, StoreError> {
        let question = question(read, read.limit.saturating_add(1));
        let mut picked = self.planner.pick(&mut self.connection, &question).await?;
        let probe = self.planner.probe_page(&mut self.connection, &question, &picked).await?;
        let mut steps = Vec::new();
        let mut found = 0;

        if let Some(probe) = probe {
            let statement =
                page(probe.form, &PlanQuestion { rows: Some(probe.rows), ..question }, &self.planner.hasher);
            let step = self.step(probe.form.name(), &statement).await?;
            found = usize::try_from(step.rows).unwrap_or(usize::MAX);
            steps.push(step);
        }
        // As in a read: a probe that fills the page is the answer, and no further statement runs.
        if found <= read.limit {
            let probe = probe.map(|probe| (probe, found));
            let (after, walked) = self.planner.after_probe(&mut self.connection, &question, picked, probe).await?;
            picked = after;
            let question = PlanQuestion { lengths: picked.lengths.as_ref(), walked, ..question };
            steps.push(self.step(picked.form.name(), &page(picked.form, &question, &self.planner.hasher)).await?);
        }

        let form = steps.last().map_or(picked.form.name(), |step| step.name);
        Ok(Explanation { form, why: why(&picked, probe, read.filter), steps })
    }

    async fn step(&mut self, name: &'static str, statement: &Statement) -> Result<ExplainStep, StoreError> {
        let (sql, parameters) = (statement.sql.clone(), statement.literals());
        self.execute(format!("PREPARE skein_explain AS {sql}")).await?;
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE skein_explain({parameters})");
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut self.connection).await;
        self.execute("DEALLOCATE skein_explain".into()).await?;

        let lines: Result<Vec<String>, _> = rows.map_err(translate)?.iter().map(|row| row.try_get(0)).collect();
        let plan = lines.map_err(translate)?.join("\n");
        Ok(ExplainStep {
            name,
            sql,
            parameters,
            rows: rows_of(&plan),
            buffers: buffers(&plan),
            milliseconds: time(&plan),
            plan,
        })
    }

    async fn execute(&mut self, sql: String) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map_err(translate)?;
        Ok(())
    }

    /// Every partition, by table and name.
    pub async fn partitions(&mut self) -> Result<Vec<Partition>, StoreError> {
        inventory::partitions(&mut self.connection).await
    }

    /// Every index with its use on this server, the least used first.
    pub async fn indexes(&mut self) -> Result<Vec<IndexUse>, StoreError> {
        let rows = sqlx::query(
            "SELECT coalesce(p.indrelid, i.indrelid)::regclass::text, coalesce(p.indexrelid, i.indexrelid)::regclass::text, \
             sum(s.idx_scan)::int8, sum(pg_relation_size(s.indexrelid))::int8, bool_or(i.indisunique) \
             FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid \
             LEFT JOIN pg_inherits h ON h.inhrelid = s.indexrelid LEFT JOIN pg_index p ON p.indexrelid = h.inhparent \
             GROUP BY 1, 2 ORDER BY 3, 4 DESC",
        );

        let rows = rows.fetch_all(&mut self.connection).await.map_err(translate)?;
        let number = |row: &sqlx::postgres::PgRow, at| row.try_get::<i64, _>(at).map(i64::cast_unsigned);

        let index = |row| -> Result<IndexUse, sqlx::Error> {
            let row: &sqlx::postgres::PgRow = row;
            Ok(IndexUse {
                table: row.try_get(0)?,
                index: row.try_get(1)?,
                scans: number(row, 2)?,
                bytes: number(row, 3)?,
                unique: row.try_get(4)?,
            })
        };
        rows.iter().map(index).collect::<Result<_, _>>().map_err(translate)
    }
}

/// The most characters of a tag's value that are shown.
const MAX_VALUE_CHARS: usize = 32;

/// The reason for the choice, as a sentence for the operator.
fn why(picked: &Picked, probe: Option<PageProbe>, filter: &Filter) -> String {
    let name = |form: &Form| match form {
        Form::Tag(at) | Form::Tags(at) => {
            let Some(tag) = filter.tags.get(*at) else { return form.name().to_owned() };
            let letter = char::from(tag.letter);
            // Several conditions on a letter are told apart by their values (NIP-91).
            let is_one_of_several = filter.tags.iter().filter(|other| other.letter == tag.letter).count() > 1;
            match &*tag.values {
                [value] if is_one_of_several => {
                    let value: String = value.chars().take(MAX_VALUE_CHARS).collect();
                    format!("{} (&{letter} {value:?})", form.name())
                }
                _ => format!("{} (#{letter})", form.name()),
            }
        }
        _ => form.name().to_owned(),
    };

    let mut why = match &picked.lengths {
        None => format!("{}: the filter leaves no other choice", name(&picked.form)),
        Some(lengths) => {
            let candidates = lengths
                .iter()
                .map(|(form, rows, all)| format!("{} {rows} rows{}", name(&form), if all { "" } else { " or more" }));
            format!("{}: the least work of {}", name(&picked.form), candidates.collect::<Vec<_>>().join(", "))
        }
    };

    match probe {
        Some(PageProbe { form: Form::Recent, .. }) => {
            why.push_str("; so many of the newest events match that they are tried first")
        }
        Some(PageProbe { rows, .. }) => {
            let _ = write!(why, "; since all were long, the newest {rows} rows of one were tried first");
        }
        None => {}
    }
    why
}

fn rows_of(plan: &str) -> u64 {
    number_after(plan.lines().next().unwrap_or_default(), " rows=", true)
}

/// The buffers of the plan's top node, which include those of all nodes below.
fn buffers(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.trim_start().starts_with("Buffers: ")).unwrap_or_default();
    number_after(line, "shared hit=", false) + number_after(line, " read=", false)
}

fn time(plan: &str) -> f64 {
    let line = plan.lines().find_map(|line| line.trim().strip_prefix("Execution Time: "));
    line.and_then(|line| line.strip_suffix(" ms")).and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// The number after the first or last `mark`; 0 where there is none.
fn number_after(line: &str, mark: &str, last: bool) -> u64 {
    let at = if last { line.rfind(mark) } else { line.find(mark) };
    let rest = at.and_then(|at| line.get(at + mark.len()..)).unwrap_or_default();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::plan::Lengths;

    #[test]
    fn conditions_on_one_letter_are_told_apart() {
        let filter = Filter::parse(r##"{"&t":["a","b"]}"##).unwrap();
        let lengths = Lengths::new([(Form::Tag(0), 1_000), (Form::Tag(1), 3)], 1_000);
        let picked = Picked { form: Form::Tag(1), lengths: Some(lengths) };
        assert_eq!(
            why(&picked, None, &filter),
            "tag (&t \"b\"): the least work of tag (&t \"a\") 1000 rows or more, tag (&t \"b\") 3 rows"
        );
        let one = Filter::parse(r##"{"#t":["a"]}"##).unwrap();
        let picked = Picked { form: Form::Tag(0), lengths: None };
        assert!(why(&picked, None, &one).starts_with("tag (#t): "));
    }

    #[test]
    fn figures_are_taken_from_the_top_of_a_plan() {
        let plan = " Nested Loop  (cost=1..2 rows=125 width=8) (actual time=0.1..0.2 rows=7 loops=1)\n   Buffers: shared hit=9 read=2\n\
                    \u{20}  ->  Index Scan (actual time=0.1..0.1 rows=1 loops=1)\n         Buffers: shared hit=4\n Execution Time: 0.169 ms";
        assert_eq!((rows_of(plan), buffers(plan)), (7, 11));
        assert!((time(plan) - 0.169).abs() < 1e-9);
        assert_eq!((rows_of(""), buffers("")), (0, 0));
    }
}
