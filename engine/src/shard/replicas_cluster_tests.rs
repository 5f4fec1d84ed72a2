//! A small cluster of shards whose messages about replicas come late, out of order, or never; cores are lost, and slots change hands. What
//! is read must be what was put last.

use super::replicas_tests::{evict_all, news, order, take};
use super::tests::{NOW, core, empty_shard, get, name, put_named, table};
use super::*;
use quickcheck::quickcheck;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::control::Page;
use snowskin_protocol::wire::data::{KeyItem, PutHints};
use snowskin_protocol::wire::replica::{ReplicaStatus, ReplicaVerb};
use snowskin_protocol::{Epoch, Member};

const MEMORY: usize = 1 << 20;
const CORES: usize = 3;
const KEYS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
struct Message {
    verb: ReplicaVerb,
    key: usize,
    held: Holders,
    home: Life,
    to: Life,
}

/// Three cores, one of them the home of everything. What is on its way is in `messages`, and is delivered in any order, or lost.
struct Cluster {
    shards: Vec<Shard>,
    /// The newest table of each core.
    tables: Vec<RoutingTable>,
    newest: Vec<RoutingTable>,
    messages: Vec<Message>,
    /// What a get may return: nothing, or this.
    truth: [Option<u64>; KEYS.len()],
    values: u64,
    now: Moment,
}

fn value_of(key: usize, number: u64) -> Vec<u8> {
    format!("{key}:{number:08}").into_bytes()
}

impl Cluster {
    fn new() -> Self {
        let mut first = table(1, 0, NOBODY);
        first.members =
            (0..CORES).map(|number| Member { id: core(number as u16), ..first.members[0] }).collect();
        let mut shards: Vec<Shard> = (0..CORES).map(|number| empty_shard(number as u16, MEMORY)).collect();
        shards.iter_mut().for_each(|shard| shard.apply_table(&first));
        Cluster {
            shards,
            tables: vec![first.clone(); CORES],
            newest: vec![first],
            messages: Vec::new(),
            truth: [None; KEYS.len()],
            values: 0,
            now: NOW,
        }
    }

    fn home(&self) -> usize {
        usize::from(self.newest.last().unwrap().homes[0])
    }

    fn life(&self, number: usize) -> Life {
        (self.shards[number].me, self.shards[number].incarnation)
    }

    fn change(&mut self, key: usize, kind: u8) {
        let (home, now) = (self.home(), self.now);
        self.values += 1;
        let (shard, name, value) = (&mut self.shards[home], name(KEYS[key]), value_of(key, self.values));
        match kind % 3 {
            0 if put_named(shard, &name, &value, PutHints::default(), false, now) == ItemStatus::Ok => {
                self.truth[key] = Some(self.values);
            }
            1 if put_named(shard, &name, &value, PutHints::default(), true, now) == ItemStatus::Ok => {
                self.truth[key] = Some(self.values);
            }
            2 => {
                let item = KeyItem { flags: KeyItem::FORCE, ..KeyItem::at_home(name.as_ref()) };
                let (reply, _) = shard.remove(name.as_ref().hashed(), &item, now);
                if matches!(reply.status, ItemStatus::Ok | ItemStatus::Miss) {
                    self.truth[key] = None;
                }
            }
            _ => {}
        }
        self.hear_news(home);
    }

    fn hear_news(&mut self, home: usize) {
        for news in news(&self.shards[home]) {
            if let ReplicaNews::Release(name, version) = news {
                let key = KEYS.iter().position(|key| self::name(key) == name).unwrap();
                self.ask_for_release(home, key, version);
            }
        }
    }

    fn ask_for_release(&mut self, home: usize, key: usize, version: Version) {
        let hashed_name = name(KEYS[key]);
        let hashed = hashed_name.as_ref().hashed();
        let Some(held) = self.shards[home].holders(hashed) else { return };
        for holder in self.shards[home].binding(hashed, version) {
            let to = self.life(usize::from(holder.core));
            let (verb, held, home) = (ReplicaVerb::Release, held.clone(), self.life(home));
            self.messages.push(Message { verb, key, held, home, to });
        }
    }

    fn begin(&mut self, key: usize, target: usize) {
        let home = self.home();
        let hashed_name = name(KEYS[key]);
        let hashed = hashed_name.as_ref().hashed();
        let Some(held) = self.shards[home].holders(hashed) else { return };
        if self.shards[home].begin_replica(hashed, held.version, core(target as u16)) {
            let (verb, home, to) = (ReplicaVerb::Take, self.life(home), self.life(target));
            self.messages.push(Message { verb, key, held, home, to });
        }
    }

