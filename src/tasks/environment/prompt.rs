//! Who is asked for what no option and no variable holds.

use super::passphrase::Passphrase;
use super::secret::Question;
use crate::tasks::failure::Failure;

/// Asks a person. A face that cannot ask takes [`Nobody`].
pub trait Prompt: Send + Sync {
    /// Asks for a passphrase, never showing it. `stdin_taken` is true when the standard input holds something else.
    ///
    /// # Errors
    /// When there is nobody to ask, or they want an end instead.
    fn passphrase(&self, question: Question<'_>, stdin_taken: bool) -> Result<Passphrase, Failure>;
}

/// Nobody is there: what is not given cannot be had.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Prompt for Nobody {
    fn passphrase(&self, _: Question<'_>, _: bool) -> Result<Passphrase, Failure> {
        Err(Failure::failed("no passphrase is given, and nobody is here who could be asked")
            .remedy("name a key file, a password file or a password command"))
    }
}
