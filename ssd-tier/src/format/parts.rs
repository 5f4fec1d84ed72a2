//! How a disk is divided among the cores of an engine: a table at its beginning, written twice when the disk is first used, and never changed.

use super::{FORMAT_VERSION, FormatError, SECTOR_BYTES, SUPERBLOCKS_AT, choose, seal, unseal};
use bytemuck::{Pod, Zeroable};

const WHAT: &str = "table of parts";
const MAGIC: [u8; 8] = *b"SNOWPART";

/// Where the two copies are: where a volume of its own would have its superblocks.
pub const TABLES_AT: [u64; 2] = SUPERBLOCKS_AT;
/// Where the first part begins. Each is a multiple of it long.
pub const PARTS_AT: u64 = 1 << 20;
/// More cores than an engine has.
pub const PARTS_MAX: usize = 1024;

/// Which disks belong together: drawn at random when they are divided, the same on all disks of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct SetId(pub [u8; 16]);

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartTable {
    /// Of which disks this is one.
    pub set: SetId,
    /// Bytes of each part.
    pub part_bytes: u64,
    /// Cores of the engine, those with parts on other disks among them.
    pub engine_cores: u16,
    /// Whose the parts are, in the order of their places: rising numbers.
    pub cores: Vec<u16>,
}

/// ```text
///   0     8        12         16    32           40      42             44         48      2096
///   ├magic┼ format ┼ reserved ┼ set ┼ part bytes ┼ parts ┼ engine cores ┼ reserved ┼ cores ┼ checksum
/// ```
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    magic: [u8; 8],
    format: u32,
    reserved: u32,
    set: SetId,
    part_bytes: u64,
    parts: u16,
    engine_cores: u16,
    reserved_too: u32,
    cores: [u16; PARTS_MAX],
    checksum: u64,
}

const _: () = assert!(size_of::<Fields>() == 2104 && size_of::<Fields>() <= SECTOR_BYTES);

impl PartTable {
    /// Equal parts of a disk of so many bytes, for these cores.
    pub fn of_disk(
        set: SetId,
        disk_bytes: u64,
        engine_cores: u16,
        cores: Vec<u16>,
    ) -> Result<Self, FormatError> {
        let part_bytes = PartTable::share_of(disk_bytes, cores.len());
        PartTable { set, part_bytes, engine_cores, cores }.checked(disk_bytes)
    }

    /// Bytes of each of so many parts of a disk.
    pub fn share_of(disk_bytes: u64, parts: usize) -> u64 {
        disk_bytes.saturating_sub(PARTS_AT) / (parts as u64).max(1) / PARTS_AT * PARTS_AT
    }

    /// Whether it makes sense, on a disk of so many bytes.
    fn checked(self, disk_bytes: u64) -> Result<Self, FormatError> {
        let is_for_cores = (1..=PARTS_MAX).contains(&self.cores.len())
            && self.cores.is_sorted_by(|one, next| one < next)
            && self.cores.last().is_some_and(|last| *last < self.engine_cores);
        if !is_for_cores {
            return Err(FormatError::Nonsense(WHAT));
        }
        let (parts, part_bytes) = (self.cores.len() as u32, self.part_bytes);
        let end = part_bytes.checked_mul(parts.into()).and_then(|bytes| bytes.checked_add(PARTS_AT));
        let is_possible =
            part_bytes > 0 && part_bytes.is_multiple_of(PARTS_AT) && end.is_some_and(|end| end <= disk_bytes);
        is_possible.then_some(self).ok_or(FormatError::Parts { parts, part_bytes, disk_bytes })
    }

