//! Weighted rendezvous hashing: who of the members should be the home of a slot.
//!
//! Every member draws a number `h` in (0, 1) from (slot, member) alone, and the one with the highest score
//! `-weight / ln(h)` wins (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005). So a member's
//! share is proportional to its weight; a member that joins takes slots only for itself, and one that goes leaves
//! only its own behind. The choice depends on ids and weights, not on incarnations, addresses, order or history.
//!
//! Two things differ from the textbook, and neither changes who wins:
//!
//! * We look for the lowest *cost* `-ln(h) / weight`. Since `-ln(h) >= 1 - h`, most members are ruled out by a
//!   subtraction and a product; the logarithm is needed for about `ln(members)` of them. A plan for 4,096 members
//!   takes a fraction of a second instead of several.
//! * The logarithm is our own, of additions, products and a division: IEEE 754 rounds those the same way everywhere,
//!   which it does not ask of a library's `ln`. So two masters on different machines make the same table, and a
//!   master that moves does not shuffle slots.

use snowskin_protocol::{CoreId, Member, Slot};
use std::f64::consts::{LN_2, SQRT_2};
use xxhash_rust::xxh3::xxh3_64;

/// 2^64 divided by the golden ratio: spreads consecutive slots over all 64 bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits of a double's mantissa.
const MANTISSA_BITS: u32 = 52;
/// `-ln(h)` as computed is never below `(1 - h) * BOUND_MARGIN`, whatever the rounding did.
const BOUND_MARGIN: f64 = 1.0 - 1e-9;

/// The members that want slots, prepared for many questions.
#[derive(Debug)]
pub struct Candidates(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    id: CoreId,
    salt: u64,
    weight_inverse: f64,
    /// Index in the list that was given.
    index: u16,
}

impl Candidates {
    /// The members with a weight.
    pub fn of(members: &[Member]) -> Self {
        let candidates = members.iter().enumerate().filter(|(_, member)| member.weight > 0);
        Candidates(
            candidates
                .map(|(index, member)| Candidate {
                    id: member.id,
                    salt: salt(member.id),
                    weight_inverse: f64::from(member.weight).recip(),
                    index: index as u16,
                })
                .collect(),
        )
    }

    /// The index of the member that should be the home of `slot`, if there is any with a weight.
    pub fn home(&self, slot: Slot) -> Option<u16> {
        let step = u64::from(slot.0).wrapping_mul(GOLDEN);
        let mut best: Option<(f64, CoreId, u16)> = None;
        for candidate in &self.0 {
            let h = unit(mix(candidate.salt.wrapping_add(step)));
            let cost_min = (1.0 - h) * BOUND_MARGIN * candidate.weight_inverse;
            if best.is_some_and(|(cost, ..)| cost_min > cost) {
                continue;
            }
            let cost = -ln(h) * candidate.weight_inverse;
            // Equal costs are all but impossible; the id decides, so that the order of members does not.
            if best.is_none_or(|(least, id, _)| cost < least || (cost == least && candidate.id < id)) {
                best = Some((cost, candidate.id, candidate.index));
            }
        }
        best.map(|(_, _, index)| index)
    }
}

fn salt(id: CoreId) -> u64 {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&id.engine.0.to_le_bytes());
    bytes[8..].copy_from_slice(&id.core.to_le_bytes());
    xxh3_64(&bytes)
}

/// The finaliser of splitmix64: every input bit changes every output bit with probability one half.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number strictly between 0 and 1. Exact: 52 bits and the half fit into a mantissa.
fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << MANTISSA_BITS) as f64
}

