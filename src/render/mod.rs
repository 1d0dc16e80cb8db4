//! Text from values: a machine's NixOS module, and the XML that libvirt takes.
//!
//! The texts are `templates/*.j2`, compiled in. A template's target decides how
//! every value in it is written: `.nix` as a Nix expression (`nix.rs`), `.xml` as
//! XML text (`xml.rs`). Nothing is printed raw but XML that nixvm wrote already.

mod companions;
mod definitions;
mod libvirt;
mod module;
mod nix;
pub mod syntax;
mod template;
mod write;
mod xml;

pub use companions::{companions, copy_companions};
pub use definitions::{definitions, essence};
pub use libvirt::{domain_xml, network_xml, pool_xml};
pub use module::{digest, module};
pub use write::{MODULE, Rendered, remove, require_ours, write};
