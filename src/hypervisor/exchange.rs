//! Bytes to and from a guest's serial port, over libvirt's stream.
//!
//! The stream does not block; libvirt's event loop, run here on the calling
//! thread, says when it can be read or written. This works for a local daemon
//! and for one behind ssh alike.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::event::{
    EventHandleWatch, EventTimeoutWatch, event_add_handle, event_add_timeout, event_run_default_impl,
};
use virt::stream::Stream;
use virt::sys;

use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Say, Turn, said};

/// A non-blocking stream's answer instead of a length (`virStreamSend`, `virStreamRecv`).
const WOULD_BLOCK: isize = -2;

/// With this many bytes waiting to be sent, no more input is read.
const FULL: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The guest closed its side, so it is off.
    Guest,
    /// The caller's filter or receiver ended it.
    Caller,
    /// All input is sent.
    Input,
}

/// Given the typed bytes, returns those to send, and whether to continue.
pub(super) type Filter = fn(&[u8]) -> (&[u8], ControlFlow<()>);

/// Takes the bytes that the guest printed; returns whether to continue.
pub(super) type Receiver = Box<dyn FnMut(&[u8]) -> Result<ControlFlow<()>>>;

pub(super) struct Exchange {
    // `virt` 0.5's `Drop` removes the callback a second time and panics. So each session leaks its stream.
    stream: ManuallyDrop<Box<Stream>>,
    shared: Rc<RefCell<Shared>>,
    input: Option<EventHandleWatch>,
    // No other thread may run the callbacks. The last field, so that it is dropped after them.
    _turn: Turn,
}

struct Shared {
    stream: Stream,
    receive: Receiver,
    outgoing: Vec<u8>,
    input_open: bool,
    leaving: Option<End>,
    over: Option<Result<End>>,
}

impl Exchange {
    /// Opens the domain's first serial port; `force` takes it over from another session.
    pub(super) fn open(
        connection: &Connect,
        domain: &Domain,
        force: bool,
        receive: Receiver,
    ) -> Result<Self> {
        let say = || Failure::user("cannot open the guest's serial console");
        let turn = Turn::take();
        let flags = if force { sys::VIR_DOMAIN_CONSOLE_FORCE } else { 0 };
        // The callback keeps the stream's address, hence the box.
        let mut stream = Box::new(Stream::new(connection, sys::VIR_STREAM_NONBLOCK).say(say)?);
        domain.open_console(None, &stream, flags).say(|| {
            say().hint(
                "the guest must be running, and only one console can be open at a time: see `nixvm status`",
            )
        })?;
        let shared = Rc::new(RefCell::new(Shared {
            stream: Stream::clone(&stream),
            receive,
            outgoing: Vec::new(),
            input_open: false,
            leaving: None,
            over: None,
        }));
        let on_event = Rc::clone(&shared);
        stream
            .event_add_callback(sys::VIR_STREAM_EVENT_READABLE, move |_, events| {
                on_event.borrow_mut().turn(events)
            })
            .say(say)?;
        Ok(Exchange { stream: ManuallyDrop::new(stream), shared, input: None, _turn: turn })
    }

    /// Sends the bytes of `input` that pass `filter` from now on.
    pub(super) fn send_from(&mut self, input: BorrowedFd<'_>, filter: Filter) -> Result<()> {
        let say = || Failure::user("cannot read the terminal");
        let input: OwnedFd = input.try_clone_to_owned().explain(say)?;
        let shared = Rc::clone(&self.shared);
        let raw = input.as_raw_fd();
        let read = move |watch, _, _, _| {
            let mut shared = shared.borrow_mut();
            shared.take_input(&input, filter);
            let events = if shared.wants_input() { sys::VIR_EVENT_HANDLE_READABLE } else { 0 };
            EventHandleWatch(watch).event_update_handle(events);
        };
        self.shared.borrow_mut().input_open = true;
        self.input =
            Some(event_add_handle(raw, sys::VIR_EVENT_HANDLE_READABLE, read, std::ptr::null_mut()).say(say)?);
        Ok(())
    }

