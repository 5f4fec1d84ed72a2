//! The command line of `snowskin-engine`.
//!
//! Every setting is taken as text: one parser, in [`crate::config`], reads flags and file alike, so that both refuse
//! the same things in the same words.

use crate::config::ConfigError;
use argh::FromArgs;
use std::path::PathBuf;
use std::str::FromStr;

/// What to do instead of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Print what would be run and whether it can.
    Check,
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "check" => Ok(Verb::Check),
            _ => Err("write `check` to see what would be run, or nothing to run".to_owned()),
        }
    }
}

/// An engine of the Snowskin KV-cache store: it holds data in memory and serves it.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(
    example = "{command_name} --memory 4GB\n{command_name} check --config engine.toml\n\
               {command_name} --cores 4 --numa 1 --listen 10.0.0.5:7400 --master 10.0.0.1:7300",
    note = "Each flag but --config and --version is also a key of the configuration file, under the same name:\n\
            `memory = \"4GB\"`. A flag wins over the file."
)]
pub struct EngineArgs {
    /// check: print configuration, memory, processors and the kernel's abilities, and whether the engine can start
    #[argh(positional)]
    pub verb: Option<Verb>,
    /// read settings from this TOML file
    #[argh(option)]
    pub config: Option<PathBuf>,
    /// what the engine is called, the same after a restart (default: host name and port)
    #[argh(option)]
    pub name: Option<String>,
    /// cores, each a pinned thread (default: one for each processor that may be used)
    #[argh(option)]
    pub cores: Option<String>,
    /// use the processors of this NUMA node only
    #[argh(option)]
    pub numa: Option<String>,
    /// use these processors only, such as 0,2,4-7
    #[argh(option)]
    pub cpus: Option<String>,
    /// memory for values, of all cores together, such as 4GB (default: a quarter of what is available, 16 GiB at most)
    #[argh(option)]
    pub memory: Option<String>,
    /// pages of that memory: auto (the largest that can be had), 1GiB, 2MiB, transparent or off (default: auto)
    #[argh(option)]
    pub huge_pages: Option<String>,
    /// fill that memory before serving: true or false (default: true)
    #[argh(option)]
    pub prefault: Option<String>,
    /// folder for what goes from memory to an SSD, a file for each core; or a block device, a part for each core; or several of them, with
    /// commas between: cores are spread over them, by NUMA node (default: none)
    #[argh(option)]
    pub ssd: Option<String>,
    /// bytes there, of all cores together, such as 100GB: with --ssd (default: for devices all they have)
    #[argh(option)]
    pub ssd_size: Option<String>,
    /// bytes that are written in order and reclaimed together there, when it is made (default: 64MiB)
    #[argh(option)]
    pub ssd_region: Option<String>,
    /// how fast all of it is read to see whether it is whole: bytes a second of all cores together, auto (once in four weeks) or off; only while
    /// nobody else reads or writes there (default: auto)
    #[argh(option)]
    pub ssd_scrub: Option<String>,
    /// whether the device is told what is of no use there: auto (a block device is, a file is not), on or off (default: auto)
    #[argh(option)]
    pub ssd_trim: Option<String>,
    /// when objects go there: write-back (before memory is needed), write-through (when they are put) or off (default:
    /// write-back)
    #[argh(option)]
    pub ssd_mode: Option<String>,
    /// which objects go there: all, or second-touch, those that are used twice (default: all)
    #[argh(option)]
    pub ssd_admission: Option<String>,
    /// bytes written there in a day, of all cores together, such as 500GB; puts that are to be durable, and removals, are
    /// counted and go on (default: none, that is any number)
    #[argh(option)]
    pub ssd_write_budget: Option<String>,
    /// which object goes when room is needed: hit_density, s3fifo or lru (default: hit_density)
    #[argh(option)]
    pub eviction_policy: Option<String>,
    /// where core 0 listens; core i listens on the port plus i; port 0: free ports (default: 127.0.0.1:7400)
    #[argh(option)]
    pub listen: Option<String>,
    /// the address, or address and first port, that others should use (default: as --listen)
    #[argh(option)]
    pub advertise: Option<String>,
    /// folder of the sockets at which clients of this machine come to share memory, or off (default: /tmp/snowskin-UID)
    #[argh(option)]
    pub local_sockets: Option<String>,
    /// whose clients may connect there: owner, or any, who then get copies of values (default: owner)
    #[argh(option)]
    pub local_users: Option<String>,
    /// lanes of each core, at most: ways of clients of this machine to use values in place (default: 128)
    #[argh(option)]
    pub local_lanes_max: Option<String>,
    /// the master's address (default: a master inside this process)
    #[argh(option)]
    pub master: Option<String>,
    /// where the master inside this process serves HTTP (default: 127.0.0.1:0, a free port)
    #[argh(option)]
    pub master_http: Option<String>,
    /// milliseconds for which a read protects an object; for the master inside (default: 5000)
    #[argh(option)]
    pub lease_ms: Option<String>,
    /// percentage of memory in use at which eviction starts; for the master inside (default: 98%)
    #[argh(option)]
    pub high_watermark: Option<String>,
    /// percentage at which eviction stops; for the master inside (default: 97%)
    #[argh(option)]
    pub low_watermark: Option<String>,
    /// how places for values are chosen: random, free_ratio_first, fragmentation_aware or local_first; for the master
    /// inside (default: fragmentation_aware)
    #[argh(option)]
    pub allocation_strategy: Option<String>,
    /// microseconds for which a core waits busily before it parks; 0: never (default: 50)
    #[argh(option)]
    pub spin_us: Option<String>,
    /// connections of each core, at most (default: 1024)
    #[argh(option)]
    pub connections_max: Option<String>,
    /// off, error, warn, info, debug or trace (default: info)
    #[argh(option)]
    pub log: Option<String>,
    /// start even if less memory is available than the plan needs
    #[argh(switch)]
    pub overcommit: bool,
    /// print the version
    #[argh(switch)]
    pub version: bool,
}

