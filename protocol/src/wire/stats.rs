//! A core's counters, as it answers them to [`super::Opcode::Stats`].

use super::{Cursor, WireError};
use bytemuck::{Pod, Zeroable};

macro_rules! counters {
    ($(#[$doc:meta] $name:ident,)*) => {
        /// Counters and gauges of one core. Bytes obey `free + live + pinned + reserved = capacity`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        #[repr(C)]
        pub struct CoreStats {
            $(#[$doc] pub $name: u64,)*
        }

        impl CoreStats {
            /// All counters with their names, in the order of the wire.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Adds another core's counters to these, up to the greatest number there is.
            pub fn add(&mut self, other: &CoreStats) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }
    };
}

counters! {
    /// Bytes of the core's segments.
    capacity_bytes,
    /// Bytes that are not allocated.
    free_bytes,
    /// Bytes of extents that the index refers to.
    live_bytes,
    /// Bytes of extents that are no longer in the index but still being read.
    pinned_bytes,
    /// Bytes of extents that are being written and not published yet.
    reserved_bytes,
    /// Objects whose bytes are in memory here.
    objects,
    /// Objects whose bytes are on the SSD here, and in no memory.
    objects_on_ssd,
    /// Entries whose bytes are at another core.
    objects_elsewhere,
    /// Connections that are open.
    connections,
    /// Slots this core is the home of and serves.
    slots_served,
    /// Slots this core is the home of and is still taking over.
    slots_awaited,
    /// Slots this core has given up and whose taker has not confirmed yet.
    slots_frozen,
    /// Request frames taken in.
    frames_in,
    /// Reply frames sent.
    frames_out,
    /// Data request frames (put, get, lookup, …) among `frames_in`.
    data_frames_in,
    /// Frames that were refused, of any kind.
    frames_refused,
    /// Values stored.
    puts_stored,
    /// Puts of keys that were held already.
    puts_exist,
    /// Puts that found no memory.
    puts_no_space,
    /// Puts whose value did not match its checksum.
    puts_corrupt,
    /// Puts whose connection broke before the value was complete.
    puts_broken,
    /// Puts that were to be durable and were acknowledged when they were.
    puts_durable,
    /// Puts that were to be durable, are stored, and are not known to be on the SSD.
    puts_not_durable,
    /// Reads that found the value.
    get_hits,
    /// Of these, by clients of this machine that found the value on the shelf, without asking.
    shelf_hits,
    /// Bytes of values on the shelf now.
    shelf_bytes,
    /// Bytes of values that were on the shelf, and are only kept because clients read them.
    shelf_held_bytes,
    /// Reads that did not.
    get_misses,
    /// Lookups (and prefix matches) that found the key.
    lookup_hits,
    /// Lookups that did not.
    lookup_misses,
    /// Objects removed by request.
    removed,
    /// Objects evicted.
    evicted,
    /// Bytes of values evicted.
    evicted_bytes,
    /// Objects that were written from memory to the SSD; not those that had a copy there.
    demoted,
    /// Bytes of their values.
    demoted_bytes,
    /// Objects that were written to the SSD and stayed in memory.
    ssd_copied,
    /// Bytes of their values.
    ssd_copied_bytes,
    /// Records of objects in memory that were reclaimed: these objects are in memory alone again.
    ssd_copies_reclaimed,
    /// Objects that were not written to the SSD because they had not been used a second time, or are larger than a region there.
    ssd_not_admitted,
    /// Objects that were not written to the SSD because so much had been written already.
    ssd_over_budget,
    /// Objects that came from the SSD into memory, to stay there.
    promoted,
    /// Reads of objects on the SSD.
    ssd_reads,
    /// Bytes of values that they brought.
    ssd_read_bytes,
    /// Objects whose records could not be read, or were damaged.
    ssd_lost,
    /// Bytes of the SSD tier's regions, used or free.
    ssd_capacity_bytes,
    /// Bytes of regions that hold nothing.
    ssd_free_bytes,
    /// Bytes written to the SSD: records, what stands beside them, and what was written once more.
    ssd_written_bytes,
    /// Bytes of records among these that were written once more, so that their region could be used again.
    ssd_reinserted_bytes,
    /// Microseconds that finding out took what the SSD held, when the core started.
    ssd_open_us,
    /// Bytes read from the SSD to see whether they are whole, though nobody has asked for them.
    ssd_scrubbed_bytes,
    /// Records, and what tells where they are, that were found damaged on the SSD, whoever read them.
    ssd_damaged,
    /// Objects of an earlier life that the SSD held, and that count.
    ssd_recovered,
    /// Requests for keys whose home is another core.
    wrong_homes,
    /// Entries that came from another home.
    entries_taken,
    /// Entries that went to another home.
    entries_given,
    /// Replicas that other cores have made of objects whose home is here.
    replicas_made,
    /// Replicas that other cores were to make, and did not.
    replicas_not_made,
    /// Objects of other homes of which a replica is kept here now.
    replicas_kept,
    /// Objects whose last home is gone, and that were found in replicas.
    replicas_found,
    /// Bytes of values taken in, or written in place.
    value_bytes_in,
    /// Bytes of values sent, or read in place.
    value_bytes_out,
    /// Lanes that are open.
    lanes,
    /// Values that clients read in place now.
    lane_pins,
    /// Values that clients are writing in place.
    lane_puts,
}

impl CoreStats {
    /// Reads the body of the reply.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let stats = rest.pod()?;
        rest.end()?;
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_names_and_sums() {
        let mut sum = CoreStats { get_hits: 2, ..CoreStats::default() };
        sum.add(&CoreStats { get_hits: 3, evicted: 1, ..CoreStats::default() });
        assert_eq!(CoreStats::decode(bytemuck::bytes_of(&sum)), Ok(sum));
        assert!(sum.named().contains(&("get_hits", 5)) && sum.named().contains(&("evicted", 1)));
        assert!(CoreStats::decode(&[0; 7]).is_err());
    }
}
