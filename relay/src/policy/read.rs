//! May this be read?

use super::Rules;
use crate::types::{Access, Filter, Refusal};

/// Checks the filters of a REQ or COUNT. Which of the matching events a reader may see is for [`Access::may_read`] to
/// say, event by event; here a question is refused that cannot be answered at all, since a client that does not hear of it
/// would take silence for an answer. Where one filter can be answered, the others go with it: libraries put
/// questions together that have nothing to do with each other.
pub fn check_read(filters: &[Filter], rules: &Rules, access: &Access) -> Result<(), Refusal> {
    check_reader(rules, access)?;
    if !filters.is_empty() && filters.iter().all(|filter| access.needs_authentication(filter)) {
        return Err(Refusal::PrivateNeedsAuthentication);
    }
    Ok(())
}

/// Says whether this reader may ask, or go on hearing, anything at all.
pub fn check_reader(rules: &Rules, access: &Access) -> Result<(), Refusal> {
    if rules.auth_to_read && access.authenticated.is_empty() {
        return Err(Refusal::ReadNeedsAuthentication);
    }
    Ok(())
}
