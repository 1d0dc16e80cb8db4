//! The space at the front of an archive.
//!
//! The manifest is the first member, but its digests are known last, and the data can be read only once. So space is left at
//! the front for a zstd frame with the manifest, whose length is known beforehand, however badly it compresses. That frame
//! is written last, and a skippable frame fills the rest (RFC 8878, 3.1.2). zstd(1) and GNU tar see one stream.
//!
//! The skippable frame contains the seal, a digest of the compressed archive: many bits of a zstd frame can change without
//! an effect on its contents, and the seal detects that too.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::files::LARGEST;
use super::member::{BLOCK, MANIFEST, compare, header, padding};
use super::{Checksum, Manifest};
use crate::error::{Explain, Failure, Result};
use crate::model::Timestamp;

/// The first of the 16 magic numbers of a skippable frame.
const SKIPPABLE: u32 = 0x184D_2A50;

/// Bytes of a skippable frame before its contents: magic number and length.
const SKIPPABLE_HEAD: usize = 8;

/// Bytes of the seal, which opens the skippable frame; zeros follow.
const SEAL: usize = 32;

/// zstd's level for the manifest, which is small.
const LEVEL: i32 = 19;

/// Largest window that a frame may ask its reader for, as a power of two: 8 MiB. nixvm's own have 512 KiB.
pub(super) const LARGEST_WINDOW: u32 = 23;

pub(super) fn room(manifest: usize) -> usize {
    let length = manifest as u64 + padding(manifest as u64) + BLOCK;
    zstd::zstd_safe::compress_bound(usize::try_from(length).unwrap_or(usize::MAX)) + SKIPPABLE_HEAD + SEAL
}

#[derive(Debug)]
pub(super) struct Front {
    pub(super) manifest: Manifest,
    pub(super) text: Vec<u8>,
    /// The compressed frame with the manifest.
    pub(super) frame: Vec<u8>,
    /// The digest of everything after the front, and then of `frame`.
    pub(super) seal: Checksum,
    pub(super) length: usize,
}

/// Returns the front, exactly `room` bytes. `body` has hashed everything after it.
pub(super) fn pack(manifest: &str, created: Timestamp, room: usize, body: Sha256) -> Result<Vec<u8>> {
    let bug = || Failure::bug("a manifest does not fit into its room");
    let mut plain = header(MANIFEST, manifest.len() as u64, 0o600, created)?.to_vec();
    plain.extend(manifest.as_bytes());
    plain.resize(plain.len().next_multiple_of(BLOCK as usize), 0);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).explain(bug)?;
    compressor.include_checksum(true).explain(bug)?;
    let mut front = compressor.compress(&plain).explain(bug)?;
    let seal = body.chain_update(&front).finalize();
    let rest = room.checked_sub(front.len() + SKIPPABLE_HEAD).filter(|rest| *rest >= SEAL).ok_or_else(bug)?;
    front.extend(SKIPPABLE.to_le_bytes());
    front.extend(u32::try_from(rest).explain(bug)?.to_le_bytes());
    front.extend(seal);
    front.resize(room, 0);
    Ok(front)
}

pub(super) fn most() -> usize {
    room(LARGEST as usize)
}

/// Parses the front from the first [`most`] bytes of an archive.
pub(super) fn unpack(bytes: &[u8]) -> Result<Front> {
    let mut rest = bytes;
    let plain = frame(&mut rest)?;
    let frame = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
    let damaged = || Failure::user("its first member is not `manifest.json`");
    let (head, contents) = plain.split_first_chunk::<512>().ok_or_else(damaged)?;
    let found = tar::Header::from_byte_slice(head);
    if found.path_bytes() != MANIFEST.as_bytes() {
        return Err(damaged().into());
    }
    let size = found.entry_size().explain(damaged)?;
    if size > LARGEST {
        return Err(too_large().into());
    }
    if contents.len() as u64 != size + padding(size) {
        return Err(Failure::user("`manifest.json` does not fill its frame").into());
    }
    let (text, zeros) = contents.split_at(usize::try_from(size)?);
    let manifest = Manifest::parse(text)?;
    compare(head, &header(MANIFEST, size, 0o600, manifest.about.created)?)?;
    if zeros.iter().any(|&byte| byte != 0) {
        return Err(Failure::user("unexpected bytes after `manifest.json`").into());
    }
    let seal = unseal(&mut rest)
        .ok_or_else(|| Failure::user("the space after `manifest.json` is not as nixvm writes it"))?;
    let length = bytes.len() - rest.len();
    Ok(Front { manifest, text: text.to_vec(), frame: frame.to_vec(), seal, length })
}

/// Takes the first frame off `bytes` and returns its contents.
///
/// Decompresses no more than a manifest and its header can have, whatever the frame says.
fn frame(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let unreadable = || Failure::user("its beginning cannot be decompressed");
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).explain(unreadable)?.single_frame();
    decoder.window_log_max(LARGEST_WINDOW).explain(unreadable)?;
    // One byte more than allowed, to detect that it is too much.
    let most = LARGEST + 2 * BLOCK + 1;
    let mut plain = Vec::new();
    decoder.take(most).read_to_end(&mut plain).explain(unreadable)?;
    if plain.len() as u64 == most { Err(too_large().into()) } else { Ok(plain) }
}