/// What a program that embeds an engine has no use for.
const NOT_EMBEDDED: &str = "check, --help and --version are for the command line of snowskin-engine";

impl EngineArgs {
    /// The flags of a program that embeds an engine. Whatever is wrong with them is an error: nothing is printed, and the process goes on.
    pub(crate) fn of_flags<T: AsRef<str>>(
        flags: impl IntoIterator<Item = T>,
    ) -> Result<EngineArgs, ConfigError> {
        let flags: Vec<T> = flags.into_iter().collect();
        let flags: Vec<&str> = flags.iter().map(AsRef::as_ref).collect();
        match EngineArgs::from_args(&["snowskin-engine"], &flags) {
            Ok(args) if args.verb.is_none() && !args.version => Ok(args),
            Err(exit) if exit.status.is_err() => Err(ConfigError::Flags(exit.output.trim_end().to_owned())),
            Ok(_) | Err(_) => Err(ConfigError::Flags(NOT_EMBEDDED.to_owned())),
        }
    }

    /// The flags that were given, by the key of their setting.
    pub(crate) fn given(&self) -> Vec<(&'static str, &str)> {
        let flags = [
            ("name", &self.name),
            ("cores", &self.cores),
            ("numa", &self.numa),
            ("cpus", &self.cpus),
            ("memory", &self.memory),
            ("huge-pages", &self.huge_pages),
            ("prefault", &self.prefault),
            ("ssd", &self.ssd),
            ("ssd-size", &self.ssd_size),
            ("ssd-region", &self.ssd_region),
            ("ssd-scrub", &self.ssd_scrub),
            ("ssd-trim", &self.ssd_trim),
            ("ssd-mode", &self.ssd_mode),
            ("ssd-admission", &self.ssd_admission),
            ("ssd-write-budget", &self.ssd_write_budget),
            ("eviction-policy", &self.eviction_policy),
            ("listen", &self.listen),
            ("advertise", &self.advertise),
            ("local-sockets", &self.local_sockets),
            ("local-users", &self.local_users),
            ("local-lanes-max", &self.local_lanes_max),
            ("master", &self.master),
            ("master-http", &self.master_http),
            ("lease-ms", &self.lease_ms),
            ("high-watermark", &self.high_watermark),
            ("low-watermark", &self.low_watermark),
            ("allocation-strategy", &self.allocation_strategy),
            ("spin-us", &self.spin_us),
            ("connections-max", &self.connections_max),
            ("log", &self.log),
        ];
        let texts = flags.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
        texts.chain(self.overcommit.then_some(("overcommit", "true"))).collect()
    }
}

/// The line that `--version` prints.
pub fn version_line() -> String {
    format!("snowskin-engine {}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<EngineArgs, argh::EarlyExit> {
        EngineArgs::from_args(&["snowskin-engine"], arguments)
    }

    #[test]
    fn check_takes_the_same_flags_before_and_after() {
        for arguments in [["check", "--memory", "4GB"], ["--memory", "4GB", "check"]] {
            let args = parse(&arguments).expect("arguments");
            assert_eq!(args.verb, Some(Verb::Check));
            assert_eq!(args.given(), [("memory", "4GB")]);
        }
        assert_eq!(parse(&[]).expect("arguments").verb, None);
    }

    #[test]
    fn other_verbs_are_refused() {
        let refusal = parse(&["run"]).expect_err("a refusal");
        assert!(refusal.output.contains("write `check`"), "{}", refusal.output);
        assert!(refusal.status.is_err());
    }

    #[test]
    fn a_program_that_embeds_an_engine_gets_errors_and_goes_on() {
        let args = EngineArgs::of_flags(["--memory", "4GB", "--overcommit"]).expect("flags");
        assert_eq!(args.given(), [("memory", "4GB"), ("overcommit", "true")]);
        let refusal = |flags: &[&str]| EngineArgs::of_flags(flags).expect_err("a refusal").to_string();
        for flags in [&["check"][..], &["--help"], &["--version"], &["--memory", "4GB", "help"]] {
            assert_eq!(refusal(flags), NOT_EMBEDDED, "{flags:?}");
        }
        assert_eq!(refusal(&["--memry", "4GB"]), "Unrecognized argument: --memry");
        assert_eq!(refusal(&["--memory"]), "No value provided for option '--memory'.");
        let twice = refusal(&["--memory", "4GB", "--memory", "5GB"]);
        assert!(twice.contains("duplicate"), "{twice}");
    }

    #[test]
    fn every_setting_has_a_flag() {
        for key in crate::config::KEYS {
            let flag = format!("--{key}");
            let arguments = if key == "overcommit" { vec![flag.as_str()] } else { vec![flag.as_str(), "x"] };
            let args = parse(&arguments).unwrap_or_else(|exit| panic!("{key}: {}", exit.output));
            assert_eq!(args.given().iter().map(|(given, _)| *given).collect::<Vec<_>>(), [key]);
        }
    }

    #[test]
    fn help_names_the_file_keys() {
        let help = parse(&["--help"]).expect_err("help");
        assert!(help.status.is_ok() && help.output.contains("also a key of the configuration file"));
        assert!(version_line().starts_with("snowskin-engine "));
    }
}
