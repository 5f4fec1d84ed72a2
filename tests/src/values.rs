//! Values that describe themselves, so that every read can be checked against nothing but its key.
//!
//! A value's first bytes are its key's hash and its generation (how often the key was written); the rest is a
//! sequence that follows from both. A read is right if its bytes are those of *some* generation of its key.

/// The value of `key` in this generation, `bytes` long.
pub fn value_of(key: &[u8], generation: u64, bytes: usize) -> Vec<u8> {
    let seed = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| mix(hash ^ u64::from(byte)));
    let mut value: Vec<u8> = Vec::with_capacity(bytes + 8);
    value.extend_from_slice(&seed.to_le_bytes());
    value.extend_from_slice(&generation.to_le_bytes());
    let mut state = mix(seed ^ generation);
    while value.len() < bytes {
        state = mix(state);
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(bytes);
    value
}

/// The generation of a value of `key`, if it is a whole value of that key.
pub fn generation_of(key: &[u8], value: &[u8]) -> Option<u64> {
    let generation = u64::from_le_bytes(value.get(8..16)?.try_into().ok()?);
    (value == value_of(key, generation, value.len())).then_some(generation)
}

/// A 64-bit mixer (the finisher of SplitMix64).
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_knows_its_key_and_generation() {
        let value = value_of(b"k", 3, 1000);
        assert_eq!(generation_of(b"k", &value), Some(3));
        assert_eq!(generation_of(b"other", &value), None);
        for at in [0, 8, 16, 999] {
            let mut wrong = value.clone();
            wrong[at] ^= 1;
            assert_eq!(generation_of(b"k", &wrong), None, "byte {at}");
        }
        assert_eq!(generation_of(b"k", &value[..15]), None);
    }
}