    /// Carries bytes both ways until the exchange is over, or returns `None` after `limit`.
    pub(super) fn run(&self, limit: Option<Duration>) -> Result<Option<End>> {
        let deadline = limit.map(|limit| (Instant::now() + limit, Alarm::after(limit)));
        loop {
            let over = self.shared.borrow_mut().over.take();
            if let Some(end) = over {
                return end.map(Some);
            }
            if deadline.as_ref().is_some_and(|(end, _)| Instant::now() >= *end) {
                return Ok(None);
            }
            event_run_default_impl().say(|| Failure::user("cannot wait for the guest's serial console"))?;
            if let Some(input) = self.input.as_ref().filter(|_| self.shared.borrow().wants_input()) {
                input.event_update_handle(sys::VIR_EVENT_HANDLE_READABLE);
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Failures here are harmless: the port is closed with the connection at the latest.
        if let Some(input) = self.input.take() {
            let _ = input.event_remove_handle();
        }
        let _ = self.stream.event_remove_callback();
        let _ = Stream::clone(&self.stream).abort();
    }
}

impl Shared {
    fn wants_input(&self) -> bool {
        self.input_open && self.over.is_none() && self.outgoing.len() < FULL
    }

    fn turn(&mut self, events: u32) {
        if self.over.is_some() {
            return;
        }
        let gone = events & (sys::VIR_STREAM_EVENT_ERROR | sys::VIR_STREAM_EVENT_HANGUP) != 0;
        let turned = self.receive_all().and_then(|end| if end.is_none() { self.send_all() } else { Ok(end) });
        self.over = match turned {
            Ok(None) if gone => Some(Ok(End::Guest)),
            // When the guest goes off, libvirt reports an error as often as the end of the stream.
            Err(_) if gone => Some(Ok(End::Guest)),
            turned => turned.transpose(),
        };
    }

    fn receive_all(&mut self) -> Result<Option<End>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.recv(&mut buffer) {
                Ok(WOULD_BLOCK) => return Ok(None),
                Ok(length) if length > 0 => {
                    let bytes = buffer.get(..length.unsigned_abs()).unwrap_or_default();
                    if (self.receive)(bytes)?.is_break() {
                        return Ok(Some(End::Caller));
                    }
                }
                Ok(_) => return Ok(Some(End::Guest)),
                Err(error) => return Err(said(&error)),
            }
        }
    }

    fn send_all(&mut self) -> Result<Option<End>> {
        while !self.outgoing.is_empty() {
            match self.stream.send(&self.outgoing) {
                Ok(length) if length > 0 => drop(self.outgoing.drain(..length.unsigned_abs())),
                Ok(_) => break,
                Err(error) => return Err(said(&error)),
            }
        }
        let mut events = sys::VIR_STREAM_EVENT_READABLE;
        if !self.outgoing.is_empty() {
            events |= sys::VIR_STREAM_EVENT_WRITABLE;
        } else if self.leaving.is_some() {
            return Ok(self.leaving);
        }
        self.stream.event_update_callback(events).said()?;
        Ok(None)
    }

    fn take_input(&mut self, input: &OwnedFd, filter: Filter) {
        let mut buffer = [0; 1024];
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => self.leave(End::Input),
            Ok(length) => {
                let (send, go_on) = filter(buffer.get(..length).unwrap_or_default());
                self.outgoing.extend_from_slice(send);
                if go_on.is_break() {
                    self.leave(End::Caller);
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            // EIO: the terminal no longer exists.
            Err(_) => self.leave(End::Input),
        }
        self.turn(0);
    }

    fn leave(&mut self, end: End) {
        self.input_open = false;
        self.leaving = Some(end);
    }
}

/// A timer that wakes the event loop.
struct Alarm(Option<EventTimeoutWatch>);

impl Alarm {
    fn after(limit: Duration) -> Self {
        let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        Alarm(event_add_timeout(milliseconds, |_, _| {}, std::ptr::null_mut()).ok())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(timer) = self.0.take() {
            let _ = timer.event_remove_timeout();
        }
    }
}
