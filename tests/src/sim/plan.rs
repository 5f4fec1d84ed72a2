//! What a seed decides: how large the cluster is, what is asked of it, and what goes wrong.
//!
//! Swarm testing (Groce and others, ISSTA 2012): each seed switches a random subset of operations and faults off, since
//! what is always there hides what happens only without it.

use crate::simulated::Shape;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_engine::eviction::PolicyKind;
use snowskin_engine::shard::{Admission, TierPolicy, WriteMode};
use snowskin_io::sim::{NetworkOptions, Options};
use snowskin_protocol::Settings;
use std::time::Duration;

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$item_doc])* $item,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$item,)*];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self { $($name::$item => $text,)* }
            }
        }
    };
}

kinds! {
    /// What clients do.
    Operation {
        /// First writer wins.
        Put = "put",
        /// Last writer wins.
        Upsert = "upsert",
        /// Into fresh memory.
        Get = "get",
        /// Into buffers of the caller.
        GetInto = "get_into",
        /// Held, and how long.
        Lookup = "lookup",
        /// How many leading keys.
        Match = "match_prefix",
        /// Unless leased.
        Remove = "remove",
        /// Even if leased.
        RemoveForced = "remove forced",
        /// All keys of a tenant, unless leased.
        Sweep = "remove_matching",
        /// All keys of a tenant.
        SweepForced = "remove_matching forced",
    }
}

kinds! {
    /// What goes wrong.
    Fault {
        /// Everything takes much longer, and arrives in another order on different connections.
        SlowNetwork = "slow network",
        /// Bits flip on the way.
        FlippedBits = "flipped bits",
        /// A connection is reset.
        Cut = "cut",
        /// One direction between two hosts holds everything.
        OneWay = "one-way partition",
        /// Both directions do.
        Partition = "partition",
        /// A core stands still.
        PauseCore = "pause core",
        /// All cores of an engine stand still.
        PauseEngine = "pause engine",
        /// The master stands still.
        PauseMaster = "pause master",
        /// A client stands still.
        PauseClient = "pause client",
        /// An engine's process is killed, and started again later.
        KillEngine = "kill engine",
        /// An engine's machine loses power.
        PowerOff = "power off",
        /// The master is killed, and another one is started later.
        KillMaster = "kill master",
        /// A client is killed, and another one is started.
        KillClient = "kill client",
        /// A clock jumps ahead.
        ClockJump = "clock jump",
        /// Somebody else takes a core's memory.
        NoMemory = "no memory",
        /// Another engine joins.
        Join = "join",
        /// An engine leaves, and comes back later.
        Leave = "leave",
    }
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Engines at the start.
    pub engines: usize,
    /// What each is like.
    pub shape: Shape,
    /// Network and clocks.
    pub options: Options,
    /// Clients at the same time.
    pub clients: usize,
    /// How many of 100 clients are on the host of a core, and share its memory.
    pub local_percent: u32,
    /// Calls that a client has open at the same time.
    pub workers: usize,
    /// Keys.
    pub keys: usize,
    /// Keys in one call, at most.
    pub batch_max: usize,
    /// Pause between two calls of a worker, at most.
    pub think_max: Duration,
    /// How long a call may take.
    pub deadline: Duration,
    /// What clients do, each as often as it is listed.
    pub operations: Vec<Operation>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Pause between two faults, at most.
    pub fault_pause_max: Duration,
    /// How long faults last, at most.
    pub fault_time_max: Duration,
    /// How long faults happen.
    pub fire: Duration,
    /// How long clients go on afterwards.
    pub calm: Duration,
}

/// Engines that there may be at the same time.
pub(super) const ENGINES_MAX: usize = 6;

/// How often each operation is chosen, when it is not switched off.
const OPERATION_WEIGHTS: [(Operation, usize); 10] = [
    (Operation::Put, 24),
    (Operation::Upsert, 12),
    (Operation::Get, 20),
    (Operation::GetInto, 8),
    (Operation::Lookup, 8),
    (Operation::Match, 4),
    (Operation::Remove, 5),
    (Operation::RemoveForced, 4),
    (Operation::Sweep, 1),
    (Operation::SweepForced, 1),
];

