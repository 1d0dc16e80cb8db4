//! Files that are read with care and written whole or not at all.
//!
//! What root makes belongs to whoever owns the folder that it is in: `sudo nixvm` must not lock the owner of a workspace out
//! of it. So whatever makes a file or a folder there does it here, with a mode of its own: a umask of 000 opens nothing to all.

mod folder;
mod owner;
mod read;
mod unfinished;
mod write;

pub use folder::{
    create_folder, create_private_folder, free_space, private_folder_in, remove_folder, replace_folder,
    require_space, sync_folder,
};
pub use owner::{give_folder_to_owner, give_to_owner, give_to_owner_of, hinted};
pub use read::{existing, open, open_itself, read};
pub use unfinished::{UnfinishedFolder, sweep, sweep_those};
pub use write::{create, keep, remove, replace, replace_shared, unfinished_in, write};
