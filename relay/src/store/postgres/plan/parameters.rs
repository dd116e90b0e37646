//! A statement's parameters, gathered while its text is written, so that the two cannot disagree.

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use std::fmt::Write;

/// A statement and its parameters. The text depends on the shape of the question and on the chosen way, never on
/// values, so that a connection finds its prepared statements again.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    parameters: Parameters,
}

/// The values behind `$1`, `$2`, ….
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    values: Vec<ParameterValue>,
}

#[derive(Debug, Clone)]
enum ParameterValue {
    Number(i64),
    Bytes(Vec<u8>),
    Numbers(Vec<i64>),
    Kinds(Vec<i32>),
    Keys(Vec<[u8; 32]>),
}

impl Parameters {
    fn push(&mut self, value: ParameterValue) -> String {
        self.values.push(value);
        let number = self.values.len();
        self.values.last().map_or_else(String::new, |value| format!("${number}::{}", value.type_name()))
    }

    /// Adds a number; returns its placeholder in the text. So do the other methods.
    pub(super) fn number(&mut self, value: i64) -> String {
        self.push(ParameterValue::Number(value))
    }

    /// A number of rows.
    pub(super) fn size(&mut self, value: usize) -> String {
        self.number(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A `bytea`.
    pub(super) fn bytes(&mut self, value: &[u8]) -> String {
        self.push(ParameterValue::Bytes(value.to_vec()))
    }

    /// An `int8[]`.
    pub(super) fn numbers(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        self.push(ParameterValue::Numbers(values.into_iter().collect()))
    }

    /// An `int4[]`.
    pub(super) fn kinds(&mut self, values: impl IntoIterator<Item = i32>) -> String {
        self.push(ParameterValue::Kinds(values.into_iter().collect()))
    }

    /// A `bytea[]` of ids or authors.
    pub(super) fn keys(&mut self, values: impl IntoIterator<Item = [u8; 32]>) -> String {
        self.push(ParameterValue::Keys(values.into_iter().collect()))
    }

    /// The statement with these parameters.
    pub(super) fn statement(self, sql: String) -> Statement {
        Statement { sql, parameters: self }
    }
}

impl Statement {
    /// The parameters for the driver.
    pub(crate) fn arguments(&self) -> PgArguments {
        let mut arguments = PgArguments::default();
        for value in &self.parameters.values {
            // Adding fails only for values that cannot be encoded; numbers, bytes and lists of them always can.
            let _ = match value {
                ParameterValue::Number(value) => arguments.add(*value),
                ParameterValue::Bytes(value) => arguments.add(value.as_slice()),
                ParameterValue::Numbers(values) => arguments.add(values.as_slice()),
                ParameterValue::Kinds(values) => arguments.add(values.as_slice()),
                ParameterValue::Keys(values) => arguments.add(values.as_slice()),
            };
        }
        arguments
    }

    /// The parameters as text for a person to paste: `EXECUTE name(…)`.
    pub(crate) fn literals(&self) -> String {
        let values: Vec<_> = self.parameters.values.iter().map(ParameterValue::literal).collect();
        values.join(", ")
    }
}

impl ParameterValue {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Number(_) => "int8",
            Self::Bytes(_) => "bytea",
            Self::Numbers(_) => "int8[]",
            Self::Kinds(_) => "int4[]",
            Self::Keys(_) => "bytea[]",
        }
    }

    fn literal(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Bytes(bytes) => format!("'\\x{}'", hex(bytes)),
            Self::Numbers(values) => list(values),
            Self::Kinds(values) => list(values),
            Self::Keys(values) => {
                let keys: Vec<_> = values.iter().map(|key| format!("\"\\\\x{}\"", hex(key))).collect();
                list(&keys)
            }
        }
    }
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    let values: Vec<_> = values.iter().map(T::to_string).collect();
    format!("'{{{}}}'", values.join(","))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_values_agree() {
        let mut parameters = Parameters::default();
        let text = [
            parameters.number(-7),
            parameters.bytes(&[0xab, 1]),
            parameters.numbers([1, -2]),
            parameters.kinds([3]),
            parameters.keys([[0xcd; 32]]),
        ]
        .join(", ");
        assert_eq!(text, "$1::int8, $2::bytea, $3::int8[], $4::int4[], $5::bytea[]");
        let statement = parameters.statement(text);
        let key = "cd".repeat(32);
        assert_eq!(statement.literals(), format!("-7, '\\xab01', '{{1,-2}}', '{{3}}', '{{\"\\\\x{key}\"}}'"));
        assert_eq!(statement.arguments().len(), 5);
    }
}
