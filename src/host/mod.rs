//! What a host provides for its machines: libvirt, a pool, a network, an accelerator, memory.

mod accelerator;
mod call;
pub mod exposure;
pub mod memory;
pub mod ownership;
mod pool;
mod preflight;
mod session;
mod setup;
mod ssh_port;
pub mod subnet;
mod watch;

pub use accelerator::{accelerator, probe};
pub use call::{Asked, Call, Target, named};
pub use pool::{check_folder, open_pool, pool_of};
pub use preflight::preflight;
pub use session::Session;
pub use setup::Setup;
pub use ssh_port::ssh_port;
pub use subnet::{check_bridge, ensure_network};
pub use watch::{Watch, moved};
