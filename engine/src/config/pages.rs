//! The page plan: what lies under each core's segment, as far as it can be known beforehand, and who fills it.

use super::{Config, ConfigError, ValueError, refused};
use crate::placement::{CorePlacement, CpuPlan};
use snowskin_io::memory::{Backing, MappingRequest, PageChoice, PageFacts, PageForecast, Prefault};
use snowskin_io::topology::{ProcessingUnit, Topology};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where segments get their pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PagePlan {
    /// What was asked for.
    pub choice: PageChoice,
    /// Bytes of each segment.
    pub segment_bytes: u64,
    /// What the system had before.
    pub facts: PageFacts,
    /// What each core would get, by its number.
    pub forecasts: Vec<PageForecast>,
    /// Processors that help to fill each core's segment, by its number: nobody else's, of its node.
    pub helpers: Vec<Vec<usize>>,
}

impl PagePlan {
    /// Deals the huge pages that are free to the cores of `cpu_plan`, in their order.
    pub fn new(facts: PageFacts, cpu_plan: &CpuPlan, segment_bytes: u64, choice: PageChoice) -> Self {
        let mut left = facts.clone();
        let bytes = usize::try_from(segment_bytes).unwrap_or(usize::MAX);
        let forecasts: Vec<PageForecast> =
            cpu_plan.cores.iter().map(|core| left.forecast(bytes, core.node, choice)).collect();
        let helpers = vec![Vec::new(); forecasts.len()];
        PagePlan { choice, segment_bytes, facts, forecasts, helpers }
    }

    /// Deals the processors that may be used and run no core to the cores of their node.
    pub fn with_helpers(
        mut self,
        topology: &Topology,
        cpu_plan: &CpuPlan,
        node: Option<u32>,
        cpus: Option<&[usize]>,
    ) -> Self {
        let may_help = |unit: &&ProcessingUnit| {
            (node.is_none() || unit.node == node)
                && cpus.is_none_or(|cpus| cpus.contains(&unit.cpu))
                && cpu_plan.cores.iter().all(|core| core.cpu != unit.cpu)
        };
        let mut turns: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for unit in topology.units.iter().filter(may_help) {
            let there: Vec<u16> =
                cpu_plan.cores.iter().filter(|core| core.node == unit.node).map(|core| core.core).collect();
            let turn = turns.entry(unit.node).or_default();
            if let Some(core) = there.get(*turn % there.len().max(1)) {
                self.helpers[usize::from(*core)].push(unit.cpu);
                *turn += 1;
            }
        }
        self
    }

    /// Bytes of segments in huge pages that are set aside.
    pub fn huge_bytes(&self) -> u64 {
        self.forecasts.iter().map(|forecast| forecast.huge_bytes).sum()
    }

    /// What a core asks for.
    fn request(&self, core: &CorePlacement, prefault: bool) -> MappingRequest {
        let helpers = &self.helpers[usize::from(core.core)];
        let processors = std::iter::once(core.cpu).chain(helpers.iter().copied()).collect();
        MappingRequest {
            bytes: usize::try_from(self.segment_bytes).unwrap_or(usize::MAX),
            backing: Backing::Anonymous,
            pages: self.choice,
            node: core.node,
            prefault: prefault.then_some(Prefault { processors }),
        }
    }
}

impl Config {
    /// How a core's segment gets its memory.
    pub fn mapping_request(&self, core: u16) -> MappingRequest {
        let request = self.page_plan.request(&self.cpu_plan.cores[usize::from(core)], self.prefault.value);
        let lent = self.lent_file.clone().map(|path| Backing::Lent { path });
        MappingRequest { backing: lent.unwrap_or(Backing::Anonymous), ..request }
    }

    /// For a program that embeds an engine of one core: its memory is the beginning of this file, which is there, and long enough. What was in it is thrown
    /// away; it may be made shorter when the engine has ended.
    pub fn lend_file(mut self, path: PathBuf) -> Result<Self, ConfigError> {
        if self.cores.value != 1 {
            let error = ValueError::FileOfOneCore { cores: self.cores.value };
            return Err(refused("cores", &self.cores, error));
        }
        self.lent_file = Some(path);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{PlacementWish, plan};
    use snowskin_io::memory::HugePagePool;

    const TWO_MIB: usize = 2 << 20;

    fn two_nodes() -> Topology {
        let unit = |cpu: usize| ProcessingUnit { cpu, physical_core: cpu as u32, node: Some(cpu as u32 / 4) };
        Topology::new((0..8).map(unit).collect(), |_| None, false)
    }

    fn facts(free: [u64; 2]) -> PageFacts {
        let pool = |node, free| HugePagePool { page_bytes: TWO_MIB, node, total: free, free };
        let pools = vec![pool(None, free[0] + free[1]), pool(Some(0), free[0]), pool(Some(1), free[1])];
        PageFacts { pools, default_page_bytes: Some(TWO_MIB), shmem_mode: None }
    }

    fn on_nodes(cpus: &[usize], free: [u64; 2]) -> PagePlan {
        let topology = two_nodes();
        let wish = PlacementWish { cores: None, node: None, cpus: Some(cpus.to_vec()) };
        let cpu_plan = plan(&topology, &wish).expect("a plan");
        PagePlan::new(facts(free), &cpu_plan, 64 << 20, PageChoice::Auto)
            .with_helpers(&topology, &cpu_plan, None, None)
    }

    #[test]
    fn each_core_takes_from_its_own_node() {
        let plan = on_nodes(&[0, 1, 4], [63, 31]);
        let sizes: Vec<_> = plan.forecasts.iter().map(|forecast| forecast.huge_page_bytes).collect();
        assert_eq!(sizes, [Some(TWO_MIB), None, None]);
        assert_eq!(plan.huge_bytes(), 64 << 20);
        let notes = plan.forecasts[1].notes.join("; ");
        assert!(notes.contains("2 MiB huge pages: 31 free on NUMA node 0, 32 needed"), "{notes}");
        let notes = plan.forecasts[2].notes.join("; ");
        assert!(notes.contains("2 MiB huge pages: 31 free on NUMA node 1, 32 needed"), "{notes}");
    }

    #[test]
    fn idle_processors_help_on_their_node() {
        let plan = on_nodes(&[0, 1, 4], [0, 0]);
        assert_eq!(plan.helpers, [vec![2], vec![3], vec![5, 6, 7]]);
        assert_eq!(on_nodes(&[0, 1], [0, 0]).helpers, [vec![2], vec![3]]);
        let topology = two_nodes();
        let wish = PlacementWish { cores: Some(1), node: None, cpus: Some(vec![1, 2]) };
        let cpu_plan = crate::placement::plan(&topology, &wish).expect("a plan");
        let narrow = PagePlan::new(facts([0, 0]), &cpu_plan, 4096, PageChoice::Plain).with_helpers(
            &topology,
            &cpu_plan,
            None,
            wish.cpus.as_deref(),
        );
        let request = narrow.request(&cpu_plan.cores[0], true);
        assert_eq!(request.prefault, Some(Prefault { processors: vec![1, 2] }));
        assert_eq!((request.bytes, request.node, request.pages), (4096, Some(0), PageChoice::Plain));
        assert_eq!(narrow.request(&cpu_plan.cores[0], false).prefault, None);
    }
}
