//! The identity volume: a small FAT image with a machine's secrets.

use std::io::{Cursor, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use crate::error::{Explain, Failure, Result};

pub const LABEL: &str = "NIXVM-ID";

/// Bytes of the image: enough for some small files, and a usual size for FAT12.
const LENGTH: u32 = 1 << 20;

const SECTOR: u16 = 512;

/// Returns an image with these files (names and contents) in its root; the same files give the same bytes.
///
/// FAT knows neither owners nor modes, so the guest mounts it readable by root alone.
pub fn image(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    fill(files).explain(|| Failure::bug("cannot make the identity volume"))
}

fn fill(files: &[(&str, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut label = [b' '; 11];
    label[..LABEL.len()].copy_from_slice(LABEL.as_bytes());
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat12)
        .bytes_per_sector(SECTOR)
        .total_sectors(LENGTH / u32::from(SECTOR))
        .volume_id(0x6e69_7876)
        .volume_label(label);
    let mut image = Cursor::new(vec![0; LENGTH as usize]);
    fatfs::format_volume(&mut image, options)?;
    let volume = FileSystem::new(&mut image, FsOptions::new())?;
    for (name, content) in files {
        let mut file = volume.root_dir().create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    volume.unmount()?;
    Ok(image.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const FILES: [(&str, &[u8]); 2] = [
        ("ssh_host_ed25519_key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n\0\xff"),
        ("root_password_hash", b"!*\n"),
    ];

    #[test]
    fn files_are_read_back_byte_for_byte_under_their_names() {
        let mut bytes = Cursor::new(image(&FILES).unwrap());
        let volume = FileSystem::new(&mut bytes, FsOptions::new()).unwrap();
        assert_eq!(volume.read_volume_label_from_root_dir().unwrap().as_deref(), Some(LABEL));
        let names: Vec<String> = volume.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, FILES.map(|(name, _)| name));
        for (name, content) in FILES {
            let mut read = Vec::new();
            volume.root_dir().open_file(name).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, content);
        }
    }

    #[test]
    fn the_same_files_make_the_same_image() {
        assert_eq!(image(&FILES).unwrap(), image(&FILES).unwrap());
        assert_ne!(image(&FILES).unwrap(), image(&FILES[..1]).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(image(&[("large", &[1; 2 << 20])]).is_err());
    }
}
