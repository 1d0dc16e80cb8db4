//! `snapshots`: lists a machine's snapshots, oldest first, and the space they take.

use serde::Serialize;

use crate::disks::foreign;
use crate::disks::layers::{LONGEST, Layers};
use crate::error::Result;
use crate::host::{Setup, open_pool};
use crate::model::volume::Role;
use crate::model::{MachineName, SnapshotName, Timestamp};

#[derive(Debug, Clone, Serialize)]
pub struct Snapshots {
    pub machine: MachineName,
    pub snapshots: Vec<ListedSnapshot>,
    /// Bytes of their layers together.
    pub bytes: u64,
    /// Layers in the data disk's chain, itself included.
    pub chain: usize,
    pub longest_chain: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct ListedSnapshot {
    pub name: SnapshotName,
    /// Seconds since 1970.
    pub taken: u64,
    pub taken_utc: String,
    pub generation: u32,
    /// Whether the guest had written out everything.
    pub consistent: bool,
    /// The volume with the data written since the snapshot before.
    pub volume: String,
    /// Bytes that it takes in the pool; `None` where it is missing.
    pub bytes: Option<u64>,
    /// How many volumes have this one as their backing file.
    pub lying_on: usize,
}

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
