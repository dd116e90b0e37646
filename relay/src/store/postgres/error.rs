//! PostgreSQL's SQLSTATE codes (appendix A of its manual) in the store's words, and what they say about a server.

use crate::store::StoreError;

/// Translates what sqlx reports. What speaks of the server rather than of the statement stays
/// [`StoreError::Database`], so that [`FailureClass::of`] can tell.
pub(super) fn translate(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Overloaded,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // query_canceled: the statement timeout; nobody else cancels.
            Some("57014") => StoreError::Timeout,
            // disk_full; out_of_memory, too_many_connections and the like.
            Some("53100") => StoreError::Full,
            Some(code) if code.starts_with("53") => StoreError::Overloaded,
            // lock_not_available.
            Some("55P03") => StoreError::Locked,
            // data_corrupted, index_corrupted.
            Some("XX001" | "XX002") => StoreError::Damaged(error.to_string()),
            _ => StoreError::Database(error),
        },
        _ => StoreError::Database(error),
    }
}

/// What an error says about the server that it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureClass {
    /// Nothing: another server would say the same.
    None,
    /// It is well, but could not do this one: a standby's replay was in the way (40001, 40P01).
    Busy,
    /// It takes no writes: it is a standby, or its operator has said so.
    ReadOnly,
    /// It has gone, is shutting down or starting up, or has another role than was thought: its connections are worth
    /// nothing any more.
    Gone,
}

impl FailureClass {
    pub(super) fn of(error: &StoreError) -> Self {
        let StoreError::Database(error) = error else { return Self::None };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed => Self::Gone,
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some("40001" | "40P01") => Self::Busy,
                Some("25006") => Self::ReadOnly,
                // Idle sessions that the server ended; then the classes "connection exception" and "operator
                // intervention".
                Some("25P03") => Self::Gone,
                Some(code) if code.starts_with("08") || code.starts_with("57P") => Self::Gone,
                _ => Self::None,
            },
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_speaks_of_the_server_and_a_missing_row_does_not() {
        let lost = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(FailureClass::of(&translate(lost())), FailureClass::Gone);
        assert_eq!(FailureClass::of(&translate(sqlx::Error::RowNotFound)), FailureClass::None);
        assert!(matches!(translate(sqlx::Error::PoolTimedOut), StoreError::Overloaded));
    }
}