    /// The bytes that somebody has of this version, if anybody has.
    fn bytes_of(&mut self, holder: usize, key: usize, version: Version) -> Option<Vec<u8>> {
        let name = name(KEYS[key]);
        let item = KeyItem::at_holder(name.as_ref(), version);
        match self.shards[holder].get(name.as_ref().hashed(), &item, self.now) {
            Answer::Held(held) => Some(held.extent.value().to_vec()),
            _ => None,
        }
    }

    fn deliver(&mut self, message: Message, is_answer_lost: bool) {
        let Message { verb, key, held, home, to } = message;
        let (home_number, holder) = (usize::from(home.0.core), usize::from(to.0.core));
        if self.life(holder) != to {
            return;
        }
        let name = name(KEYS[key]);
        let hashed = name.as_ref().hashed();
        let order = order(verb, &name, &held, home);
        let is_home = self.tables[holder].home(hashed.slot()).is_some_and(|member| member.life() == home);
        let status = match verb {
            ReplicaVerb::Release => {
                self.shards[holder].release(hashed, held.version);
                ReplicaStatus::Done
            }
            _ if !is_home => ReplicaStatus::NotYet,
            ReplicaVerb::Keep => self.shards[holder].keep(&order, self.now),
            ReplicaVerb::Take => {
                let source = usize::from(held.cores[0].core);
                let bytes = self.bytes_of(source, key, held.version);
                match bytes.is_some_and(|bytes| take(&mut self.shards[holder], &order, &bytes)) {
                    true => ReplicaStatus::Done,
                    false => ReplicaStatus::Absent,
                }
            }
        };
        if is_answer_lost || self.life(home_number) != home {
            return;
        }
        let shard = &mut self.shards[home_number];
        match (verb, status) {
            (ReplicaVerb::Release, _) => shard.replica_released(hashed, held.version, to.0),
            (ReplicaVerb::Take, ReplicaStatus::Done) => {
                if shard.may_keep(hashed, held.version, to.0) {
                    self.messages.push(Message { verb: ReplicaVerb::Keep, key, held, home, to });
                }
            }
            (ReplicaVerb::Keep, ReplicaStatus::Done) => {
                shard.end_replica(hashed, held.version, to.0, ReplicaEnd::Kept);
            }
            (ReplicaVerb::Keep, ReplicaStatus::NotYet) => {}
            _ => shard.end_replica(hashed, held.version, to.0, ReplicaEnd::Absent),
        }
    }

    fn check(&mut self, key: usize) {
        let home = self.home();
        let now = self.now;
        let found = match get(&mut self.shards[home], KEYS[key], now) {
            Ok(extent) => Some(extent.value().to_vec()),
            Err(reply) if reply.status == ItemStatus::Elsewhere => {
                let found = self.bytes_of(usize::from(reply.holder.core), key, reply.version);
                if found.is_none() {
                    let name = name(KEYS[key]);
                    let item = KeyItem::at_holder(name.as_ref(), reply.version).of_holder(reply.holder);
                    self.shards[home].forget(name.as_ref().hashed(), &item);
                }
                found
            }
            Err(_) => None,
        };
        if let Some(found) = found {
            let truth = self.truth[key].map(|number| value_of(key, number));
            assert_eq!(Some(found), truth, "key {} at core {home}", KEYS[key]);
        }
    }

    fn evict(&mut self, number: usize) {
        self.now = self.now + Duration::from_secs(1);
        evict_all(&mut self.shards[number], self.now);
    }

    /// The home dies, and starts again as another life; another core becomes the home.
    fn lose_home(&mut self, next: usize) {
        if !self.all_are_up_to_date() {
            return;
        }
        let home = self.home();
        let mut table = self.newest.last().unwrap().clone();
        table.epoch = table.epoch.next();
        let incarnation = Incarnation(table.epoch.0 + 1);
        table.members[home].incarnation = incarnation;
        table.homes.fill(next as u16);
        table.origins.fill(LOST);
        let mut risen = empty_shard(home as u16, MEMORY);
        risen.incarnation = incarnation;
        self.shards[home] = risen;
        self.tables[home] = RoutingTable::empty();
        self.newest.push(table);
        (0..CORES).for_each(|number| self.hear_tables(number));
    }

    fn all_are_up_to_date(&self) -> bool {
        let newest = self.newest.last().unwrap().epoch;
        self.tables.iter().all(|table| table.epoch == newest)
            && (0..CORES).all(|number| self.shards[number].claiming().is_empty())
            && (0..CORES).all(|number| self.shards[number].awaited().is_empty())
    }

