//! Calls that `virt` 0.5 does not wrap safely. All unsafe code of nixvm is here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_ulong};
use std::io;
use std::ptr;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::stream::Stream;
use virt::sys;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, now in the buffer.
    Data(usize),
    /// This many bytes that read as zeros and were not sent.
    Hole(u64),
    End,
}

/// A job that works on a running guest's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockJob {
    /// `virDomainBlockJobType`.
    pub kind: u32,
    /// In bytes or another unit of the job's.
    pub done: u64,
    /// In the same unit; grows while the guest writes.
    pub total: u64,
}

/// Tells the stream's other side to skip `length` bytes, which then read as zeros.
pub fn send_hole(stream: &Stream, length: u64) -> Result<(), Error> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // SAFETY: the pointer is valid as long as `stream` is borrowed.
    done(unsafe { sys::virStreamSendHole(stream.as_ptr(), length, 0) })
}

/// Fills `buffer` from a sparse stream that blocks.
pub fn receive(stream: &Stream, buffer: &mut [u8]) -> Result<Received, Error> {
    const AT_HOLE: c_int = -3;
    let (data, length) = (buffer.as_mut_ptr().cast::<c_char>(), buffer.len());
    // SAFETY: libvirt writes `length` bytes at most to `data`; the stream is valid as long as it is borrowed.
    match unsafe { sys::virStreamRecvFlags(stream.as_ptr(), data, length, sys::VIR_STREAM_RECV_STOP_AT_HOLE) }
    {
        0 => Ok(Received::End),
        AT_HOLE => {
            let mut hole = 0;
            // SAFETY: as above, and `hole` outlives the call.
            check(unsafe { sys::virStreamRecvHole(stream.as_ptr(), &mut hole, 0) })?;
            Ok(Received::Hole(hole.unsigned_abs()))
        }
        length => Ok(Received::Data(check(length)? as usize)),
    }
}

/// Has the guest's agent freeze all its file systems; from now on each command to the agent may take `limit` seconds.
///
/// After a timeout the agent may still freeze them.
pub fn freeze(domain: &Domain, limit: u16) -> Result<(), Error> {
    // SAFETY: the pointer is valid as long as `domain` is borrowed; null and 0 stand for all file systems.
    unsafe {
        check(sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), limit.into(), 0))?;
        done(sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0, 0))
    }
}

/// Has the guest's agent thaw all its file systems, and returns how many were frozen.
pub fn thaw(domain: &Domain) -> Result<i32, Error> {
    // SAFETY: the pointer is valid as long as `domain` is borrowed; null and 0 stand for all file systems.
    check(unsafe { sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0, 0) })
}

/// A job that works on a whole domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainJob {
    /// `virDomainJobType`.
    pub kind: u32,
    /// `virDomainJobOperation`.
    pub operation: u32,
    /// In bytes.
    pub done: u64,
    /// In bytes.
    pub total: u64,
}

/// Returns the domain's job, or its last one with `VIR_DOMAIN_JOB_STATS_COMPLETED` among `flags`.
///
/// `virt` 0.5's `Domain::job_stats` takes a null pointer for an array where there is no job.
pub fn domain_job(domain: &Domain, flags: u32) -> Result<DomainJob, Error> {
    let (mut kind, mut list, mut length) = (0, ptr::null_mut(), 0);
    // SAFETY: libvirt sets `list` to an array of `length` parameters, or to null with a length of 0, and leaves it to
    // the caller. The names are NUL-terminated constants; a number is written only where its name is found.
    unsafe {
        check(sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut list, &mut length, flags))?;
        let (mut operation, mut done, mut total) = (0, 0, 0);
        sys::virTypedParamsGetInt(
            list,
            length,
            sys::VIR_DOMAIN_JOB_OPERATION.as_ptr().cast(),
            &mut operation,
        );
        for (name, number) in [
            (sys::VIR_DOMAIN_JOB_DISK_PROCESSED.as_ptr(), &mut done),
            (sys::VIR_DOMAIN_JOB_DISK_TOTAL.as_ptr(), &mut total),
        ] {
            sys::virTypedParamsGetULLong(list, length, name.cast(), number);
        }
        sys::virTypedParamsFree(list, length);
        Ok(DomainJob { kind: kind.unsigned_abs(), operation: operation.unsigned_abs(), done, total })
    }
}

