//! `export`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use indicatif::HumanBytes;

use crate::cli::archives::state;
use crate::cli::{Shown, Terminal, machine_name, table};
use crate::error::{Explain, Failure, Result};
use crate::model::MachineName;
use crate::ops::{self, Call, Format, Setup};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ImageFormat {
    /// Grows with what it holds
    Qcow2,
    /// As long as the disk, with holes
    Raw,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm export web
  nixvm export web --format raw --output /mnt/web
  output/exports/web/boot.sh           boot the images by plain QEMU

The folder has one image for each disk, and none needs another file: the system, the data, and the
identity, which holds the ssh host key and the hash of root's password. Only you can read them. The
script boot.sh says what another hypervisor has to give the guest. docs/other-hypervisors.md has the
steps for Proxmox, Incus and KubeVirt.")]
pub struct Export {
    /// Name of the machine
    name: String,
    /// Format of the images
    #[arg(long, value_enum, default_value_t = ImageFormat::Qcow2)]
    format: ImageFormat,
    /// Write the images to DIR, which must not exist [default: output/exports/NAME]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(call: &Call, args: &Export, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    let folder = folder(&setup, &name, args.output.as_deref())?;
    let format = match args.format {
        ImageFormat::Qcow2 => Format::Qcow2,
        ImageFormat::Raw => Format::Raw,
    };
    let exported = ops::export(&setup, &name, (&folder, format), terminal)?;
    let rows = exported
        .disks
        .iter()
        .map(|disk| vec![disk.file.clone(), disk.serial.to_owned(), HumanBytes(disk.bytes).to_string()]);
    let text = format!(
        "{}\n{}\ndata: {}; the images hold the machine's keys: do not run them beside it",
        folder.display(),
        table(&["IMAGE", "SERIAL", "SIZE"], rows).trim_end(),
        state(exported.state)
    );
    Ok(Shown::new(&exported, text))
}

/// Returns the folder for the images, absolute.
fn folder(setup: &Setup, name: &MachineName, named: Option<&Path>) -> Result<PathBuf> {
    match named {
        None => Ok(setup.workspace.exports_dir().join(name.as_str())),
        Some(named) => {
            std::path::absolute(named).explain(|| Failure::user(format!("cannot find {}", named.display())))
        }
    }
}