    /// A core hears of the tables that it has missed.
    fn hear_tables(&mut self, number: usize) {
        for table in self.newest.clone() {
            let known = &self.tables[number];
            if table.epoch <= known.epoch {
                continue;
            }
            // As `PerCore::look_after_kept` finds out who is gone.
            if known.epoch != Epoch(0) {
                let gone = |index: u16| {
                    let life = known.members[usize::from(index)].life();
                    table.members.iter().all(|member| member.life() != life)
                };
                let mut lost = SlotSet::new();
                Slot::all().filter(|slot| gone(known.homes[slot.index()])).for_each(|slot| lost.insert(slot));
                let is_gone =
                    |member: &&Member| table.members.iter().all(|other| other.life() != member.life());
                let dead = known.members.iter().filter(is_gone).map(|member| member.id).collect();
                self.shards[number].note_lost_homes(&lost);
                self.shards[number].apply_table(&table);
                self.shards[number].drop_lost(&dead);
            } else {
                self.shards[number].apply_table(&table);
            }
            self.tables[number] = table;
        }
    }

    /// The new home asks: `deaf` says whom it does not hear, and who does not hear that it has heard.
    fn claim(&mut self, deaf: u8) {
        let home = self.home();
        let slots = self.shards[home].claiming().clone();
        if slots.is_empty() {
            return;
        }
        for number in 0..CORES {
            let is_deaf = number != home && deaf >> number & 1 == 1;
            if is_deaf || self.tables[number].epoch != self.tables[home].epoch {
                continue;
            }
            let page = self.shards[number].offer_page(&slots, 0, self.now);
            self.shards[home].take_offered(&Page::decode(&page).unwrap(), self.now);
            if deaf >> (number + 4) & 1 == 0 {
                self.shards[number].claimed(&slots);
            }
        }
        self.shards[home].finish_claiming(&slots);
    }

    /// Another core becomes the home, and takes over what the home has.
    fn hand_over(&mut self, next: usize) {
        let home = self.home();
        if next == home || !self.all_are_up_to_date() {
            return;
        }
        let mut table = self.newest.last().unwrap().clone();
        table.epoch = table.epoch.next();
        table.homes.fill(next as u16);
        table.origins.fill(home as u16);
        self.newest.push(table);
        (0..CORES).for_each(|number| self.hear_tables(number));
        let origin = self.life(home);
        let slots = self.shards[next].awaited().remove(&origin).expect("it awaits all");
        let body = self.shards[home].give_page(&slots, 0, false, self.now);
        let page = Page::decode(&body).unwrap();
        self.shards[next].take_page(&page, true, self.now);
        self.shards[next].finish_taking(&page.given);
        self.shards[home].confirm_given(&page.given);
        self.shards[next].forget_unconfirmed(origin, &page.given);
    }

    fn step(&mut self, kind: u8, choice: u8) {
        let (key, number) = (usize::from(choice) % KEYS.len(), usize::from(choice / 2) % CORES);
        match kind % 16 {
            0..=2 => self.change(key, kind),
            3..=5 => self.begin(key, number),
            6..=10 if !self.messages.is_empty() => {
                let message = self.messages.remove(usize::from(choice) % self.messages.len());
                self.deliver(message, kind % 16 == 10);
            }
            11 if !self.messages.is_empty() && choice.is_multiple_of(4) => {
                self.messages.remove(usize::from(choice) % self.messages.len());
            }
            12 => self.evict(number),
            13 => {
                if choice.is_multiple_of(2) && number != self.home() {
                    self.lose_home(number);
                } else {
                    self.hand_over(number);
                }
            }
            14 => self.claim(choice),
            _ => {}
        }
        (0..KEYS.len()).for_each(|key| self.check(key));
    }

    /// Everything that is asked for is answered in the end, and then all may change.
    fn come_to_rest(&mut self) {
        self.claim(0);
        self.messages.clear();
        for (key, text) in KEYS.into_iter().enumerate() {
            self.change(key, 1);
            let home = self.home();
            let hashed_name = name(text);
            if let Some(held) = self.shards[home].holders(hashed_name.as_ref().hashed()) {
                self.ask_for_release(home, key, held.version);
            }
            std::mem::take(&mut self.messages).into_iter().for_each(|message| self.deliver(message, false));
            self.change(key, 1);
            assert_eq!(self.truth[key], Some(self.values), "what nobody holds fast can be replaced");
            self.check(key);
        }
    }
}

quickcheck! {
    fn no_reader_sees_what_was_removed_or_replaced(steps: Vec<(u8, u8)>) -> bool {
        let mut cluster = Cluster::new();
        steps.into_iter().for_each(|(kind, choice)| cluster.step(kind, choice));
        cluster.come_to_rest();
        true
    }
}

#[test]
fn long_histories_of_replicas() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..40 {
        let mut cluster = Cluster::new();
        for _ in 0..400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            cluster.step((random >> 33) as u8, (random >> 45) as u8);
        }
        cluster.come_to_rest();
    }
}
