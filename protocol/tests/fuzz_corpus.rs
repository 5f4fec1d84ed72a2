//! The fuzzer's targets on a stable compiler: its corpus replayed, then damaged in every way that a seed thinks of.

#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/mutation.rs"]
mod mutation;
#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/oracles.rs"]
mod oracles;

use mutation::{Mutator, corpus};
use std::path::Path;

/// Damaged inputs tried per target.
const INPUTS: usize = 20_000;
/// The same where an input is drawn out to a quarter of a megabyte.
const LONG_INPUTS: usize = 2_000;
const SEED: u64 = 0x5eed;

#[test]
fn the_corpus_and_what_is_like_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, oracle) in oracles::TARGETS {
        let inputs = corpus(&root, target);
        inputs.iter().for_each(|input| oracle(input));
        let count = if target == "routing_table" { LONG_INPUTS } else { INPUTS };
        let mut mutator = Mutator::new(inputs, SEED);
        for _ in 0..count {
            oracle(&mutator.next_input());
        }
    }
}

fn any(target: &str, accepts: &dyn Fn(&[u8]) -> bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    assert!(corpus(&root, target).iter().any(|input| accepts(input)), "{target}: all are refused");
}

#[test]
fn orders_of_homes_and_their_answers_are_accepted() {
    use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaReply};
    any("replica_order", &|input| ReplicaOrder::decode(input).is_ok());
    any("replica_reply", &|input| ReplicaReply::decode(input).is_ok());
}

/// A corpus whose best inputs are all refused would prove nothing.
#[test]
fn each_target_has_an_input_that_is_accepted() {
    use snowskin_protocol::RoutingTable;
    use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
    use snowskin_protocol::wire::control::{Orders, Page, Report, TakeSlots};
    use snowskin_protocol::wire::data::{
        Batch, KeyItem, PutItem, RemoveMatching, RemovedStep, decode_replies,
    };
    use snowskin_protocol::wire::hello::{Hello, Welcome};
    use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, LaneReply, LaneRequest, PublishItem};
    use snowskin_protocol::wire::list::{KeyPage, ListKeys};
    use snowskin_protocol::wire::stats::CoreStats;
    any("hello", &|input| Hello::decode(input).is_ok());
    any("welcome", &|input| Welcome::decode(input).is_ok());
    any("put_batch", &|input| Batch::<PutItem>::decode(3, &input[2..]).is_ok());
    any("key_batch", &|input| Batch::<KeyItem>::decode(3, &input[2..]).is_ok());
    any("replies", &|input| decode_replies(3, &input[2..]).is_ok());
    any("remove_matching", &|input| RemoveMatching::decode(input).is_ok());
    any("report", &|input| Report::decode(input).is_ok());
    any("report", &|input| Report::decode(input).is_ok_and(|report| report.keeps));
    any("admin", &|input| AdminRequest::decode(input).is_ok());
    any("admin", &|input| AdminReply::decode(input).is_ok());
    any("stats", &|input| CoreStats::decode(input).is_ok());
    any("removed_step", &|input| RemovedStep::decode(input).is_ok());
    any("list_keys", &|input| ListKeys::decode(input).is_ok());
    any("key_page", &|input| KeyPage::decode(input).is_ok_and(|page| page.keys.len() == 2));
    any("orders", &|input| Orders::decode(input).is_ok());
    any("take_slots", &|input| TakeSlots::decode(&[&input[..24], &[0; 8192]].concat()).is_ok());
    any("page", &|input| {
        let page = [&input[..8], &[0; 2 * 8192], &input[24..]].concat();
        Page::decode(&page).is_ok_and(|page| page.entries.len() == 2)
    });
    for opcode in LaneOpcode::ALL {
        any("lane", &|input| {
            let Some((head, body)) = input.split_first_chunk() else { return false };
            LaneRequest::decode(head).is_ok_and(|request| {
                request.opcode == opcode
                    && request.body_bytes as usize == body.len()
                    && match opcode {
                        LaneOpcode::Get | LaneOpcode::Lookup | LaneOpcode::MatchPrefix => {
                            Batch::<KeyItem>::decode(u32::from(request.items), body).is_ok()
                        }
                        LaneOpcode::Reserve | LaneOpcode::ReserveUpsert => {
                            Batch::<PutItem>::decode(u32::from(request.items), body)
                                .is_ok_and(|batch| batch.check_values().is_ok())
                        }
                        LaneOpcode::Publish => PublishItem::decode(request.items, body).is_ok(),
                    }
            })
        });
    }
    any("lane", &|input| {
        input.split_first_chunk().is_some_and(|(head, records)| {
            LaneReply::decode(head).is_ok_and(|reply| usize::from(reply.items) * 48 == records.len())
                && records.as_chunks().0.iter().all(|record| LaneRecord::decode(record).is_ok())
        })
    });
    any("routing_table", &|input| {
        let columns = [0; 4 * snowskin_protocol::SLOT_COUNT];
        RoutingTable::decode(&[&input[..input.len().min(16 + 2 * 56)], &columns].concat()).is_ok()
    });
    any("routing_table", &|input| {
        let columns = [0; 4 * snowskin_protocol::SLOT_COUNT];
        let lives = &input[..input.len().min(16 + 2 * 56 + 24)];
        RoutingTable::decode(&[lives, &columns].concat()).is_ok_and(|table| table.former.len() == 1)
    });
}
