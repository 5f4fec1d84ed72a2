//! Seeds that have failed once: they are run first, always. See `seeds.txt`.

/// The seeds of the list, in its order.
pub fn known_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let seed = |line: &str| line.split('#').next().and_then(|text| text.trim().parse().ok());
    lines.filter_map(seed).collect()
}
