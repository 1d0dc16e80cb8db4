//! `snapshots`: what can be gone back to, and what it takes.

use serde::Serialize;

use crate::disks::foreign;
use crate::disks::layers::{LONGEST, Layers};
use crate::error::Result;
use crate::host::{Setup, open_pool};
use crate::model::volume::Role;
use crate::model::{MachineName, SnapshotName, Timestamp};

/// The snapshots of a machine.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshots {
    /// The machine.
    pub machine: MachineName,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Bytes that their layers take together.
    pub bytes: u64,
    /// How many layers the data disk in use lies on, itself among them.
    pub chain: usize,
    /// How many there may be.
    pub longest_chain: usize,
}

/// A snapshot in the list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When it was taken, in seconds since 1970.
    pub taken: u64,
    /// The same in words, in UTC.
    pub taken_utc: String,
    /// The generation that the machine was of.
    pub generation: u32,
    /// Whether nothing was half written.
    pub consistent: bool,
    /// The volume with the data written between the snapshot before and this one.
    pub volume: String,
    /// Bytes that it takes in the pool; `None` where it is missing.
    pub bytes: Option<u64>,
    /// How many volumes lie on it.
    pub lying_on: usize,
}

/// Returns a machine's snapshots.
///
/// # Errors
/// There is no such machine, its chain is not whole, or libvirt does not answer.
pub fn snapshots(setup: &Setup, name: &MachineName) -> Result<Snapshots> {
    let host = setup.hypervisor()?;
    let domain = host.see(name)?;
    let pool = open_pool(setup, &host)?;
    foreign::require_own_images(setup, &host, &domain)?;
    let layers = Layers::of(&pool, &domain)?;
    let mut snapshots = Vec::new();
    for snapshot in &layers.metadata.snapshots {
        let volume = Role::Data(snapshot.layer).of(&layers.stem);
        snapshots.push(ListedSnapshot {
            name: snapshot.name.clone(),
            taken: snapshot.taken,
            taken_utc: Timestamp::from_unix(snapshot.taken).map(Timestamp::in_words).unwrap_or_default(),
            generation: snapshot.generation,
            consistent: snapshot.consistent,
            bytes: pool.usage(&volume)?.map(|usage| usage.allocation),
            lying_on: layers.children(snapshot.layer),
            volume,
        });
    }
    let bytes = snapshots.iter().filter_map(|snapshot| snapshot.bytes).sum();
    Ok(Snapshots {
        machine: name.clone(),
        snapshots,
        bytes,
        chain: layers.chain.len(),
        longest_chain: LONGEST,
    })
}
