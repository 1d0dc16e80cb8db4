//! OpenSSH keys: a machine's own, and those of the people it lets in.

mod authorized_key;
mod host_key;

pub use authorized_key::AuthorizedKey;
pub use host_key::{HostKey, public_half};