/// Returns the bytes that the guest sees of its disk.
///
/// `virt` 0.5's `Domain::block_info` does not check whether the call failed.
pub fn block_capacity(domain: &Domain, disk: &str) -> Result<u64, Error> {
    let disk = CString::new(disk)?;
    let mut info = sys::virDomainBlockInfo { capacity: 0, allocation: 0, physical: 0 };
    // SAFETY: all pointers are valid during the call, which keeps none.
    check(unsafe { sys::virDomainGetBlockInfo(domain.as_ptr(), disk.as_ptr(), &mut info, 0) })?;
    Ok(info.capacity)
}

/// Lets the running guest use this many KiB of the memory that it was started with.
///
/// `virt` 0.5's `Domain::set_memory_flags` does not check whether the call failed.
pub fn set_live_memory(domain: &Domain, kib: u64) -> Result<(), Error> {
    let kib = c_ulong::try_from(kib).unwrap_or(c_ulong::MAX);
    // SAFETY: the pointer is valid as long as `domain` is borrowed.
    done(unsafe { sys::virDomainSetMemoryFlags(domain.as_ptr(), kib, sys::VIR_DOMAIN_AFFECT_LIVE) })
}

/// Begins to merge the image at the path `top` of the disk's chain, and those between, into the one at `base`.
///
/// `flags` are `virDomainBlockCommitFlags`.
pub fn block_commit(domain: &Domain, disk: &str, base: &str, top: &str, flags: u32) -> Result<(), Error> {
    let (disk, base, top) = (CString::new(disk)?, CString::new(base)?, CString::new(top)?);
    // SAFETY: all pointers are valid during the call, which keeps none.
    done(unsafe {
        sys::virDomainBlockCommit(domain.as_ptr(), disk.as_ptr(), base.as_ptr(), top.as_ptr(), 0, flags)
    })
}

pub fn block_job(domain: &Domain, disk: &str) -> Result<Option<BlockJob>, Error> {
    let disk = CString::new(disk)?;
    let mut job = sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
    // SAFETY: all pointers are valid during the call, which keeps none.
    let found = check(unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &mut job, 0) })?;
    Ok((found > 0).then_some(BlockJob { kind: job.type_.unsigned_abs(), done: job.cur, total: job.end }))
}

/// Ends the job on the disk; `flags` are `virDomainBlockJobAbortFlags`.
pub fn block_job_abort(domain: &Domain, disk: &str, flags: u32) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    // SAFETY: all pointers are valid during the call, which keeps none.
    done(unsafe { sys::virDomainBlockJobAbort(domain.as_ptr(), disk.as_ptr(), flags) })
}

/// Begins the backup described by `backup`, and makes the checkpoint described by `checkpoint` at the same instant.
///
/// `flags` are `virDomainBackupBeginFlags`.
pub fn backup_begin(
    domain: &Domain,
    backup: &str,
    checkpoint: Option<&str>,
    flags: u32,
) -> Result<(), Error> {
    let backup = CString::new(backup)?;
    let checkpoint = checkpoint.map(CString::new).transpose()?;
    let checkpoint = checkpoint.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: all pointers are valid during the call, which keeps none.
    done(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), checkpoint, flags) })
}

/// Cancels the domain's job, such as a backup; it is an error if there is none.
pub fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the pointer is valid as long as `domain` is borrowed.
    done(unsafe { sys::virDomainAbortJob(domain.as_ptr()) })
}

