//! Reads into the caller's buffers.

use super::BlockingClient;
use crate::driver::{is_valid, spread};
use crate::error::Error;
use crate::outcome::Found;
use crate::room::Room;
use crate::session::{Shape, Target};
use snowskin_io::memory::lend_mut;

impl BlockingClient {
    /// Reads values into the caller's buffers, without a copy in between; a hit says how many bytes the value has.
    /// What a buffer holds whose read did not hit means nothing: parts of a value, perhaps. When the call returns,
    /// also at its deadline, nothing writes into the buffers any more.
    pub fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Found<usize>, Error>> {
        self.read_into(reads)
    }

    /// Reads values, each into several buffers one behind the other, in one copy; a hit says how many bytes the value has. What the
    /// buffers have more stays as it is; if they have less together, that is [`Error::BufferTooSmall`]. Otherwise as
    /// [`BlockingClient::get_into`].
    ///
    /// From an engine of this machine the value is read once, and its checksum is made meanwhile. What comes over a network is
    /// received into the buffers; into those shorter than 4 KiB by way of the connection's own.
    pub fn get_parts_into(
        &self,
        reads: &mut [(&[u8], &mut [&mut [u8]])],
    ) -> Vec<Result<Found<usize>, Error>> {
        self.read_into(reads)
    }

    /// Reads ranges of values: the bytes from each offset on, as many as the buffer beside it has. Ranges of one value may overlap, and
    /// there may be none. A hit says how many bytes the value has; if it has not got all ranges, that is
    /// [`Error::RangeBeyondEnd`] with the first one that it has not got. Otherwise as [`BlockingClient::get_into`].
    ///
    /// The value is looked at as a whole, since its checksum is, unless the client is not to verify
    /// ([`crate::ClientConfig::verify`]). From an engine of this machine ranges are copied where they are wanted, and the rest is not
    /// copied. Over a network all of it comes, 64 KiB at a time, out of which ranges are copied.
    #[allow(clippy::type_complexity, reason = "a list of keys, each with its ranges")]
    pub fn get_ranges_into(
        &self,
        reads: &mut [(&[u8], &mut [(u64, &mut [u8])])],
    ) -> Vec<Result<Found<usize>, Error>> {
        self.read_into(reads)
    }

    fn read_into<R: Room + ?Sized>(&self, reads: &mut [(&[u8], &mut R)]) -> Vec<Result<Found<usize>, Error>> {
        let Some(local) = self.driver.local() else { return self.read_into_by_session(reads) };
        let (answers, slept) = match reads {
            [(key, room)] => match local.get_one_into(self.driver.manner(), key, *room) {
                (Some(answer), _) => return vec![answer],
                (None, slept) => (vec![None], slept),
            },
            _ => local.get_into(self.driver.manner(), reads),
        };
        if answers.iter().all(Option::is_some) {
            return answers.into_iter().flatten().collect();
        }
        let keys: Vec<&[u8]> = reads.iter().map(|(key, _)| *key).collect();
        self.complete(
            answers,
            slept,
            |place| keys[place],
            |client, rest| {
                let mut rest = rest.iter().copied().peekable();
                let is_left = |(place, _): &(usize, _)| rest.next_if_eq(place).is_some();
                let left = reads.iter_mut().enumerate().filter(is_left);
                let mut left: Vec<(&[u8], &mut R)> =
                    left.map(|(_, (key, room))| (*key, &mut **room)).collect();
                client.read_into_by_session(&mut left)
            },
        )
    }

    fn read_into_by_session<R: Room + ?Sized>(
        &self,
        reads: &mut [(&[u8], &mut R)],
    ) -> Vec<Result<Found<usize>, Error>> {
        let names = self.driver.names(reads.iter().map(|(key, _)| *key));
        let (valid, count) = (names.valid, reads.len() - names.invalid.len());
        let (mut buffers, mut offsets) = (Vec::with_capacity(count), Vec::new());
        let mut places = Vec::with_capacity(count);
        for (_, (_, room)) in
            reads.iter_mut().enumerate().filter(|(index, _)| is_valid(&names.invalid, *index))
        {
            let first = buffers.len();
            room.lend(&mut buffers, &mut offsets);
            places.push(first..buffers.len());
        }
        let answers = lend_mut(&mut buffers, |loan| {
            self.driver.block_on(move |session, deadline| async move {
                let shape = Shape { places, offsets: R::HAS_RANGES.then(|| offsets.into()) };
                session.read_into(valid, Target::Lent(loan), shape, deadline).await
            })
        });
        spread(answers, count, names.invalid)
    }
}
