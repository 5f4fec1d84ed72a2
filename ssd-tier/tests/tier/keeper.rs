//! Who uses a volume as an engine's core does: a directory of names with the addresses of their records.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::Platform;
use snowskin_io::SplitMix;
use snowskin_io::disk::DiskBuffers;
use snowskin_io::memory::{Mapping, Segment};
use snowskin_protocol::{Checksum, NameRef, ObjectName, Version};
use snowskin_ssd_tier::{
    Facts, Fate, Keeper, Reclaimed, RecordAddress, Recovered, TierError, Value, Volume, VolumeOptions,
    Writing, room_bytes,
};

use crate::model::{Key, Model, Window};
use crate::paper::SECTOR;

/// Room is there after so many tries, or never.
const TRIES_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) facts: Facts,
    /// `None`: it is being written.
    pub(crate) address: Option<RecordAddress>,
}

/// Is told of each commit that has succeeded, with what may have been found since the one before it. What it gives back is awaited.
pub(crate) type Witness = Rc<dyn Fn(Window) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A core.
pub(crate) struct Core<P: Platform> {
    pub(crate) volume: Volume<P>,
    pub(crate) rows: RefCell<BTreeMap<Key, Row>>,
    pub(crate) model: Rc<RefCell<Model>>,
    /// Where versions stand last: reclaim leaves older copies behind, which are none of anybody's business.
    latest: RefCell<BTreeMap<(Key, u64), RecordAddress>>,
    /// Of 100 records that reclaim asks for, so many are kept.
    pub(crate) keep_percent: Cell<u64>,
    /// Reclaims that were begun: with each some leases end, and others begin.
    reclaims: Cell<u64>,
    pub(crate) witness: RefCell<Option<Witness>>,
    platform: P,
    segment: Segment,
    buffers: DiskBuffers,
}

/// A record that is being written.
pub(crate) struct Pending<P: Platform> {
    pub(crate) key: Key,
    event: u64,
    facts: Facts,
    writing: Writing<P>,
}

impl<P: Platform> Pending<P> {
    pub(crate) fn address(&self) -> RecordAddress {
        self.writing.address()
    }
}

pub(crate) fn name_of(key: Key) -> ObjectName {
    let long = "x".repeat(usize::from(key % 5) * 40);
    ObjectName::new("t", format!("{key}-{long}").as_bytes()).expect("a name")
}

pub(crate) fn key_of(name: NameRef<'_>) -> Key {
    let text = std::str::from_utf8(&name.bytes()[2..]).expect("a name of ours");
    text.split('-').next().and_then(|number| number.parse().ok()).expect("a name of ours")
}

/// The bytes of a version: each tells where it belongs.
pub(crate) fn value_of(key: Key, version: u64, bytes: usize) -> Vec<u8> {
    let words = SplitMix::new(SplitMix::split(u64::from(key), version));
    let mut value: Vec<u8> =
        std::iter::repeat_with(|| words.draw().to_le_bytes()).take(bytes.div_ceil(8)).flatten().collect();
    value.truncate(bytes);
    value
}

pub(crate) fn facts_of(key: Key, version: u64, bytes: usize) -> Facts {
    let checksum = Checksum::of(&value_of(key, version, bytes));
    Facts { version: Version(version), value_bytes: bytes as u64, checksum }
}

impl<P: Platform> Core<P> {
    pub(crate) fn new(platform: P, volume: Volume<P>, model: Rc<RefCell<Model>>) -> Rc<Self> {
        let mapping = Mapping::plain(16 << 20).expect("memory");
        Rc::new(Core {
            platform,
            volume,
            rows: RefCell::default(),
            latest: RefCell::default(),
            model,
            keep_percent: Cell::new(0),
            reclaims: Cell::new(0),
            witness: RefCell::default(),
            segment: Segment::new(0, mapping),
            buffers: DiskBuffers::new(8 << 20),
        })
    }

    /// A new volume.
    pub(crate) async fn format(
        platform: P,
        disk: P::Disk,
        options: VolumeOptions,
        model: Rc<RefCell<Model>>,
    ) -> Result<Rc<Self>, TierError> {
        Ok(Core::new(platform.clone(), Volume::format(platform, disk, &options).await?, model))
    }

    /// Opens a volume, whatever is found there.
    pub(crate) async fn open_any(
        platform: P,
        disk: P::Disk,
        options: VolumeOptions,
        model: Rc<RefCell<Model>>,
    ) -> Result<(Rc<Self>, Recovered), TierError> {
        let (volume, recovered) = Volume::open(platform.clone(), disk, &options).await?;
        let core = Core::new(platform, volume, model);
        for found in &recovered.objects {
            let row = Row { facts: found.facts, address: Some(found.address) };
            let other = core.rows.borrow_mut().insert(key_of(found.name.as_ref()), row);
            assert!(other.is_none(), "{found:?} is there twice");
            core.stands_at(key_of(found.name.as_ref()), found.facts.version, found.address);
        }
        Ok((core, recovered))
    }