    /// Where the parts begin and whose they are.
    pub fn parts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.cores.iter().zip(0_u64..).map(|(core, place)| (*core, PARTS_AT + place * self.part_bytes))
    }

    /// Where the part of a core begins, if it has one here.
    pub fn part_of(&self, core: u16) -> Option<u64> {
        self.parts().find(|(owner, _)| *owner == core).map(|(_, at)| at)
    }

    /// Writes it to a sector.
    pub fn encode(&self, sector: &mut [u8]) {
        let mut fields = Fields {
            magic: MAGIC,
            format: FORMAT_VERSION,
            reserved: 0,
            set: self.set,
            part_bytes: self.part_bytes,
            parts: self.cores.len() as u16,
            engine_cores: self.engine_cores,
            reserved_too: 0,
            cores: [0; PARTS_MAX],
            checksum: 0,
        };
        fields.cores[..self.cores.len()].copy_from_slice(&self.cores);
        sector.fill(0);
        let bytes = &mut sector[..size_of::<Fields>()];
        bytes.copy_from_slice(bytemuck::bytes_of(&fields));
        seal(bytes);
    }

    /// Reads one copy, of a disk of so many bytes.
    pub fn decode(sector: &[u8], disk_bytes: u64) -> Result<Self, FormatError> {
        let fields: Fields = unseal(WHAT, MAGIC, sector)?;
        let (cores, rest) =
            fields.cores.split_at_checked(usize::from(fields.parts)).ok_or(FormatError::Nonsense(WHAT))?;
        if fields.reserved != 0 || fields.reserved_too != 0 || rest.iter().any(|core| *core != 0) {
            return Err(FormatError::Nonsense(WHAT));
        }
        let Fields { set, part_bytes, engine_cores, .. } = fields;
        PartTable { set, part_bytes, engine_cores, cores: cores.to_vec() }.checked(disk_bytes)
    }

    /// Of the two copies the one that is whole: they are the same. If none is: why not, of the first; that of another version before all else,
    /// and that there is none at all after all else.
    pub fn choose(copies: [&[u8]; 2], disk_bytes: u64) -> Result<Self, FormatError> {
        choose(copies.map(|copy| PartTable::decode(copy, disk_bytes)), |_, _| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{TestResult, quickcheck};

    const GIB: u64 = 1 << 30;

    fn table() -> PartTable {
        PartTable::of_disk(SetId(*b"two disks of one"), GIB, 4, vec![1, 3]).expect("room for two")
    }

    fn sector(table: &PartTable) -> Vec<u8> {
        let mut sector = vec![0xff; SECTOR_BYTES];
        table.encode(&mut sector);
        sector
    }

    #[test]
    fn a_disk_is_divided_into_equal_parts() {
        let table = table();
        assert_eq!(table.part_bytes, 511 << 20);
        assert_eq!(table.parts().collect::<Vec<_>>(), [(1, 1 << 20), (3, 512 << 20)]);
        assert_eq!((table.part_of(3), table.part_of(2)), (Some(512 << 20), None));
        assert_eq!(PartTable::decode(&sector(&table), GIB), Ok(table.clone()));
        let all: Vec<u16> = (0..PARTS_MAX as u16).collect();
        let full = PartTable::of_disk(SetId::default(), 1 << 40, 1024, all).expect("room for all");
        assert_eq!(PartTable::decode(&sector(&full), 1 << 40), Ok(full));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let of = |disk_bytes, engine_cores, cores: &[u16]| {
            PartTable::of_disk(SetId::default(), disk_bytes, engine_cores, cores.to_vec())
        };
        for cores in [&[][..], &[1, 1], &[1, 0], &[0, 4]] {
            assert_eq!(of(GIB, 4, cores), Err(FormatError::Nonsense(WHAT)), "{cores:?}");
        }
        for disk_bytes in [0, PARTS_AT, 3 * PARTS_AT - 1] {
            assert!(matches!(of(disk_bytes, 2, &[0, 1]), Err(FormatError::Parts { parts: 2, .. })));
        }
        // A disk that was cut, and one that has grown.
        let bytes = sector(&table());
        assert!(matches!(PartTable::decode(&bytes, GIB - 2 * PARTS_AT), Err(FormatError::Parts { .. })));
        assert_eq!(PartTable::decode(&bytes, 2 * GIB), Ok(table()));
    }

    #[test]
    fn either_copy_will_do() {
        let (good, none) = (sector(&table()), vec![0; SECTOR_BYTES]);
        let mut torn = good.clone();
        torn[512..].fill(0);
        let mut later = good.clone();
        later[8] = 2;
        for copies in [[&good, &torn], [&torn, &good], [&none, &good], [&good, &none]] {
            assert_eq!(PartTable::choose(copies.map(|copy| &copy[..]), GIB), Ok(table()));
        }
        let choose = |first: &[u8], second: &[u8]| PartTable::choose([first, second], GIB);
        assert_eq!(choose(&none, &none), Err(FormatError::Magic(WHAT)));
        assert_eq!(choose(&none, &torn), Err(FormatError::Checksum(WHAT)));
        assert_eq!(choose(&torn, &none), Err(FormatError::Checksum(WHAT)));
        // The version in the place of ours is a damaged bit; a whole one of another version is not.
        assert_eq!(choose(&later, &torn), Err(FormatError::Checksum(WHAT)));
        seal(&mut later[..size_of::<Fields>()]);
        assert_eq!(choose(&good, &later), Err(FormatError::Version(2)));
    }

    quickcheck! {
        fn every_bit_counts(bit: u16) -> TestResult {
            let (mut bytes, bit) = (sector(&table()), usize::from(bit) % (8 * size_of::<Fields>()));
            bytes[bit / 8] ^= 1 << (bit % 8);
            TestResult::from_bool(PartTable::decode(&bytes, GIB).is_err())
        }
    }
}
