//! The seeded bugs, by name, what each does, and what has to find it. Where they are: `git grep seeded_bug!`.

/// A bug on purpose.
#[derive(Clone, Copy, Debug)]
pub struct SeededBug {
    /// Its name in the sources.
    pub name: &'static str,
    /// What it does.
    pub effect: &'static str,
    /// What has to find it.
    pub finder: Finder,
}

/// What has to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finder {
    /// A seed of the simulator.
    Seeds,
    /// A test, by package and name: no history shows the bug, or the storm hardly ever makes the coincidence that it
    /// needs.
    Test(&'static str, &'static str),
}

const fn seeds(name: &'static str, effect: &'static str) -> SeededBug {
    SeededBug { name, effect, finder: Finder::Seeds }
}

const fn test(
    name: &'static str,
    effect: &'static str,
    (package, test): (&'static str, &'static str),
) -> SeededBug {
    SeededBug { name, effect, finder: Finder::Test(package, test) }
}

const ENGINE: &str = "snowskin-engine";
const CLIENT: &str = "snowskin-client";
const MASTER: &str = "snowskin-master";
const TESTS: &str = "snowskin-tests";
const SSD_TIER: &str = "snowskin-ssd-tier";

/// All of them.
pub const SEEDED_BUGS: [SeededBug; 63] = [
    test(
        "bound objects change",
        "an object is removed or replaced while others keep replicas of it",
        (ENGINE, "long_histories_of_replicas"),
    ),
    test(
        "no retreat",
        "an entry whose bytes are evicted goes, though there are replicas",
        (ENGINE, "an_entry_leaves_for_its_replica_when_its_bytes_go"),
    ),
    test(
        "kept after its release",
        "an order to keep a replica that comes late is obeyed",
        (ENGINE, "a_bound_object_changes_when_its_holders_have_let_go"),
    ),
    test(
        "unclaimed replicas count",
        "what a lost home was not told of is told to the next one",
        (ENGINE, "long_histories_of_replicas"),
    ),
    test(
        "version unchecked",
        "a holder gives whatever version it has",
        (ENGINE, "a_holder_gives_the_version_that_it_is_asked_for_and_no_other"),
    ),
    seeds("read without lease", "a read grants no lease"),
    seeds("put unverified", "a value that arrives with another checksum is stored"),
    seeds("read unverified", "the client does not compare checksums"),
    seeds("last writer wins", "a put replaces what is held"),
    seeds("upsert lost", "an upsert of a held key is acknowledged and thrown away"),
    seeds("acknowledged and not published", "a quarter of the keys: a put is acknowledged and not published"),
    seeds("lane published nothing", "a value that was written in place is acknowledged and not published"),
    seeds("pins outlive their lane", "what a client read in place stays pinned when it has gone"),
    test(
        "reservations outlive their lane",
        "what a client was writing in place stays reserved when it has gone",
        (TESTS, "a_client_that_dies_at_any_step_leaves_nothing"),
    ),
    test(
        "lane pins unlimited",
        "a client may pin all memory",
        (TESTS, "who_holds_too_much_is_served_by_frames"),
    ),
    test(
        "card outlives its row",
        "what is gone is found on the shelf",
        (ENGINE, "what_is_read_twice_is_found_without_asking_until_it_is_no_more"),
    ),
    test(
        "shelf outlives its slots",
        "what a core no longer answers for is found on its shelf",
        (ENGINE, "who_moves_out_leaves_nothing_on_the_shelf"),
    ),
    test(
        "shelf forgets who holds",
        "bytes that clients have found on the shelf are used again while they read them",
        (ENGINE, "bytes_that_a_client_holds_are_kept_until_it_does_not_or_is_gone"),
    ),
    seeds("reservation leaked", "the memory of a put whose connection broke is never free again"),
    seeds("reserved for ever", "published bytes go on counting as reserved"),
    seeds("pin leaked", "each get pins its value once more, for ever"),
    seeds("reuse before unpin", "eviction frees bytes that are being read"),
    seeds("remove under lease", "a remove without force ignores leases"),
    seeds("remove forgotten", "a quarter of the removes are acknowledged and not done"),
    seeds("sweep skips rows", "remove_matching leaves out one row of eight"),
    seeds("sweep of all tenants", "remove_matching removes the keys of other tenants"),
    seeds("evict under lease", "eviction ignores leases"),
    seeds("evicted called removed", "the reason of an eviction is remembered as a removal"),
    seeds("lost called evicted", "the reason of a loss at the holder is remembered as an eviction"),
    test(
        "forget another version",
        "news of a lost version drops the entry of another",
        (ENGINE, "a_stale_descriptor_is_forgotten_once_the_holder_says_so"),
    ),
    test(
        "drop another version",
        "a holder that is to drop a version drops another, or one it vouches for",
        (ENGINE, "a_replaced_or_removed_replica_is_dropped_at_its_holder"),
    ),
    test(
        "lost holder kept",
        "entries whose holder died stay",
        (ENGINE, "entries_whose_holder_is_gone_are_dropped_as_lost"),
    ),
    test(
        "any version vouched for",
        "a new home takes any bytes it has under a name for those of the entry",
        (ENGINE, "a_new_home_vouches_for_the_very_bytes_that_the_entry_names_and_no_others"),
    ),
    test(
        "lives share versions",
        "each life of a core counts versions from 1",
        (ENGINE, "lives_of_a_core_do_not_share_versions"),
    ),
    seeds("entry dropped on hand-over", "one entry of eight is not given to the new home"),
    seeds("serve before taking", "a new home serves before it has the entries"),
    seeds("origin does not freeze", "an old home goes on serving while it gives"),
    test(
        "given while served",
        "an old home gives what it has not heard that it lost",
        (ENGINE, "a_join_moves_a_slot"),
    ),
    test(
        "old entries count",
        "a taker's own old entries count beside those that it is given",
        (ENGINE, "a_slot_comes_back_after_it_was_taken"),
    ),
    test(
        "given entries count",
        "entries of a slot that was given away count again when it comes back",
        (ENGINE, "a_join_moves_a_slot"),
    ),
    seeds("confirmation ignored", "an origin stays frozen for ever"),
    test(
        "anybody confirms",
        "an origin believes a confirmation of somebody who is not the new home",
        (ENGINE, "a_confirmation_counts_if_it_is_that_of_the_taker"),
    ),
    seeds("another life's slots", "a core serves the slots of an earlier life of it"),
    test(
        "old epoch accepted",
        "slots change hands between cores with different tables",
        (TESTS, "slots_are_not_given_to_whom_the_table_does_not_name"),
    ),
    seeds("origin forgotten", "the master's next table does not say who has the entries"),
    test(
        "table before the last one is known",
        "the master makes the next table before all cores have this one",
        (MASTER, "a_table_is_known_to_all_who_live_before_there_is_the_next_one"),
    ),
    test(
        "slots on two ways at once",
        "the master moves slots that are still on their way",
        (MASTER, "while_slots_are_on_their_way_nobody_joins_or_leaves_and_the_dead_are_taken_out"),
    ),
    test(
        "one frame ends a life",
        "a stuck frame of a dead process ends the life that came after it",
        (MASTER, "a_first_frame_ends_no_other_life"),
    ),
    test(
        "served after the farewell",
        "a core that has said farewell goes on as the home of what it still has",
        (ENGINE, "who_has_said_farewell_serves_nothing_whatever_tables_say"),
    ),
    test(
        "everybody is an heir",
        "a core takes over what it finds on its volume, whoever has left it",
        (ENGINE, "what_was_found_counts_if_the_table_names_who_has_left_it"),
    ),
    test(
        "strangers stay",
        "a slot comes back, and what was removed meanwhile stays on the volume",
        (ENGINE, "what_was_removed_elsewhere_is_buried_when_its_slot_comes_back"),
    ),
    seeds("ledger not written", "a restarted master remembers an old table"),
    seeds("late answers", "calls return 40 ms after their deadline"),
    test(
        "silence endured",
        "a connection whose peer is silent is used on",
        (CLIENT, "a_frozen_peer_costs_the_deadline_and_not_more"),
    ),
    test(
        "older table adopted",
        "a client goes back to an older table",
        (CLIENT, "an_older_table_is_not_taken_over"),
    ),
    test(
        "older table believed",
        "a client takes a holder that its table does not know for lost",
        (CLIENT, "a_holder_that_joined_after_our_table_was_made_is_not_lost"),
    ),
    test(
        "unreachable called lost",
        "a holder that cannot be reached is said to be lost",
        (CLIENT, "a_holder_that_cannot_be_reached_is_an_error_and_no_miss"),
    ),
    seeds("durable before its flush", "a durable put is acknowledged when it is written, flushed or not"),
    seeds(
        "told before it is buried",
        "a removal or replacement is acknowledged before its tombstone is durable",
    ),
    test(
        "not buried while it is written",
        "what is removed or evicted while it is being written gets no tombstone",
        (ENGINE, "what_goes_while_it_is_being_written_is_buried_for_whatever_reason_it_goes"),
    ),
    test(
        "tombstone behind the next record",
        "a tombstone that waits ends what is put under its name meanwhile",
        (SSD_TIER, "a_tombstone_that_waits_does_not_end_what_is_written_after_it"),
    ),
    test(
        "record unchecked",
        "the checksum of what was read from the SSD is not compared",
        (SSD_TIER, "every_bit_of_every_structure_may_flip"),
    ),
    test(
        "floor not raised",
        "the space of a region is used again before its records are said to mean nothing",
        (SSD_TIER, "a_stop_anywhere_leaves_what_was_committed"),
    ),
];
