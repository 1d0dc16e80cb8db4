//! The workspace on disk, and the folders of machines in it.
//!
//! A machine is `machines/NAME/`, closed to other users, with one file for each value:
//!
//! | file | holds | when it is missing |
//! | --- | --- | --- |
//! | `profile` | the profile's name | an error |
//! | `hostname` | a label of RFC 1123 | the machine's name |
//! | `machine-id` | 32 hexadecimal digits | the digits of `uuid`, else an error |
//! | `uuid` | the same digits as a UUID | those of `machine-id` |
//! | `mac-address` | a unicast MAC address | an error |
//! | `network` | `nat`, `bridge:IF` or `user` | `nat` |
//! | `ssh_host_ed25519_key` | the host key | an error |
//! | `ssh_host_ed25519_key.pub` | its public half | made from the key |
//! | `admin_authorized_keys`, `user_authorized_keys` | a public key a line | nobody |
//! | `tcp_ports` | a port a line | 22, 80 and 443; an empty file opens none |
//! | `udp_ports` | a port a line | none |
//! | `root_password_hash` | a hash of crypt(5) | locked, as when it is empty |
//! | `resolv.conf` | resolv.conf(5) | Cloudflare's resolvers |
//! | `pool`, `connection` | a pool's name, a libvirt URI: where the machine is | learnt from its domain, else as given |
//! | `memory`, `vcpus`, `var_size` | a size, a number, a size | 2G, 2, 20G |
//! | `extra.nix` | a NixOS module of the user's | none |
//! | `self-contained` | nothing | the image holds no password hash |
//! | `health-check` | a program of the user's, run on the host | none |
//!
//! People edit these files, so every one is checked at every read, and a message
//! has file and line. Lines that begin with `#` and blank lines are skipped,
//! except in `resolv.conf` and `extra.nix`, whose text is taken as it is. Other
//! files are left alone.

mod archived;
mod brought;
mod change;
mod create;
mod declared;
mod files;
mod health;
mod identity;
mod load;
mod place;
mod remove;
mod trust;
mod workspace;

pub use archived::{ArchivedFile, from_archive, unpack, unpack_public};
pub use brought::{Brought, brought};
pub use change::{change, copy_beside, copy_health_check, rename};
pub use create::{NewMachine, create, save};
pub use declared::Declared;
pub use health::health_check;
pub use identity::with_new_identity;
pub use load::{declared, exists, holds, list, load};
pub use place::{Place, place, record_place};
pub use remove::{remove, remove_empty};
pub use trust::Trust;
pub use workspace::Workspace;
