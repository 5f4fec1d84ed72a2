//! [`SimDisk`]: what the owner of a disk calls.
//!
//! The shape is that of a ring with owned buffers ([`Disk`]): an operation takes its buffer, any number of operations are
//! in flight, and a buffer comes back with the result. Where the buffer lies does not matter here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::operations::Request;
use super::{DiskId, SECTOR_BYTES};
use crate::disk::{Disk, DiskPart, DiskPlace, DiskSource, DiskTarget, check_part};
use crate::sim::node::SimPlatform;
use crate::sim::world::{NodeId, Shared};

/// A disk, opened by one life of a node.
///
/// Operations begin when they are first polled. Dropped after that, they go on, and their buffer is dropped when they
/// are complete. Once the node has died all fail with ENODEV; that is also what a future gets that was in flight then
/// and is still held by someone.
#[derive(Clone)]
pub struct SimDisk {
    shared: Shared,
    node: NodeId,
    id: DiskId,
    bytes: u64,
    /// It is a part of the disk.
    part: Option<DiskPart>,
}

impl SimPlatform {
    /// Opens the disk `name` of the node's machine. The first to open it makes it, full of zeros; all lives of all
    /// nodes of the same name share it, one after the other. Panics if `bytes` is not a number of sectors or not the
    /// disk's size.
    ///
    /// Fails with `ResourceBusy` while another node lives that has opened it, and with ENODEV once this one is dead.
    pub fn disk(&self, name: &str, bytes: u64) -> io::Result<SimDisk> {
        let id = self.shared.with(|world| world.open_disk(self.node, name, bytes))?;
        Ok(SimDisk { shared: self.shared.clone(), node: self.node, id, bytes, part: None })
    }

    /// Opens the disk of that name; `NotFound` if it is to be of any size and was never made.
    pub(in crate::sim) fn open_place(&self, place: &DiskPlace) -> io::Result<SimDisk> {
        let bytes = self.shared.with(|world| world.place_bytes(self.node, place))?;
        let Some(part) = place.part else { return self.disk(&place.path.to_string_lossy(), bytes) };
        check_part(&place.path, part, bytes)?;
        let whole = self.disk(&place.path.to_string_lossy(), bytes)?;
        Ok(SimDisk { part: Some(part), bytes: part.bytes, ..whole })
    }
}

impl SimDisk {
    /// The size, in sectors of [`SECTOR_BYTES`].
    pub fn sectors(&self) -> u64 {
        self.bytes / SECTOR_BYTES
    }
}

impl Disk for SimDisk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn wants_discards(&self) -> bool {
        self.shared.with(|world| world.disk(self.id).options.wants_discards)
    }

    fn read<B: DiskTarget>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        let request = move |buffer: &mut B| Request::Read { offset, bytes: buffer.bytes_mut().len() as u64 };
        let fill = |buffer: &mut B, data: &[u8]| buffer.bytes_mut()[..data.len()].copy_from_slice(data);
        InFlight::new(self, buffer, request, fill)
    }

    fn write<B: DiskSource>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        let request = move |buffer: &mut B| Request::Write { offset, data: buffer.bytes().to_vec() };
        InFlight::new(self, buffer, request, |_, _| ())
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let flush = InFlight::new(self, (), |()| Request::Flush, |(), _| ());
        async move { flush.await.0.map(|_| ()) }
    }

    fn discard(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let request = move |(): &mut ()| Request::Discard { offset, bytes };
        let discard = InFlight::new(self, (), request, |(), _| ());
        async move { discard.await.0.map(|_| ()) }
    }
}

/// An operation's future.
struct InFlight<B: 'static, R, F> {
    disk: SimDisk,
    /// The operation's, once it has begun.
    number: Option<u64>,
    /// `None` after the end.
    buffer: Option<B>,
    request: R,
    fill: F,
}

impl<B, R: Fn(&mut B) -> Request, F: Fn(&mut B, &[u8])> InFlight<B, R, F> {
    fn new(disk: &SimDisk, buffer: B, request: R, fill: F) -> InFlight<B, R, F> {
        InFlight { disk: disk.clone(), number: None, buffer: Some(buffer), request, fill }
    }

    fn poll_bytes(&mut self, context: &Context<'_>) -> Poll<io::Result<usize>> {
        let SimDisk { shared, node, id, part, .. } = &self.disk;
        let buffer = self.buffer.as_mut().expect("polled after its end");
        let number = match self.number {
            Some(number) => number,
            None => {
                // The buffer's code is foreign: it runs before and after the state is borrowed.
                let mut request = (self.request)(buffer);
                if let Some(part) = part {
                    request = request.of_part(*part)?;
                }
                let number = shared.with(|world| world.begin_disk_operation(*id, *node, request))?;
                *self.number.insert(number)
            }
        };
        let outcome = ready!(shared.with(|world| world.poll_disk_operation(*id, number, context)));
        self.number = None;
        let bytes = outcome.bytes?;
        (self.fill)(buffer, &outcome.data);
        Poll::Ready(Ok(bytes as usize))
    }
}

// Nothing in it is ever pinned.
impl<B, R, F> Unpin for InFlight<B, R, F> {}

impl<B, R: Fn(&mut B) -> Request, F: Fn(&mut B, &[u8])> Future for InFlight<B, R, F> {
    type Output = (io::Result<usize>, B);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(io::Result<usize>, B)> {
        let result = ready!(self.poll_bytes(context));
        let buffer = self.buffer.take().expect("it was there to be polled");
        Poll::Ready((result, buffer))
    }
}

impl<B: 'static, R, F> Drop for InFlight<B, R, F> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let buffer = self.buffer.take().map(|buffer| Box::new(buffer) as Box<dyn std::any::Any>);
        self.disk.shared.with(|world| world.forget_disk_operation(self.disk.id, number, buffer));
    }
}
