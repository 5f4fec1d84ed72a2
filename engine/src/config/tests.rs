use super::*;
use snowskin_io::memory::{Backing, HugePagePool};
use snowskin_io::topology::ProcessingUnit;
use snowskin_protocol::units::{GIB, MIB};
use std::collections::BTreeSet;

const FILE: &str = "e.toml";

fn machine() -> Machine {
    let unit = |cpu: usize| ProcessingUnit { cpu, physical_core: cpu as u32, node: Some(0) };
    Machine {
        topology: Topology::new((0..4).map(unit).collect(), |_| None, false),
        available: Some(AvailableMemory { bytes: 8 * GIB, limit: "available here".to_owned() }),
        pages: PageFacts::default(),
        host_name: "cache-1".to_owned(),
        process: process_name(42, 0),
        resolve: |host| match host {
            "master-1" => Ok(IpAddr::from([10, 0, 0, 1])),
            _ => Err(io::Error::other("no such host")),
        },
    }
}

fn resolve_on(machine: Machine, flags: &[(&'static str, &str)], file: &str) -> Result<Config, ConfigError> {
    let layers = Layers::new(flags, Some((Path::new(FILE), file)))?;
    Config::resolve(&layers, machine)
}

fn from_flags(flags: &[(&'static str, &str)]) -> Config {
    resolve_on(machine(), flags, "").expect("a configuration")
}

fn refusal(flags: &[(&'static str, &str)], file: &str) -> String {
    resolve_on(machine(), flags, file).expect_err("a refusal").to_string()
}

#[test]
fn the_defaults_are_safe_and_say_why() {
    let config = from_flags(&[]);
    assert_eq!(config.memory.value, ByteSize(2 * GIB));
    assert_eq!(config.memory.source.to_string(), "default: a quarter of 8 GiB available");
    assert_eq!((config.name.value.as_str(), config.cores.value), ("cache-1:7400", 4));
    assert_eq!(config.cluster_settings(), Settings::default());
    assert_eq!(config.spin(), Duration::from_micros(50));
    assert!(config.warnings().is_empty() && config.verify().is_ok());
    assert!(config.listen.value.ip().is_loopback() && config.master_http.value.ip().is_loopback());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = "memory = \"1GB\"\n\ncores = 2 # why\nhigh-watermark = 95.5\nlow-watermark = \"90%\"\novercommit = true\n";
    let config = resolve_on(machine(), &[("memory", "3GB")], file).expect("a configuration");
    assert_eq!((config.memory.value, config.memory.source), (ByteSize(3 * GIB), Source::Flag("memory")));
    assert_eq!((config.cores.value, config.cores.source.to_string()), (2, "from e.toml:3".to_owned()));
    assert_eq!((config.high_watermark.value, config.low_watermark.value), (Permille(955), Permille(900)));
    assert!(config.overcommit.value);
}

#[test]
fn rows_cover_every_key_once() {
    let config = from_flags(&[("cpus", "2,0"), ("advertise", "10.0.0.5:99"), ("master", "master-1:7300")]);
    let rows = config.rows();
    let keys: BTreeSet<&str> = rows.iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys.len(), KEYS.len());
    let value = |key: &str| rows.iter().find(|row| row.0 == key).map(|row| row.1.clone()).expect("a row");
    assert_eq!(value("cpus"), "2,0");
    assert_eq!(value("numa"), "any node");
    assert_eq!(value("advertise"), "10.0.0.5:99");
    assert_eq!(value("master"), "10.0.0.1:7300");
    assert_eq!(value("log"), "info");
    assert_eq!((value("huge-pages"), value("prefault")), ("auto".to_owned(), "true".to_owned()));
    assert_eq!(value("lease-ms"), "the master's");
    assert_eq!(
        (value("eviction-policy"), value("allocation-strategy")),
        ("hit_density".to_owned(), "the master's".to_owned())
    );
}

#[test]
fn errors_of_the_file_name_file_line_and_key() {
    for (file, expected) in [
        ("\nmemory = \"4XB\"", "e.toml:2: memory: \"4XB\" is not a size"),
        ("cores = 0", "e.toml:1: cores: \"0\" is not usable here: write a whole number from 1 to 1024"),
        ("cores = 1\nmemmory = 1", "e.toml:2: there is no setting memmory, did you mean memory?"),
        ("colour = 1", "e.toml:1: there is no setting colour; there are name, cores"),
        ("cpus = [0, 1]", "e.toml:1: cpus: no setting is of type array"),
        ("[engine]\ncores = 1", "there is no setting engine"),
        ("cores = 0x10", "e.toml:1: cores: no setting is of type integer: write a text, a decimal number"),
        ("cores = 1\ncores == 2", "e.toml:2: this is not TOML"),
        ("cores = 1\ncores = 2", "e.toml:2: this is not TOML"),
        ("overcommit = \"maybe\"", "e.toml:1: overcommit: \"maybe\" is neither true nor false"),
    ] {
        let error = refusal(&[], file);
        assert!(error.contains(expected), "{error}\nshould have: {expected}");
    }
}

#[test]
fn errors_of_flags_name_the_flag_and_what_to_do() {
    for (flags, expected) in [
        (
            &[("cores", "1025")][..],
            "--cores: \"1025\" is not usable here: write a whole number from 1 to 1024",
        ),
        (&[("memory", "3MB")], "--memory: 3 MiB is too little for 4 cores: give at least 4 MiB"),
        (&[("listen", "127.0.0.1:65534")], "use a first port up to 65532"),
        (&[("local-sockets", "sockets")], "write an absolute path of at most 50 bytes, or off"),
        (&[("local-users", "all")], "--local-users: \"all\" is not usable here: write owner or any"),
        (&[("local-lanes-max", "9999")], "from 0 to 8192"),
        (&[("advertise", "10.0.0.1:65534")], "--advertise: 4 cores from port 65534 need ports up to 65537"),
        (&[("listen", "0.0.0.0:7400")], "say with advertise which one"),
        (&[("advertise", "0.0.0.0")], "write the one that others should use"),
        (&[("master", "nowhere:1")], "the address of host \"nowhere\" cannot be found"),
        (&[("high-watermark", "96%")], "--high-watermark: eviction would start at 96% and stop at 97%"),
        (&[("low-watermark", "99")], "--low-watermark: eviction would start at 98% and stop at 99%"),
        (&[("high-watermark", "120%")], "write one from 0.1% to 100%"),
        (&[("master", "10.0.0.1:1"), ("lease-ms", "1")], "--lease-ms: the master at 10.0.0.1:1 decides this"),
        (&[("master", "10.0.0.1:1"), ("master-http", "127.0.0.1:1")], "--master-http: the master at"),
        (
            &[("master-http", "127.0.0.1:7402")],
            "port 7402 is the one of core 2: use a port outside 7400 to 7403",
        ),
        (&[("numa", "3")], "--numa: NUMA node 3 has no processor"),
        (&[("cpus", "0,9")], "--cpus: cpu 9 does not exist"),
        (&[("cpus", "x")], "such as 0,2,4-7"),
        (&[("spin-us", "5000")], "from 0 to 1000"),
        (&[("connections-max", "0")], "from 1 to 8192"),
        (&[("log", "loud")], "write off, error, warn"),
        (&[("name", "a b")], "--name: a name has"),
        (&[("huge-pages", "big")], "--huge-pages: \"big\" is not a kind of pages: write auto, 1GiB"),
        (&[("memory", "1GB"), ("huge-pages", "1GiB")], "give at least 4 GiB, or use auto"),
        (&[("prefault", "maybe")], "--prefault: \"maybe\" is neither true nor false"),
    ] {
        let error = refusal(flags, "");
        assert!(error.contains(expected), "{error}\nshould have: {expected}");
    }
}

#[test]
fn more_memory_than_there_is_needs_a_word() {
    let config = from_flags(&[("memory", "9GB")]);
    let error = config.verify().expect_err("a refusal").to_string();
    assert!(error.starts_with("1.7 GiB of memory are missing:\n"), "{error}");
    assert!(
        error.contains("in all: segments + index + buffers") && error.ends_with("--overcommit"),
        "{error}"
    );
    let config = from_flags(&[("memory", "9GB"), ("overcommit", "true")]);
    assert!(config.verify().is_ok());
    assert!(config.warnings()[0].to_string().contains("the kernel may kill the engine"));
}

fn with_huge_pages(pages: u64) -> Machine {
    let pool = |node| HugePagePool { page_bytes: 2 << 20, node, total: pages, free: pages };
    let pools = vec![pool(None), pool(Some(0))];
    Machine { pages: PageFacts { pools, ..PageFacts::default() }, ..machine() }
}

#[test]
fn huge_pages_that_are_set_aside_count() {
    let flags = [("memory", "12GB")];
    let config = resolve_on(with_huge_pages(6144), &flags, "").expect("a configuration");
    assert_eq!(config.memory_plan.huge_bytes, 12 * GIB);
    assert!(config.verify().is_ok() && config.memory_plan.to_string().contains("of it in huge pages"));
    let config = resolve_on(with_huge_pages(6144), &flags, "huge-pages = \"off\"").expect("a configuration");
    assert!(config.verify().is_err());
    // Half of the cores get them: the others must do with what is available.
    let config = resolve_on(with_huge_pages(3072), &flags, "").expect("a configuration");
    assert_eq!((config.memory_plan.huge_bytes, config.verify().is_ok()), (6 * GIB, true));
    let config = resolve_on(with_huge_pages(4096), &[], "").expect("a configuration");
    assert_eq!(config.memory.value, ByteSize(4 * GIB));
    assert_eq!(
        config.memory.source.to_string(),
        "default: a quarter of 16 GiB available, 8 GiB of it huge pages"
    );
}

#[test]
fn each_core_asks_for_its_segment() {
    let flags = [("memory", "4GB"), ("cores", "2"), ("huge-pages", "2MiB"), ("prefault", "false")];
    let lazy = from_flags(&flags).mapping_request(1);
    assert_eq!((lazy.bytes, lazy.pages, lazy.node), (2 << 30, PageChoice::TwoMiB, Some(0)));
    assert_eq!(lazy.prefault, None);
    let eager = from_flags(&flags[..2]).mapping_request(1);
    assert_eq!(eager.pages, PageChoice::Auto);
    assert_eq!(eager.prefault.expect("by default").processors, [1, 3]);
}

#[test]
fn a_file_is_the_memory_of_one_core() {
    let lent =
        from_flags(&[("cores", "1"), ("memory", "64MB")]).lend_file("/dev/shm/x".into()).expect("one core");
    let request = lent.mapping_request(0);
    assert_eq!((request.bytes, request.backing), (64 << 20, Backing::Lent { path: "/dev/shm/x".into() }));
    let error = from_flags(&[("cores", "2")]).lend_file("/dev/shm/x".into()).expect_err("two cores");
    assert!(error.to_string().contains("not of 2"), "{error}");
}

#[test]
fn a_simulated_machine_is_refused() {
    let mut simulated = machine();
    simulated.topology.simulated = true;
    let config = resolve_on(simulated, &[], "").expect("a configuration");
    assert!(config.verify().expect_err("a refusal").to_string().ends_with("unset it"));
}

#[test]
fn the_default_memory_has_a_ceiling_a_floor_and_works_blind() {
    let with = |available: Option<u64>| {
        let available = available.map(|bytes| AvailableMemory { bytes, limit: String::new() });
        resolve_on(Machine { available, ..machine() }, &[], "").expect("a configuration").memory
    };
    assert_eq!(with(Some(999 * GIB)).value, ByteSize(16 * GIB));
    assert!(with(Some(999 * GIB)).source.to_string().contains("the most that is taken unasked"));
    assert_eq!(with(Some(MIB)).value, ByteSize(4 * MIB));
    assert_eq!(with(None).value, ByteSize(256 * MIB));
}

#[test]
fn addresses_of_cores() {
    let config = from_flags(&[("listen", "127.0.0.1:9000"), ("advertise", "10.0.0.5:100")]);
    let bound: SocketAddr = "127.0.0.1:9003".parse().expect("an address");
    assert_eq!(config.listen_address(3), bound);
    assert_eq!(config.advertised_address(3, bound).to_string(), "10.0.0.5:103");
    let config = from_flags(&[("listen", "0.0.0.0:0"), ("advertise", "10.0.0.5")]);
    assert_eq!(config.listen_address(3).port(), 0);
    assert_eq!(config.advertised_address(3, bound).to_string(), "10.0.0.5:9003");
    assert_eq!(config.name.value, "cache-1:pid-42");
    assert_eq!(from_flags(&[]).advertised_address(3, bound), bound);
}

#[test]
fn warnings_for_what_is_probably_not_meant() {
    let warned = |flags: &[(&'static str, &str)]| from_flags(flags).warnings();
    let open: SocketAddr = "10.0.0.5:7400".parse().expect("an address");
    assert_eq!(warned(&[("listen", "10.0.0.5:7400")]), [Warning::Unprotected(open)]);
    assert_eq!(warned(&[("master-http", "10.0.0.5:7400")]), [Warning::Unprotected(open)]);
    assert_eq!(warned(&[("cores", "9"), ("spin-us", "20")]), [Warning::NoSpin]);
    assert_eq!(warned(&[("cores", "9")]), []);
    assert_eq!(from_flags(&[("cores", "9")]).spin(), Duration::ZERO);
    let folder = tempfile::tempdir().expect("a folder");
    let device = folder.path().join("device");
    fs::write(&device, []).expect("a file");
    let on = |path: &std::path::Path, more: Option<(&'static str, &'static str)>| {
        let path: &'static str = path.to_str().expect("text").to_owned().leak();
        let flags = [("cores", "1"), ("ssd", path), ("ssd-size", "1GB")];
        from_flags(&flags.into_iter().chain(more).collect::<Vec<_>>())
    };
    assert_eq!(on(&device, None).warnings(), [Warning::Forgetful]);
    assert_eq!(on(&device, Some(("master", "127.0.0.1:7300"))).warnings(), []);
    assert_eq!(on(folder.path(), None).warnings(), []);
    assert_eq!(on(folder.path(), None).own_ledger(), Some(folder.path().join("ledger")));
    for warning in [Warning::Unprotected(open), Warning::NoSpin, Warning::Forgetful] {
        assert!(!warning.to_string().is_empty());
    }
}

#[test]
fn this_machine_can_be_configured() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("engine.toml");
    fs::write(&path, "memory = \"8MB\"\ncores = 2\n").expect("a file");
    let args = EngineArgs { config: Some(path.clone()), ..EngineArgs::default() };
    let config = Config::load(&args).expect("a configuration");
    assert_eq!((config.cores.value, config.memory.value), (2, ByteSize(8 * MIB)));
    fs::remove_file(&path).expect("removal");
    let error = Config::load(&args).expect_err("no file").to_string();
    assert!(error.contains("cannot read the configuration file"), "{error}");
}

#[test]
fn the_ssd_tier_has_places_and_a_size() {
    let places = |text: &'static str| {
        let flags = [("ssd", text), ("ssd-size", "10GB"), ("cores", "2")];
        resolve_on(machine(), &flags, "").map(|config| config.ssd_plan().map(|plan| plan.places))
    };
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(places("/srv/a, /srv/b").expect("two"), Some(paths(&["/srv/a", "/srv/b"])));
    assert!(from_flags(&[("ssd", "none")]).ssd_plan().is_none());
    for (text, words) in
        [("srv", "no place for what goes"), ("/a,", "no place for"), ("/a,/b,/a", "/a is named twice")]
    {
        let said = places(text).expect_err("a refusal").to_string();
        assert!(said.contains(words), "{said}");
    }
    let plan = from_flags(&[("ssd", "/srv"), ("ssd-size", "10GB"), ("ssd-region", "1MiB"), ("cores", "2")]);
    let plan = plan.ssd_plan().expect("there is one");
    assert_eq!((plan.bytes, plan.settings.region_bytes), (Some(10 * GIB), MIB));
    assert_eq!(plan.nodes, [Some(0), Some(0)]);
    let said = refusal(&[("ssd", "/srv"), ("cores", "2")], "");
    assert!(said.contains("give --ssd-size of at least 1026 MiB"), "{said}");
    assert!(refusal(&[("ssd-size", "10GB")], "").contains("there is no --ssd"));
}

#[test]
fn engines_of_one_process_have_names_of_their_own() {
    let named = |earlier| {
        let machine = Machine { process: process_name(42, earlier), ..machine() };
        resolve_on(machine, &[("listen", "127.0.0.1:0")], "").expect("a configuration").name.value
    };
    assert_eq!([named(0), named(1)], ["cache-1:pid-42", "cache-1:pid-42-1"]);
    let flags = ["--listen", "127.0.0.1:0", "--cores", "1", "--memory", "16MiB"];
    let names = [(); 2].map(|()| Config::from_flags(flags).expect("a configuration").name.value);
    assert_ne!(names[0], names[1]);
}

#[test]
fn flags_of_a_library_are_refused_with_a_sentence() {
    let refusal = |flags: &[&str]| Config::from_flags(flags).expect_err("a refusal").to_string();
    assert_eq!(
        refusal(&["--help"]),
        "check, --help and --version are for the command line of snowskin-engine"
    );
    assert!(refusal(&["--memory", "4XB"]).starts_with("--memory: \"4XB\" is not a size"));
}
