//! Translates PostgreSQL's SQLSTATE codes (appendix A of its manual) into the store's errors, and classifies what they
//! say about a server.

use crate::store::StoreError;

/// Translates an error of sqlx. An error about the server, not the statement, stays [`StoreError::Database`], so that
/// [`FailureClass::of`] can classify it.
pub(super) fn translate(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Overloaded,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // query_canceled: the statement timeout, since nothing else cancels statements.
            Some("57014") => StoreError::Timeout,
            // disk_full; then out_of_memory, too_many_connections and the like.
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

/// What an error says about its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureClass {
    /// Nothing: another server would return the same error.
    None,
    /// The server is well, but a standby's replay conflicted with this statement (40001, 40P01).
    Busy,
    /// The server takes no writes: it is a standby, or its operator has made it read-only.
    ReadOnly,
    /// The server has gone, is starting up or shutting down, or has changed its role: none of its connections is of
    /// use.
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