/// The natural logarithm of a normal number, to about 15 digits, the same on every machine.
fn ln(x: f64) -> f64 {
    // x = 2^exponent * m with m in [1, 2), then in [sqrt(1/2), sqrt(2)) so that the series converges fast.
    let bits = x.to_bits();
    let mut exponent = ((bits >> MANTISSA_BITS) & 0x7ff) as i32 - 1023;
    let mut m = f64::from_bits((bits & ((1 << MANTISSA_BITS) - 1)) | (1023 << MANTISSA_BITS));
    if m > SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    // ln(m) = 2 artanh(t) = 2 (t + t^3/3 + t^5/5 + …), |t| < 0.172: the term after t^21/21 is below 1e-18.
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    let mut series = 0.0;
    for power in (0..=10).rev() {
        series = series * square + 1.0 / f64::from(2 * power + 1);
    }
    f64::from(exponent) * LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::member;
    use quickcheck::{TestResult, quickcheck};

    fn textbook(members: &[Member], slot: Slot) -> Option<u16> {
        let cost = |member: &Member| {
            let draw = mix(salt(member.id).wrapping_add(u64::from(slot.0).wrapping_mul(GOLDEN)));
            -ln(unit(draw)) / f64::from(member.weight)
        };
        let wanting = members.iter().enumerate().filter(|(_, member)| member.weight > 0);
        let best = wanting.min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)))?;
        Some(best.0 as u16)
    }

    quickcheck! {
        fn the_logarithm_is_one(bits: u64) -> bool {
            let x = unit(bits);
            (ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs()
        }

        fn ruling_out_changes_nothing(weights: Vec<u8>, slot: u16) -> bool {
            let members = members(&weights);
            Candidates::of(&members).home(Slot(slot)) == textbook(&members, Slot(slot))
        }

        fn the_bound_is_below_the_logarithm(bits: u64, near_one: bool) -> bool {
            // Near 1 the two meet, and all that is between them is what the rounding did.
            let h = unit(if near_one { u64::MAX - (bits >> (bits % 64)) } else { bits });
            (1.0 - h) * BOUND_MARGIN <= -ln(h)
        }

        fn neither_order_nor_life_nor_address_matters(weights: Vec<u8>, slot: u16, turn: usize) -> bool {
            let members = members(&weights);
            let mut others = members.clone();
            others.rotate_left(turn % members.len().max(1));
            for other in &mut others {
                other.incarnation.0 = turn as u64;
                other.address.set_port(1);
            }
            home_id(&members, slot) == home_id(&others, slot)
        }

        fn only_the_winner_is_missed(weights: Vec<u8>, slot: u16, who: usize) -> TestResult {
            let all = members(&weights);
            if all.is_empty() {
                return TestResult::discard();
            }
            let mut rest = all.clone();
            let gone = rest.remove(who % all.len());
            let (before, after) = (home_id(&all, slot), home_id(&rest, slot));
            // Read backwards: who joins takes what it wins, and nothing else moves.
            TestResult::from_bool(before == Some(gone.id) || before == after)
        }

        fn more_weight_wins_and_never_loses(weights: Vec<u8>, slot: u16, who: usize, more: u8) -> TestResult {
            let lighter = members(&weights);
            if lighter.is_empty() {
                return TestResult::discard();
            }
            let mut heavier = lighter.clone();
            let changed = &mut heavier[who % lighter.len()];
            changed.weight += u32::from(more);
            let changed = changed.id;
            let (before, after) = (home_id(&lighter, slot), home_id(&heavier, slot));
            TestResult::from_bool(after == before || after == Some(changed))
        }

        fn equal_costs_go_to_the_lower_id(salt: u64, weight: u16, cores: (u16, u16), slot: u16) -> TestResult {
            let candidate = |core: u16, index: u16| Candidate {
                id: CoreId { engine: snowskin_protocol::EngineId(1), core },
                salt,
                weight_inverse: f64::from(weight.max(1)).recip(),
                index,
            };
            if cores.0 == cores.1 {
                return TestResult::discard();
            }
            let home = Candidates(vec![candidate(cores.0, 0), candidate(cores.1, 1)]).home(Slot(slot));
            TestResult::from_bool(home == Some(u16::from(cores.1 < cores.0)))
        }
    }

    /// Cores of an engine, some of them without weight.
    fn members(weights: &[u8]) -> Vec<Member> {
        weights.iter().zip(0..).map(|(&weight, core)| member(1, core, u32::from(weight))).collect()
    }

    fn home_id(members: &[Member], slot: u16) -> Option<CoreId> {
        Candidates::of(members).home(Slot(slot)).map(|index| members[usize::from(index)].id)
    }

    #[test]
    fn the_ends_of_the_unit_interval() {
        assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
        assert!(ln(unit(0)).is_finite() && ln(unit(u64::MAX)) < 0.0);
    }

    #[test]
    fn without_weights_there_is_no_home() {
        assert_eq!(Candidates::of(&[]).home(Slot(1)), None);
        assert_eq!(Candidates::of(&[member(1, 0, 0)]).home(Slot(1)), None);
    }
}