/// Returns the name of the system by which libvirt confines QEMU: `apparmor`, `selinux` or `none`.
pub fn security_model(connection: &Connect) -> Result<String, Error> {
    let mut model = sys::virSecurityModel { model: [0; 257], doi: [0; 257] };
    // SAFETY: the pointers are valid during the call; libvirt ends the text that it writes with a zero.
    unsafe {
        check(sys::virNodeGetSecurityModel(connection.as_ptr(), &mut model))?;
        Ok(CStr::from_ptr(model.model.as_ptr()).to_string_lossy().into_owned())
    }
}

/// Returns the names of the domain's checkpoints, each behind its parent.
pub fn checkpoints(domain: &Domain) -> Result<Vec<String>, Error> {
    let mut list = ptr::null_mut();
    let flags = sys::VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL;
    // SAFETY: libvirt sets `list` to an array of as many pointers as it returns, and leaves array and checkpoints to
    // the caller. A checkpoint's name lives as long as the checkpoint.
    unsafe {
        let count = check(sys::virDomainListAllCheckpoints(domain.as_ptr(), &mut list, flags))?;
        let mut names = Vec::new();
        for at in 0..count as usize {
            let checkpoint = *list.add(at);
            let name = sys::virDomainCheckpointGetName(checkpoint);
            if !name.is_null() {
                names.push(CStr::from_ptr(name).to_string_lossy().into_owned());
            }
            sys::virDomainCheckpointFree(checkpoint);
        }
        libc::free(list.cast());
        Ok(names)
    }
}

/// Returns the XML of the checkpoint of that name; `flags` are `virDomainCheckpointXMLFlags`.
pub fn checkpoint_xml(domain: &Domain, name: &str, flags: u32) -> Result<String, Error> {
    with_checkpoint(domain, name, |checkpoint| {
        // SAFETY: the checkpoint is valid. libvirt leaves the text to the caller; it is freed once, after its use.
        unsafe {
            let xml = sys::virDomainCheckpointGetXMLDesc(checkpoint, flags);
            if xml.is_null() {
                return Err(Error::last_error());
            }
            let text = CStr::from_ptr(xml).to_string_lossy().into_owned();
            libc::free(xml.cast());
            Ok(text)
        }
    })
}

/// Deletes the checkpoint of that name and its bitmaps in the disks; `flags` are `virDomainCheckpointDeleteFlags`.
pub fn checkpoint_delete(domain: &Domain, name: &str, flags: u32) -> Result<(), Error> {
    // SAFETY: the checkpoint is valid.
    let delete = |checkpoint| done(unsafe { sys::virDomainCheckpointDelete(checkpoint, flags) });
    with_checkpoint(domain, name, delete)
}

/// Gives `act` a checkpoint, which is valid during that call.
fn with_checkpoint<T>(
    domain: &Domain,
    name: &str,
    act: impl FnOnce(sys::virDomainCheckpointPtr) -> Result<T, Error>,
) -> Result<T, Error> {
    let name = CString::new(name)?;
    // SAFETY: the pointers are valid during the calls; the checkpoint is freed once, after its use.
    unsafe {
        let checkpoint = sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0);
        if checkpoint.is_null() {
            return Err(Error::last_error());
        }
        let acted = act(checkpoint);
        sys::virDomainCheckpointFree(checkpoint);
        acted
    }
}

/// Returns a call's result, or libvirt's error if it is negative.
fn check(returned: c_int) -> Result<c_int, Error> {
    if returned < 0 { Err(Error::last_error()) } else { Ok(returned) }
}

fn done(returned: c_int) -> Result<(), Error> {
    check(returned).map(drop)
}

/// Returns the kind of the operating system's error behind this thread's last error of libvirt, if there is one.
pub(super) fn last_errno() -> Option<io::ErrorKind> {
    // SAFETY: the pointer is null or to this thread's own error, which stays valid until libvirt is called again.
    // `int1` is `errno` for errors that libvirt makes with virReportSystemError (src/util/virerror.c).
    let errno = unsafe { sys::virGetLastError().as_ref() }?.int1;
    (errno > 0).then(|| io::Error::from_raw_os_error(errno).kind())
}
