//! What the settings keep in files of its own, read at the start and at each reload: who may log in, and
//! which addresses are local.
//!
//! Must never: be changed in part; workers get all of it at once.
//!
//! **Diagnostics**: [`RollsError`], before a port opens.

use crate::auth::{Logins, LoginsError};
use crate::locals::{Locals, LocalsError};
use crate::settings::Smtp;

/// Users and local addresses.
#[derive(Debug, Default)]
pub struct Rolls {
    /// Who may log in.
    pub logins: Logins,
    /// Whose mail is accepted from everybody.
    pub locals: Locals,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RollsError {
    /// Users.
    #[error("smtp-auth: {0}")]
    Logins(#[from] LoginsError),
    /// Local addresses.
    #[error(transparent)]
    Locals(#[from] LocalsError),
}

impl Rolls {
    /// Reads all that is named.
    ///
    /// # Errors
    /// The first file or line that is not as it must be.
    pub fn load(smtp: &Smtp) -> Result<Rolls, RollsError> {
        Ok(Rolls { logins: Logins::load(&smtp.auth)?, locals: Locals::load(smtp)? })
    }
}