fn too_large() -> Failure {
    Failure::user("`manifest.json` has more than 1 MiB")
}

/// Takes the skippable frame off `bytes` and returns its seal; `None` where it is another frame.
fn unseal(bytes: &mut &[u8]) -> Option<Checksum> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (contents, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let (seal, zeros) = contents.split_first_chunk::<SEAL>()?;
    *bytes = rest;
    let good = u32::from_le_bytes(*number) == SKIPPABLE && zeros.iter().all(|&byte| byte == 0);
    good.then(|| Checksum::from(*seal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample;

    fn created() -> Timestamp {
        sample::manifest().about.created
    }

    #[test]
    fn a_front_fills_its_room_and_is_read_to_its_end() {
        let room = room(sample::MANIFEST.len());
        let mut bytes = pack(sample::MANIFEST, created(), room, Sha256::new_with_prefix("behind")).unwrap();
        assert_eq!(bytes.len(), room);
        bytes.extend(b"behind");
        let front = unpack(&bytes).unwrap();
        assert_eq!((front.manifest, front.length), (sample::manifest(), room));
        assert_eq!(front.text, sample::MANIFEST.as_bytes());
        assert_eq!(front.frame, bytes[..front.frame.len()]);
        assert_eq!(front.seal, Checksum::of(&[b"behind", front.frame.as_slice()].concat()));
    }

    #[test]
    fn the_room_suffices_for_what_does_not_compress() {
        for length in [0, 1, 511, 512, 4096, 100_000, LARGEST as usize] {
            let text: String = sample::noise(length).iter().map(|byte| char::from(byte % 128)).collect();
            assert_eq!(pack(&text, created(), room(length), Sha256::new()).unwrap().len(), room(length));
        }
        assert!(pack(sample::MANIFEST, created(), 100, Sha256::new()).is_err());
    }

    fn of(plain: &[u8]) -> Result<Front> {
        let frame = zstd::bulk::compress(plain, 1).unwrap();
        unpack(&[frame, SKIPPABLE.to_le_bytes().to_vec(), vec![SEAL as u8, 0, 0, 0], vec![0; SEAL]].concat())
    }

    fn refusal(plain: &[u8]) -> String {
        of(plain).unwrap_err().to_string()
    }

    #[test]
    fn other_beginnings_are_refused() {
        let member = |path: &str, size: u64, text: &[u8]| {
            [header(path, size, 0o600, created()).unwrap().as_slice(), text].concat()
        };
        assert_eq!(refusal(b""), "its first member is not `manifest.json`");
        assert_eq!(refusal(&member("manifest.jso", 0, b"")), "its first member is not `manifest.json`");
        assert_eq!(refusal(&member(MANIFEST, LARGEST + 1, b"")), "`manifest.json` has more than 1 MiB");
        // A bomb: 1 GiB of zeros in some kilobytes.
        assert_eq!(refusal(&vec![0; 1 << 30]), "`manifest.json` has more than 1 MiB");
        assert_eq!(refusal(&member(MANIFEST, 4, b"{}")), "`manifest.json` does not fill its frame");
        let mut text = sample::MANIFEST.as_bytes().to_vec();
        let size = text.len() as u64;
        text.resize(text.len().next_multiple_of(512), 0);
        let good = member(MANIFEST, size, &text);
        of(&good).unwrap();
        let mut dirty = good.clone();
        *dirty.last_mut().unwrap() = 1;
        assert_eq!(refusal(&dirty), "unexpected bytes after `manifest.json`");
        let mut later = good.clone();
        later[..512].copy_from_slice(&header(MANIFEST, size, 0o644, created()).unwrap());
        assert_eq!(refusal(&later), "the header of `manifest.json` is not as nixvm writes it");
        later[..512]
            .copy_from_slice(&header(MANIFEST, size, 0o600, Timestamp::from_unix(0).unwrap()).unwrap());
        assert_eq!(refusal(&later), "the header of `manifest.json` is not as nixvm writes it");
    }

    #[test]
    fn what_fills_the_room_is_looked_at() {
        let room = room(sample::MANIFEST.len());
        let good = pack(sample::MANIFEST, created(), room, Sha256::new()).unwrap();
        let frame = zstd::zstd_safe::find_frame_compressed_size(&good).unwrap();
        for (at, to) in [(frame, 0x51), (frame + 4, 0xff), (frame + 7, 0x7f), (room - 1, 1)] {
            let mut bad = good.clone();
            bad[at] = to;
            let error = unpack(&bad).unwrap_err().to_string();
            assert_eq!(error, "the space after `manifest.json` is not as nixvm writes it");
        }
    }
}
