//! Which pages segments would lie in, and what to do to get better ones.

use super::abilities::{Ability, KernelFacts, Needs, Verdict, ability};
use snowskin_io::memory::{PageChoice, PageFacts, TransparentTrial};
use snowskin_protocol::ByteSize;
use std::collections::BTreeMap;

/// Bytes of the huge page that is advised where nobody chose another.
const ADVISED_PAGE_BYTES: usize = 2 << 20;
/// Sizes that are used.
const PAGE_BYTES: [usize; 2] = [ADVISED_PAGE_BYTES, 1 << 30];
/// Where root says whether shared memory gets transparent huge pages.
const SHMEM_ADVICE: &str = "as root: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// What is set aside, on each node, and whether it is enough.
pub(super) fn huge_pages(needs: &Needs<'_>) -> Ability {
    let name = "huge pages";
    let plan = needs.pages;
    let found = free_words(&plan.facts);
    if let PageChoice::Transparent | PageChoice::Plain = plan.choice {
        return ability(name, Verdict::Good, format!("{found}; not asked for"), "");
    }
    let without = plan.forecasts.iter().filter(|forecast| forecast.huge_page_bytes.is_none()).count();
    if without == 0 {
        return ability(name, Verdict::Good, found, "");
    }
    let explicit = plan.choice != PageChoice::Auto;
    let all = if without == plan.forecasts.len() { "segments" } else { "some segments" };
    let advice = match (explicit, remedies(needs)) {
        (true, words) => format!("{words}, or choose huge-pages auto"),
        (false, words) => format!("{all} use other pages; for huge ones {words}"),
    };
    ability(name, if explicit { Verdict::Fatal } else { Verdict::Limited }, found, &advice)
}

/// `2 MiB: 12 of 40 free on node 0, none on node 1`.
fn free_words(facts: &PageFacts) -> String {
    let size = |page_bytes: usize| {
        let pools: Vec<_> = facts.pools.iter().filter(|pool| pool.page_bytes == page_bytes).collect();
        let nodes: Vec<_> = pools.iter().filter(|pool| pool.node.is_some()).collect();
        let counts = |total: u64, free: u64| match total {
            0 => "none".to_owned(),
            _ => format!("{free} of {total} free"),
        };
        let places: Vec<String> = match nodes.is_empty() {
            true => pools.iter().map(|pool| counts(pool.total, pool.free)).collect(),
            false => {
                let place = |node: u32, words: String| format!("{words} on node {node}");
                nodes
                    .iter()
                    .filter_map(|pool| Some(place(pool.node?, counts(pool.total, pool.free))))
                    .collect()
            }
        };
        let size = ByteSize(page_bytes as u64);
        (!places.is_empty()).then(|| format!("{size}: {}", places.join(", ")))
    };
    let sizes: Vec<String> = PAGE_BYTES.into_iter().filter_map(size).collect();
    if sizes.is_empty() { "none in this kernel".to_owned() } else { sizes.join("; ") }
}

/// The commands that set aside what is missing, by node.
fn remedies(needs: &Needs<'_>) -> String {
    let plan = needs.pages;
    let page_bytes = if plan.choice == PageChoice::OneGiB { PAGE_BYTES[1] } else { ADVISED_PAGE_BYTES };
    let many_nodes = plan.facts.pools.iter().filter(|pool| pool.page_bytes == page_bytes).count() > 2;
    // Pages, and whether some of them are missing. Cores that have larger ones need none of these.
    let mut wanted: BTreeMap<Option<u32>, (u64, bool)> = BTreeMap::new();
    for (node, forecast) in needs.nodes.iter().zip(&plan.forecasts) {
        let of_node = wanted.entry(node.filter(|_| many_nodes)).or_default();
        if forecast.huge_page_bytes.is_none_or(|bytes| bytes == page_bytes) {
            of_node.0 += plan.segment_bytes.div_ceil(page_bytes as u64);
        }
        of_node.1 |= forecast.huge_page_bytes.is_none();
    }
    let missing = wanted.into_iter().filter(|(_, (_, is_missing))| *is_missing);
    let commands: Vec<String> =
        missing.map(|(node, (pages, _))| plan.facts.remedy(pages, page_bytes, node)).collect();
    commands.join("; ")
}

