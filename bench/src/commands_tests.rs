use super::*;

#[test]
fn leases_shrink_with_time() {
    assert_eq!([None, Some(1.0), Some(10.0), Some(1_000.0)].map(scaled_lease_ms), [50, 5_000, 500, 50]);
}

#[test]
fn zeroes_are_refused_by_name() {
    assert_eq!(
        need_at_least_one(&[("--keys", 1), ("--threads", 0)]),
        Err(Failed::Usage("--threads must be at least 1".to_owned()))
    );
}

#[test]
fn a_cluster_larger_than_the_machine_is_refused_before_it_starts() {
    let plan = ClusterPlan {
        engines: 2,
        cores_per_engine: 1,
        memory_bytes_per_engine: u64::MAX / 4,
        lease_ms: 50,
        spin_us: None,
        ssd: None,
    };
    let error = check_memory(&plan).expect_err("too large");
    assert!(
        matches!(&error, Failed::Usage(words) if words.contains("--block") || words.contains("block or"))
    );
    assert!(check_memory(&ClusterPlan { memory_bytes_per_engine: 1, ..plan }).is_ok());
}

#[test]
fn files_of_a_tier_go_unless_they_are_to_be_kept() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().to_owned();
    let place =
        SsdPlace { folder: folder.clone(), bytes_per_engine: 9, region_bytes: None, manner: Vec::new() };
    let mut plan = ClusterPlan {
        engines: 1,
        cores_per_engine: 1,
        memory_bytes_per_engine: 1,
        lease_ms: 50,
        spin_us: None,
        ssd: Some(place),
    };
    assert_eq!(scratch_of(&mut plan, true), Ok(None));
    assert_eq!(plan.ssd.as_ref().map(|ssd| &ssd.folder), Some(&folder));
    let scratch = scratch_of(&mut plan, false).unwrap().expect("a folder of its own");
    let own = plan.ssd.as_ref().map(|ssd| ssd.folder.clone()).unwrap();
    assert!(own != folder && own.starts_with(&folder) && own.is_dir());
    drop(scratch);
    assert!(!own.exists() && folder.is_dir());
    assert!(scratch_of(&mut ClusterPlan { ssd: None, ..plan }, false).is_ok_and(|none| none.is_none()));
}

#[test]
fn what_is_for_a_tier_is_refused_without_one() {
    let words = |checked: Result<(), Failed>| match checked {
        Err(Failed::Usage(words)) => words,
        other => panic!("{other:?}"),
    };
    assert!(words(check_ssd(None, true, false, None)).contains("--ssd-size is for --ssd"));
    assert!(words(check_ssd(None, false, true, None)).contains("--keep is for --ssd"));
    let (folder, master) = (Path::new("ssd"), "127.0.0.1:1".parse().unwrap());
    assert!(words(check_ssd(Some(folder), false, false, Some(master))).contains("--master"));
    assert_eq!(check_ssd(Some(folder), true, true, None), Ok(()));
}
