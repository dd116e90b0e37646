//! May this be read?

use super::Rules;
use crate::types::{Access, Filter, Refusal};

/// Checks the filters of a REQ or COUNT. Which of the matching events a reader may see is for [`Access::may_read`] to
/// say, event by event. Refuses a REQ of which nothing can be answered: an empty answer would look like a complete one.
/// A REQ with one filter that can be answered passes as a whole, since libraries batch unrelated filters into one REQ.
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
