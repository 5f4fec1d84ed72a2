//! The fuzzer's targets for the format on a stable compiler: its corpus replayed, then damaged in every way that a seed thinks of.

#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/format.rs"]
mod format;
#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/mutation.rs"]
mod mutation;

use mutation::{Mutator, corpus};
use snowskin_protocol::Checksum;
use snowskin_ssd_tier::format::{
    Footer, Head, Kind, PartTable, REGION_BYTES_DEFAULT, Record, RegionHeader, Sequence, Superblock,
    VolumeId, entries_of, tombstones_of,
};
use std::path::{Path, PathBuf};

/// Damaged inputs tried per target.
const INPUTS: usize = 20_000;
const SEED: u64 = 0x5eed;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn the_corpus_and_what_is_like_it() {
    for (target, oracle) in format::TARGETS {
        let inputs = corpus(&root(), target);
        inputs.iter().for_each(|input| oracle(input));
        let mut mutator = Mutator::new(inputs, SEED);
        for _ in 0..INPUTS {
            oracle(&mutator.next_input());
        }
    }
}

/// A corpus whose best inputs are all refused would prove nothing.
#[test]
fn each_target_has_an_input_that_is_accepted() {
    let any = |target: &str, accepts: &dyn Fn(&[u8]) -> bool| {
        assert!(corpus(&root(), target).iter().any(|input| accepts(input)), "{target}: all are refused");
    };
    let volume = VolumeId(*b"a golden volume!");
    any("part_table", &|input| PartTable::decode(input, 1 << 40).is_ok_and(|table| table.cores == [1, 3]));
    any("superblock", &|input| Superblock::decode(input, 1 << 40).is_ok());
    any("region_header", &|input| RegionHeader::decode(input, volume, 3).is_ok());
    for kind in [Kind::Value, Kind::Tombstones] {
        any("record", &|input| {
            let head = [input, &[0; 3 * 4096]].concat();
            let places = [(2, 3, 4096), (3, 4, 16384)];
            places.into_iter().any(|(region, sequence, offset)| {
                let at = Head { volume, region, sequence: Sequence(sequence), offset };
                Record::decode(&head, at)
                    .is_ok_and(|(record, _, end)| record.kind == kind && Checksum::of(end) == record.checksum)
            })
        });
    }
    any("footer", &|input| {
        let footer = Footer::decode(input, volume, 3, REGION_BYTES_DEFAULT);
        footer.is_ok_and(|footer| entries_of(&footer, &input[128..]).is_ok_and(|entries| entries.len() == 4))
    });
    any("tombstones", &|input| tombstones_of(input).filter(Result::is_ok).count() == 2);
}
