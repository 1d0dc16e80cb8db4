//! Archives for tests.

use std::path::{Path, PathBuf};

use super::{
    About, ArchiveName, ArchiveSource, Checksum, MachineFile, Manifest, Member, MemberKind, Parent, State,
    write,
};
use crate::model::Generation;

/// The text of [`manifest`].
pub(super) const MANIFEST: &str = r#"{
  "format": 1,
  "machine": "web",
  "profile": "core",
  "machineId": "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11",
  "created": 1769015507,
  "nixvm": "0.1.0",
  "generation": {
    "number": 3,
    "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
  },
  "nixpkgsRevision": "8eeec934ae0dbeca3d7868c059568a65c08b2fc3",
  "state": "frozen",
  "parent": {
    "archive": "web-20260120-171147.tar.zst",
    "manifest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
  },
  "checkpoint": "nixvm-2",
  "members": [
    {
      "path": "machine/health-check",
      "mode": "0700",
      "size": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    },
    {
      "path": "machine/profile",
      "mode": "0600",
      "size": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    },
    {
      "path": "data.qcow2",
      "mode": "0600",
      "size": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "virtualSize": 21474836480
    },
    {
      "path": "nvram.fd",
      "mode": "0600",
      "size": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }
  ]
}
"#;

pub(super) fn about() -> About {
    About {
        machine: "web".parse().unwrap(),
        profile: "core".parse().unwrap(),
        machine_id: "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11".parse().unwrap(),
        created: "20260121-171147".parse().unwrap(),
        nixvm: "0.1.0".to_owned(),
        generation: Generation { number: 3, digest: Checksum::of(b"abc").to_string() },
        nixpkgs_revision: "8eeec934ae0dbeca3d7868c059568a65c08b2fc3".to_owned(),
        state: State::Frozen,
        parent: Some(Parent {
            archive: "web-20260120-171147.tar.zst".parse().unwrap(),
            manifest: Checksum::of(b"abc"),
        }),
        checkpoint: Some("nixvm-2".to_owned()),
    }
}

pub(super) fn manifest() -> Manifest {
    let file = |name: &str, executable| MemberKind::File { name: name.parse().unwrap(), executable };
    let roles = [
        file("health-check", true),
        file("profile", false),
        MemberKind::Data { virtual_size: 20 << 30 },
        MemberKind::Nvram,
    ];
    let member = |role| Member { role, size: 3, sha256: Checksum::of(b"abc") };
    Manifest { about: about(), members: roles.into_iter().map(member).collect() }
}

/// Returns bytes that do not compress, always the same ones.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Returns the beginning of a qcow2 file, version 3, with `length` bytes.
pub(super) fn qcow2(virtual_size: u64, length: usize) -> Vec<u8> {
    let mut bytes = noise(length);
    bytes[..80].fill(0);
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[24..32].copy_from_slice(&virtual_size.to_be_bytes());
    bytes
}

/// The files of a machine.
pub(super) fn files() -> Vec<MachineFile> {
    let file = |name: &str, executable, text: &str| MachineFile {
        name: name.parse().unwrap(),
        executable,
        bytes: text.as_bytes().to_vec(),
    };
    vec![
        file("profile", false, "core\n"),
        file("health-check", true, "#!/bin/sh\nexec true\n"),
        file("udp_ports", false, ""),
    ]
}

/// Writes the archive of [`files`], data and NVRAM into a folder and returns its path.
pub(super) fn archive(folder: &Path, mut data: &[u8], nvram: Option<&[u8]>) -> (PathBuf, ArchiveName) {
    let data_size = data.len() as u64;
    let source = ArchiveSource { files: files(), data: &mut data, data_size, nvram };
    let name = write(folder, &about(), source, &mut |_| Ok(())).unwrap().name;
    (folder.join(name.to_string()), name)
}