    /// Opens a volume, and holds against the model what is found there.
    pub(crate) async fn open(
        platform: P,
        disk: P::Disk,
        options: VolumeOptions,
        model: Rc<RefCell<Model>>,
    ) -> Result<(Rc<Self>, Recovered), TierError> {
        let (core, recovered) = Core::open_any(platform, disk, options, model).await?;
        core.check_found();
        Ok((core, recovered))
    }

    fn stands_at(&self, key: Key, version: Version, address: RecordAddress) {
        self.latest.borrow_mut().insert((key, version.0), address);
    }

    fn check_found(&self) {
        let rows = self.rows.borrow();
        let mut model = self.model.borrow_mut();
        let keys: BTreeSet<Key> = model.keys().into_iter().chain(rows.keys().copied()).collect();
        for key in keys {
            let found = rows.get(&key).map(|row| row.facts.version.0);
            let allowed = model.allowed(key);
            assert!(allowed.contains(&found), "{key}: {found:?} is there, and may be {allowed:?}");
            model.found(key, found);
        }
    }

    // -- records --

    /// Begins to write a new version of a name; what was there before is buried.
    pub(crate) fn begin(&self, key: Key, bytes: usize) -> Result<Pending<P>, TierError> {
        self.bury(key);
        let version = self.model.borrow_mut().next_version();
        self.begin_version(key, version, bytes)
    }

    /// Writes it over what was there before.
    pub(crate) fn begin_over(&self, key: Key, bytes: usize) -> Result<Pending<P>, TierError> {
        let version = self.model.borrow_mut().next_version();
        self.begin_version(key, version, bytes)
    }

    fn begin_version(&self, key: Key, version: u64, bytes: usize) -> Result<Pending<P>, TierError> {
        let value = value_of(key, version, bytes);
        let facts = facts_of(key, version, bytes);
        let value = match version % 2 {
            0 => {
                let mut room = self.segment.reserve(bytes).expect("memory");
                room.value_mut().copy_from_slice(&value);
                let id = room.publish();
                let extent = self.segment.pin(id, bytes);
                self.segment.let_go(id);
                Value::Extent(extent)
            }
            _ => {
                let (body, end) = value.split_at(bytes / SECTOR * SECTOR);
                let buffer = (!body.is_empty()).then(|| {
                    let mut buffer = self.buffers.take(body.len()).expect("memory");
                    buffer.copy_from_slice(body);
                    buffer
                });
                Value::Buffer(buffer, end.to_vec())
            }
        };
        let writing = self.volume.begin(name_of(key).as_ref(), facts, value)?;
        let event = self.model.borrow_mut().begun(key, version);
        let old = self.rows.borrow_mut().insert(key, Row { facts, address: None });
        self.release(key, old);
        Ok(Pending { key, event, facts, writing })
    }