impl Plan {
    /// What `seed` decides.
    pub fn of(seed: u64) -> Plan {
        let mut random = StdRng::seed_from_u64(seed);
        let one_of = |random: &mut StdRng, choices: &[u64]| choices[random.random_range(0..choices.len())];
        let lease_ms = one_of(&mut random, &[1, 20, 100, 400]) as u32;
        let high = one_of(&mut random, &[600, 900, 1000]) as u16;
        let settings = Settings {
            lease_ms,
            high_watermark_permille: high,
            low_watermark_permille: high - 100,
            ..Settings::default()
        };
        let core_bytes = one_of(&mut random, &[16, 32, 64, 128]) as usize * 1024;
        let cores = one_of(&mut random, &[1, 1, 2, 2, 3, 4]) as u16;
        let engines = random.random_range(2..=if cores > 2 { 3 } else { 5 });
        let delay_max = Duration::from_micros(one_of(&mut random, &[100, 500, 2_000]));
        let network = NetworkOptions {
            delay_max,
            window_bytes: one_of(&mut random, &[8 << 10, 64 << 10, 256 << 10]) as usize,
            short_percent: one_of(&mut random, &[0, 25, 60]) as u32,
            ..NetworkOptions::default()
        };
        let clock_ahead_max = Duration::from_secs(one_of(&mut random, &[0, 3_600]));
        Plan {
            engines,
            shape: Shape {
                cores,
                core_bytes,
                settings,
                policy: PolicyKind::ALL[seed as usize / 3 % 3],
                lanes_max: [64, 64, 3][seed as usize % 3],
                ssd_bytes: [0, 1_300 << 10, 2 << 20][seed as usize / 27 % 3],
                tier_policy: TierPolicy {
                    mode: [WriteMode::Back, WriteMode::Through][seed as usize / 81 % 2],
                    admission: [Admission::All, Admission::SecondTouch][seed as usize / 162 % 2],
                },
            },
            options: Options { network, clock_ahead_max, ..Options::default() },
            local_percent: [0, 50, 90][seed as usize / 9 % 3],
            clients: random.random_range(4..=16_usize).min(random.random_range(4..=16)),
            workers: random.random_range(1..=2),
            keys: random.random_range(8..=64),
            batch_max: one_of(&mut random, &[1, 4, 16]) as usize,
            think_max: Duration::from_millis(one_of(&mut random, &[200, 600, 1_200])),
            deadline: Duration::from_millis(one_of(&mut random, &[300, 2_000, 6_000])),
            operations: operations(&mut random),
            faults: faults(&mut random),
            fault_pause_max: Duration::from_millis(one_of(&mut random, &[400, 1_500, 5_000])),
            fault_time_max: Duration::from_millis(one_of(&mut random, &[300, 3_000, 15_000])),
            fire: Duration::from_secs(one_of(&mut random, &[5, 10, 20])),
            calm: Duration::from_secs(1),
        }
    }
}

fn operations(random: &mut StdRng) -> Vec<Operation> {
    loop {
        let chosen: Vec<Operation> = OPERATION_WEIGHTS
            .iter()
            .filter(|_| random.random_range(0..100) < 75)
            .flat_map(|&(operation, weight)| std::iter::repeat_n(operation, weight))
            .collect();
        let writes = chosen.iter().any(|operation| matches!(operation, Operation::Put | Operation::Upsert));
        let reads = chosen.iter().any(|operation| matches!(operation, Operation::Get | Operation::GetInto));
        if writes && reads {
            return chosen;
        }
    }
}

/// A quarter of the seeds have faults of one kind only, a tenth none.
fn faults(random: &mut StdRng) -> Vec<Fault> {
    match random.random_range(0..20) {
        0..2 => Vec::new(),
        2..7 => vec![Fault::ALL[random.random_range(0..Fault::ALL.len())]],
        _ => Fault::ALL.iter().copied().filter(|_| random.random_range(0..100) < 45).collect(),
    }
}