/// What segments lie in that have no huge pages.
pub(super) fn segment_pages(facts: &KernelFacts, needs: &Needs<'_>) -> Ability {
    let name = "pages of segments";
    let plan = needs.pages;
    let mut kinds: BTreeMap<usize, usize> = BTreeMap::new();
    for forecast in &plan.forecasts {
        *kinds.entry(forecast.huge_page_bytes.unwrap_or(0)).or_default() += 1;
    }
    let others = kinds.remove(&0).unwrap_or(0);
    let count = |cores: usize, words: &str| match plan.forecasts.len() == cores {
        true => words.to_owned(),
        false => format!("{words} for {cores} of {} cores", plan.forecasts.len()),
    };
    let mut found: Vec<String> = kinds
        .iter()
        .map(|(&bytes, &cores)| count(cores, &format!("huge pages of {}", ByteSize(bytes as u64))))
        .collect();
    if others == 0 {
        return ability(name, Verdict::Good, found.join(", "), "");
    }
    if let PageChoice::OneGiB | PageChoice::TwoMiB = plan.choice {
        found.push(count(others, "none: there are no huge pages"));
        return ability(name, Verdict::Limited, found.join(", "), "see the line above");
    }
    let mode = plan.facts.shmem_mode.as_deref().unwrap_or("absent");
    let (words, verdict, advice) = match (plan.choice, facts.transparent_trial) {
        (PageChoice::Plain, _) => ("plain pages, as asked for".to_owned(), Verdict::Good, String::new()),
        (_, TransparentTrial::WhenTouched) => {
            ("transparent huge pages".to_owned(), Verdict::Good, String::new())
        }
        (_, TransparentTrial::WhenPrefaulted) if needs.prefault => {
            ("transparent huge pages, gathered when pre-faulted".to_owned(), Verdict::Good, String::new())
        }
        (choice, trial) => {
            let without =
                format!("plain pages: the kernel gives no transparent ones (shmem_enabled: {mode})");
            let or = if trial == TransparentTrial::Never { "" } else { ", or prefault" };
            let fatal = choice == PageChoice::Transparent;
            let verdict = if fatal { Verdict::Fatal } else { Verdict::Limited };
            (without, verdict, format!("{SHMEM_ADVICE}{or}"))
        }
    };
    found.push(count(others, &words));
    ability(name, verdict, found.join(", "), &advice)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::PagePlan;
    use crate::placement::{CorePlacement, CpuPlan};
    use snowskin_io::memory::HugePagePool;
    use snowskin_io::probe::ExecutorProbeError;

    const GIB: u64 = 1 << 30;

    /// Four cores with 256 MiB each on a machine with so many free pages of 2 MiB.
    pub(crate) fn plan(choice: PageChoice, free: u64) -> PagePlan {
        let pool = |page_bytes, node, free| HugePagePool { page_bytes, node, total: free, free };
        let pools = [(2 << 20, free), (1 << 30, 0)]
            .into_iter()
            .flat_map(|(bytes, free)| [pool(bytes, None, free), pool(bytes, Some(0), free)])
            .collect();
        let facts =
            PageFacts { pools, default_page_bytes: Some(2 << 20), shmem_mode: Some("never".to_owned()) };
        let core = |core: u16| CorePlacement { core, cpu: usize::from(core), node: Some(0), sharing: None };
        let cpu_plan = CpuPlan {
            cores: (0..4).map(core).collect(),
            oversubscribed: false,
            spin: true,
            unit_count: 4,
            simulated: false,
        };
        PagePlan::new(facts, &cpu_plan, GIB / 4, choice)
    }

    fn rows(choice: PageChoice, free: u64, trial: TransparentTrial, prefault: bool) -> (Ability, Ability) {
        let plan = plan(choice, free);
        let needs = Needs { cores: 4, connections_max: 1, nodes: &[Some(0); 4], pages: &plan, prefault };
        let executor: Result<(), ExecutorProbeError> = Ok(());
        let facts = KernelFacts {
            release: None,
            executor,
            memlock_bytes: None,
            open_files: None,
            transparent_trial: trial,
            transparent_huge_pages: None,
        };
        (huge_pages(&needs), segment_pages(&facts, &needs))
    }

    #[test]
    fn enough_huge_pages_are_good() {
        let (huge, segments) = rows(PageChoice::Auto, 512, TransparentTrial::Never, true);
        assert_eq!(huge.found, "2 MiB: 512 of 512 free on node 0; 1 GiB: none on node 0");
        assert_eq!((huge.verdict, segments.verdict), (Verdict::Good, Verdict::Good));
        assert_eq!(segments.found, "huge pages of 2 MiB");
    }

    #[test]
    fn too_few_say_what_to_do() {
        let (huge, segments) = rows(PageChoice::Auto, 300, TransparentTrial::WhenPrefaulted, true);
        assert_eq!(huge.verdict, Verdict::Limited);
        assert_eq!(
            huge.advice,
            "some segments use other pages; for huge ones as root: sysctl vm.nr_hugepages=512"
        );
        assert_eq!(
            segments.found,
            "huge pages of 2 MiB for 2 of 4 cores, transparent huge pages, gathered when pre-faulted for 2 of 4 cores"
        );
        let (huge, _) = rows(PageChoice::TwoMiB, 300, TransparentTrial::WhenPrefaulted, true);
        assert_eq!(huge.verdict, Verdict::Fatal);
        assert!(huge.advice.ends_with("or choose huge-pages auto"), "{}", huge.advice);
        let (huge, _) = rows(PageChoice::OneGiB, 300, TransparentTrial::WhenPrefaulted, true);
        assert!(huge.advice.contains("boot with hugepagesz=1G hugepages=4"), "{}", huge.advice);
    }

    #[test]
    fn only_nodes_that_lack_pages_are_advised_about() {
        let pool = |page_bytes, node, free| HugePagePool { page_bytes, node, total: free, free };
        let pools = [(2 << 20, [256, 10]), (1 << 30, [0, 0])].into_iter().flat_map(|(bytes, free)| {
            let sum = free.iter().sum();
            [pool(bytes, None, sum), pool(bytes, Some(0), free[0]), pool(bytes, Some(1), free[1])]
        });
        let facts = PageFacts { pools: pools.collect(), default_page_bytes: Some(2 << 20), shmem_mode: None };
        let nodes = [Some(0), Some(0), Some(1), Some(1)];
        let core = |core: u16| CorePlacement {
            core,
            cpu: core.into(),
            node: nodes[usize::from(core)],
            sharing: None,
        };
        let cores = (0..4).map(core).collect();
        let cpu_plan = CpuPlan { cores, oversubscribed: false, spin: true, unit_count: 4, simulated: false };
        let plan = PagePlan::new(facts, &cpu_plan, GIB / 4, PageChoice::Auto);
        let needs = Needs { cores: 4, connections_max: 1, nodes: &nodes, pages: &plan, prefault: true };
        let advice = huge_pages(&needs).advice;
        assert!(
            advice.contains("echo 256 > /sys/devices/system/node/node1/") && !advice.contains("node0"),
            "{advice}"
        );
    }

    #[test]
    fn transparent_pages_are_tried_and_not_believed() {
        for (choice, trial, prefault, verdict) in [
            (PageChoice::Auto, TransparentTrial::WhenTouched, false, Verdict::Good),
            (PageChoice::Auto, TransparentTrial::WhenPrefaulted, false, Verdict::Limited),
            (PageChoice::Auto, TransparentTrial::Never, true, Verdict::Limited),
            (PageChoice::Transparent, TransparentTrial::Never, true, Verdict::Fatal),
            (PageChoice::Transparent, TransparentTrial::WhenPrefaulted, true, Verdict::Good),
            (PageChoice::Plain, TransparentTrial::Never, true, Verdict::Good),
        ] {
            let (_, segments) = rows(choice, 0, trial, prefault);
            assert_eq!(segments.verdict, verdict, "{choice} {trial:?}: {segments:?}");
            assert_eq!(segments.advice.is_empty(), verdict == Verdict::Good, "{segments:?}");
            if verdict != Verdict::Good {
                assert!(segments.found.contains("(shmem_enabled: never)"), "{segments:?}");
            }
        }
    }
}
