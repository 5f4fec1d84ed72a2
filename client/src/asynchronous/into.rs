//! Reads into the caller's buffers, which are moved into the call and come back with its answer.
//!
//! A buffer is anything that has bytes to write to: a vector, or a handle of memory that belongs to somebody else. While the future of
//! a call is there, the client may write into the buffers, as long as the call goes on: nobody else may. They are the caller's again
//!
//! * when the future is ready: with whatever result, they come back, all of them, in their places. That goes for a call that has reached
//!   its deadline, and for one whose client has been shut down or could not start its thread;
//! * when the future is dropped: they are dropped with it, on the thread that drops it and before the drop returns. Who has to know when
//!   memory is its own again lets its buffer say so when it is dropped.
//!
//! From then on nothing writes into them, though the client may still be reading the reply: it throws the rest away. Neither waits
//! longer than for one system call, or for the copy of one value, that is under way.

use super::Client;
use crate::driver::{is_valid, spread};
use crate::error::Error;
use crate::given::{Given, flattened, regrouped};
use crate::outcome::Found;
use crate::session::{Shape, Target};
use std::ops::Range;

/// What came of a read, with its buffers.
type Read<B> = (B, Result<Found<usize>, Error>);

impl Client {
    /// Reads values into buffers and gives the buffers back, each as it was given but for its bytes; a hit says how many bytes the value
    /// has. What a buffer holds whose read did not hit means nothing.
    ///
    /// Nothing writes into the buffers any more when the future is ready, nor when it has been dropped: then they have been dropped, too.
    /// They always come back with the answer, also at the deadline. A buffer's `as_mut` is called from other threads, again and again;
    /// it answers the same bytes each time, does not take long, and does not panic.
    pub async fn get_into<B>(&self, reads: Vec<(Vec<u8>, B)>) -> Vec<Read<B>>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        let (keys, buffers): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let places = (0..keys.len()).map(|place| place..place + 1).collect();
        let (buffers, results) = self.read_into(&keys, buffers, places, None).await;
        buffers.into_iter().zip(results).collect()
    }

    /// Reads values, each into several buffers one behind the other; a hit says how many bytes the value has. What the buffers have more
    /// stays as it is; if they have less together, that is [`Error::BufferTooSmall`]. Otherwise as [`Client::get_into`].
    pub async fn get_parts_into<B>(&self, reads: Vec<(Vec<u8>, Vec<B>)>) -> Vec<Read<Vec<B>>>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        let (keys, parts): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let (buffers, places) = flattened(parts);
        let (buffers, results) = self.read_into(&keys, buffers, places.clone(), None).await;
        regrouped(buffers, &places).into_iter().zip(results).collect()
    }

    /// Reads ranges of values: the bytes from each offset on, as many as the buffer beside it has; a hit says how many bytes the value
    /// has. As [`crate::BlockingClient::get_ranges_into`], with the buffers of [`Client::get_into`].
    #[allow(clippy::type_complexity, reason = "a list of keys, each with its ranges")]
    pub async fn get_ranges_into<B>(&self, reads: Vec<(Vec<u8>, Vec<(u64, B)>)>) -> Vec<Read<Vec<(u64, B)>>>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        let (keys, ranges): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let (ranges, places) = flattened(ranges);
        let (offsets, buffers): (Vec<u64>, Vec<B>) = ranges.into_iter().unzip();
        let (buffers, results) = self.read_into(&keys, buffers, places.clone(), Some(offsets.clone())).await;
        regrouped(offsets.into_iter().zip(buffers), &places).into_iter().zip(results).collect()
    }

    /// Reads the values of keys, or ranges of them, into the buffers at their places.
    async fn read_into<B>(
        &self,
        keys: &[Vec<u8>],
        buffers: Vec<B>,
        places: Vec<Range<usize>>,
        offsets: Option<Vec<u64>>,
    ) -> (Vec<B>, Vec<Result<Found<usize>, Error>>)
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        let (given, claim) = Given::new(buffers);
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let is_valid = |(index, _): &(usize, _)| is_valid(&names.invalid, *index);
        let places: Vec<Range<usize>> =
            places.into_iter().enumerate().filter(is_valid).map(|(_, place)| place).collect();
        let (valid, count) = (names.valid, places.len());
        let work = self.driver.run(move |session, deadline| async move {
            let shape = Shape { places, offsets: offsets.map(Into::into) };
            session.read_into(valid, Target::Given(given.into_buffers()), shape, deadline).await
        });
        let answers = work.await;
        (claim.take(), spread(answers, count, names.invalid))
    }
}
