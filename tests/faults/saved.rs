//! A machine as it once was, kept beside it to begin the next round with.
//!
//! It is put back with `cp` and `virsh` in a fraction of a second, where nixvm would need a build; and what a command
//! left that was killed cannot be in its way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::host;
use crate::process::root;
use crate::world::World;

/// What there is of a machine in the workspace, beside its lock.
const FOLDERS: [&str; 4] = ["machines", "output/rendered", "output/generations", "output/known_hosts"];

/// A machine that is off: its domain's definition, its volumes, its files.
pub struct Saved {
    machine: String,
    folder: PathBuf,
    pool: String,
    definition: String,
}

impl Saved {
    /// Copies what there is of the machine.
    pub fn of(world: &World, machine: &str) -> Result<Self> {
        ensure!(host::state(machine)? == "shut off", "{machine} is {}", host::state(machine)?);
        let definition = host::defined(machine)?;
        let pool = world.pool_folder.display().to_string();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let saved = Saved {
            machine: machine.to_owned(),
            folder: world.dir.join(format!("saved-{number}")),
            pool,
            definition,
        };
        saved.copy(world, SAVE)?;
        Ok(saved)
    }

    /// Makes the machine what it was, whatever it is now.
    pub fn put_back(&self, world: &World) -> Result<()> {
        if host::definition(&self.machine)?.is_some() {
            host::virsh_any(&["destroy", &self.machine])?;
            host::virsh(&["undefine", &self.machine, "--keep-nvram", "--checkpoints-metadata"])?;
        }
        self.copy(world, PUT_BACK)?;
        host::virsh(&["pool-refresh", &world.pool])?;
        host::define("define", &self.definition)?;
        match std::fs::remove_file(world.workspace.join(format!("output/work/{}.json", self.machine))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn copy(&self, world: &World, script: &str) -> Result<()> {
        let [folder, workspace] = [&self.folder, &world.workspace].map(|path| path.display().to_string());
        let arguments = ["-euc", script, "bash", &self.machine, &folder, &self.pool, &workspace];
        root("bash", &[&arguments[..], &FOLDERS].concat()).map(drop)
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        let _ = root("rm", &["-rf".as_ref(), self.folder.as_os_str()]);
    }
}

const SAVE: &str = r#"
machine=$1 folder=$2 pool=$3 workspace=$4; shift 4
mkdir "$folder"
cp -a --sparse=always "$pool/$machine".* "$folder"
for part; do
    mkdir -p "$folder/$part"
    [ ! -e "$workspace/$part/$machine" ] || cp -a "$workspace/$part/$machine" "$folder/$part"
done"#;

const PUT_BACK: &str = r#"
machine=$1 folder=$2 pool=$3 workspace=$4; shift 4
rm -f "$pool/$machine".*
cp -a --sparse=always "$folder/$machine".* "$pool"
for part; do
    rm -rf "${workspace:?}/$part/$machine"
    [ ! -e "$folder/$part/$machine" ] || cp -a "$folder/$part/$machine" "$workspace/$part"
done"#;