    pub(crate) async fn finish(&self, pending: Pending<P>) -> Result<(), TierError> {
        let Pending { key, event, facts, writing } = pending;
        let finished = writing.finish().await;
        self.model.borrow_mut().ended(key, event, finished.is_ok());
        if let Ok(address) = &finished {
            self.stands_at(key, facts.version, *address);
        }
        let mut rows = self.rows.borrow_mut();
        let is_wanted = rows.get(&key).is_some_and(|row| row.facts == facts);
        match finished {
            Ok(address) if is_wanted => {
                rows.insert(key, Row { facts, address: Some(address) });
            }
            Ok(address) => self.volume.release(address, name_of(key).bytes().len(), facts.value_bytes),
            Err(error) => {
                if is_wanted {
                    rows.remove(&key);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) async fn put(&self, key: Key, bytes: usize) -> Result<(), TierError> {
        let pending = self.begin(key, bytes)?;
        self.finish(pending).await
    }

    /// Puts, and makes room for it.
    pub(crate) async fn put_by_force(&self, key: Key, bytes: usize) -> Result<(), TierError> {
        for _ in 0..TRIES_MAX {
            match self.begin(key, bytes) {
                Ok(pending) => return self.finish(pending).await,
                Err(TierError::Full) => self.make_room().await?,
                Err(error) => return Err(error),
            }
        }
        panic!("there is never any room: {:?}", self.volume.usage());
    }

    /// Commits, and makes room for that.
    pub(crate) async fn commit_by_force(&self) -> Result<(), TierError> {
        for _ in 0..TRIES_MAX {
            match self.commit().await {
                Err(TierError::Full) => self.make_room().await?,
                done => return done,
            }
        }
        panic!("there is never any room: {:?}", self.volume.usage());
    }

    pub(crate) async fn platform_sleep(&self, duration: Duration) {
        self.platform.sleep(duration).await;
    }

    pub(crate) async fn make_room(&self) -> Result<(), TierError> {
        if self.reclaim().await?.is_none() {
            // The region that was full may still be closing.
            self.platform.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Removes a name, if there is a record of it or one is being written.
    pub(crate) fn bury(&self, key: Key) -> bool {
        let Some(row) = self.rows.borrow_mut().remove(&key) else { return false };
        self.volume.bury(name_of(key).as_ref(), row.facts.version);
        self.model.borrow_mut().buried(key);
        self.release(key, Some(row));
        true
    }

    fn release(&self, key: Key, row: Option<Row>) {
        if let Some(Row { facts, address: Some(address) }) = row {
            self.volume.release(address, name_of(key).bytes().len(), facts.value_bytes);
        }
    }

    pub(crate) async fn commit(&self) -> Result<(), TierError> {
        let mark = self.model.borrow().mark();
        self.volume.commit().await?;
        self.model.borrow_mut().committed(&mark);
        let witness = self.witness.borrow().clone();
        if let Some(witness) = witness {
            let window = self.model.borrow_mut().next_window();
            witness(window).await;
        }
        Ok(())
    }

    pub(crate) async fn reclaim(&self) -> Result<Option<Reclaimed>, TierError> {
        self.reclaims.set(self.reclaims.get() + 1);
        self.volume.reclaim(self).await
    }

    /// Reads a name. What comes back is what was written; a record that is damaged is forgotten.
    pub(crate) async fn read(&self, key: Key) -> Result<bool, TierError> {
        let row = self.rows.borrow().get(&key).copied();
        let Some(Row { facts, address: Some(address) }) = row else { return Ok(false) };
        let name = name_of(key);
        let room_bytes = room_bytes(name.as_ref(), facts.value_bytes) as usize;
        let room = self.segment.reserve(room_bytes).expect("memory");
        let read = self.volume.read(address, name.as_ref(), facts, room).await?;
        let value = value_of(key, facts.version.0, facts.value_bytes as usize);
        assert!(read.value() == value, "{key}: other bytes than those of {facts:?}");
        Ok(true)
    }

    /// Reads all names; how many.
    pub(crate) async fn read_all(&self) -> Result<u64, TierError> {
        let keys: Vec<Key> = self.rows.borrow().keys().copied().collect();
        let mut count = 0;
        for key in keys {
            count += u64::from(self.read(key).await?);
        }
        Ok(count)
    }
}

impl<P: Platform> Core<P> {
    /// Nobody has this record any more.
    fn let_go(&self, name: NameRef<'_>, version: Version, address: RecordAddress) {
        let key = key_of(name);
        if self.latest.borrow().get(&(key, version.0)) != Some(&address) {
            return;
        }
        self.latest.borrow_mut().remove(&(key, version.0));
        self.rows.borrow_mut().retain(|_, row| (row.facts.version, row.address) != (version, Some(address)));
        self.model.borrow_mut().forgotten(key, version.0);
    }
}

impl<P: Platform> Keeper for Core<P> {
    fn fate(&self, name: NameRef<'_>, version: Version, address: RecordAddress) -> Fate {
        let rows = self.rows.borrow();
        let is_here = rows
            .get(&key_of(name))
            .is_some_and(|row| row.address == Some(address) && row.facts.version == version);
        self.model.borrow_mut().going(key_of(name), version.0);
        let coin = SplitMix::split(version.0, u64::from(address.region) << 32 | u64::from(address.offset));
        match is_here && coin % 100 < self.keep_percent.get() {
            true if (coin / 100 + self.reclaims.get()).is_multiple_of(4) => Fate::Must,
            true => Fate::Keep,
            false => Fate::Forget,
        }
    }

    fn lost(&self, name: NameRef<'_>, version: Version, address: RecordAddress) {
        self.let_go(name, version, address);
    }

    fn forget(&self, name: NameRef<'_>, version: Version, address: RecordAddress) {
        assert_ne!(self.fate(name, version, address), Fate::Must, "it must not go");
        self.let_go(name, version, address);
    }

    fn moved(&self, name: NameRef<'_>, version: Version, from: RecordAddress, to: RecordAddress) -> bool {
        self.stands_at(key_of(name), version, to);
        let mut rows = self.rows.borrow_mut();
        match rows.get_mut(&key_of(name)) {
            Some(row) if row.address == Some(from) && row.facts.version == version => {
                row.address = Some(to);
                self.model.borrow_mut().moved(key_of(name), version.0);
                true
            }
            _ => false,
        }
    }
}
