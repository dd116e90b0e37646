//! The limit on open descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Too few descriptors may be open at once.
#[derive(Debug, thiserror::Error)]
#[error(
    "{needed} open descriptors are needed and {hard} are allowed here: raise the hard limit (`ulimit -Hn {needed}` as \
     root, LimitNOFILE= for a service) or ask for fewer connections"
)]
pub struct OpenFilesError {
    /// How many this run needs.
    pub needed: u64,
    /// How many it may have.
    pub hard: u64,
}

/// Raises this process's limit of open descriptors, which its children inherit, to the hard limit.
///
/// # Errors
/// The hard limit is below `needed`.
pub fn raise_open_files(needed: u64) -> Result<(), OpenFilesError> {
    let limit = getrlimit(Resource::Nofile);
    // `None` means no limit.
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    };
    if current < needed { Err(OpenFilesError { needed, hard: current }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_low_a_limit_is_told_with_both_numbers() {
        raise_open_files(10).unwrap();
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), hard);
        if let Some(needed) = hard.checked_add(1) {
            let error = raise_open_files(needed).unwrap_err().to_string();
            assert!(error.contains(&needed.to_string()) && error.contains(&hard.to_string()), "{error}");
        }
    }
}
