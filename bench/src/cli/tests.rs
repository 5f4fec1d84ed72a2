use super::*;

fn parsed(text: &str) -> Result<Command, ExitCode> {
    parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

#[test]
fn every_option_is_understood() {
    let run = "run --workload zipf --theta 0.9 --keys 10 --value-size 1MiB,64KiB --batch 2 --threads 3 --clients 2 \
               --mix get=0.5,view=0.2,match_prefix=0.3 --duration 3s --rate 100 --verify --refill --json a --json-lines b \
               --report c --engines 1 --cores 1 --memory 1GB --lease-ms 100 --spin-us 0";
    let Ok(Command::Run(run)) = parsed(run) else { panic!("run") };
    assert_eq!((run.threads, run.duration, run.verify), (3, Some(Duration::from_secs(3)), true));
    let replay = "replay --trace t --model deepseek-v3 --memory 5% --ssd d --ssd-size 40% --time-scale 100 --limit 5 --closed";
    let Ok(Command::Replay(replay)) = parsed(replay) else { panic!("replay") };
    assert_eq!((replay.memory, replay.closed), (Memory::PartOfUnique(0.05), true));
    assert!(matches!(parsed("limits --rounds 1 --pin --wake spin"), Ok(Command::Limits(_))));
    let limits = parsed("limits --transport shm --part views --part cores");
    let Ok(Command::Limits(limits)) = limits else { panic!("limits") };
    assert_eq!(limits.part, [Part::Views, Part::Cores]);
    let Ok(Command::Limits(limits)) = parsed("limits --ssd d --part reads --slice 1s") else {
        panic!("limits")
    };
    assert_eq!((limits.ssd, limits.slice), (Some(PathBuf::from("d")), Some(Duration::from_secs(1))));
    let idle = parsed("idle --clients 3 --duration 5s --transport tcp --spin-us 0 --json a");
    let Ok(Command::Idle(idle)) = idle else { panic!("idle") };
    assert_eq!((idle.clients, idle.transport), (3, Transport::Tcp));
    assert!(matches!(parsed("demo"), Ok(Command::Demo(_))));
    let alloc = "alloc --memory 1GiB --strategy random --segments 4 --copies 2 --sizes pair --churn 5 --seed 2 --report r";
    let Ok(Command::Alloc(alloc)) = parsed(alloc) else { panic!("alloc") };
    assert_eq!((alloc.strategy, alloc.sizes), (Some(Strategy::Random), Some(AllocSizes::Pair)));
}

#[test]
fn options_of_policy_are_understood() {
    let policy = "policy --trace a --trace b --shares 5,50 --policies s3fifo --no-hints --limit 9 --report r";
    let Ok(Command::Policy(policy)) = parsed(policy) else { panic!("policy") };
    assert_eq!((policy.trace.len(), policy.no_hints, policy.shares), (2, true, "5,50".parse().unwrap()));
}

#[test]
fn what_is_not_understood_has_status_2_and_help_has_0() {
    for bad in [
        "",
        "fly",
        "alloc --strategy best",
        "policy --policies best",
        "limits --part all",
        "policy --shares 0",
        "run --keys many",
        "replay --model gpt-7",
        "run --mix get=2x",
        "replay --memory -3%",
    ] {
        assert_eq!(parsed(bad).err(), Some(ExitCode::from(2)), "{bad}");
    }
    for help in [
        "--help",
        "run --help",
        "replay --help",
        "limits --help",
        "idle --help",
        "alloc --help",
        "policy --help",
        "demo --help",
    ] {
        assert_eq!(parsed(help).err(), Some(ExitCode::SUCCESS), "{help}");
    }
}
