//! `snowskin-engine check`: what would be run, and whether it can.
//!
//! The report has five parts, always in this order: configuration with sources, memory as a sum, processors, the
//! kernel's abilities, the verdict. Columns are aligned and nothing in it depends on the terminal, so that two reports
//! can be compared with `diff`.

mod abilities;
mod pages;

use crate::cli::version_line;
use crate::config::Config;
use abilities::{Ability, KernelFacts, Needs, Verdict, judge};
use std::fmt::{self, Write};

/// The report, and whether the engine can start with this configuration (from [`Config::read`]) on this machine.
/// Tries an executor, which takes some milliseconds.
pub fn report(config: &Config) -> (String, bool) {
    let mut text = String::new();
    let can_start = write_report(&mut text, config, &KernelFacts::read()).expect("a String takes all");
    (text, can_start)
}

fn write_report(out: &mut dyn Write, config: &Config, facts: &KernelFacts) -> Result<bool, fmt::Error> {
    let nodes: Vec<Option<u32>> = config.cpu_plan.cores.iter().map(|core| core.node).collect();
    let needs = Needs {
        cores: config.cores.value,
        connections_max: config.memory_plan.connections_max,
        nodes: &nodes,
        pages: &config.page_plan,
        prefault: config.prefault.value,
    };
    let abilities = judge(facts, &needs);
    writeln!(out, "{}", version_line())?;
    write_configuration(out, config)?;
    write_part(out, "Memory", &config.memory_plan.to_string())?;
    write_part(out, "Processors", &config.cpu_plan.to_string())?;
    write_abilities(out, &abilities)?;
    write_verdict(out, config, &abilities)
}

fn write_configuration(out: &mut dyn Write, config: &Config) -> fmt::Result {
    let rows = config.rows();
    let width = |column: fn(&(&'static str, String)) -> usize| {
        rows.iter().map(|(key, value, _)| column(&(*key, value.clone()))).max().unwrap_or(0)
    };
    let key_width = width(|(key, _)| key.len());
    let value_width = width(|(_, value)| value.chars().count());
    writeln!(out, "\nConfiguration")?;
    for (key, value, source) in &rows {
        writeln!(out, "  {key:<key_width$} = {value:<value_width$}  ({source})")?;
    }
    Ok(())
}

fn write_part(out: &mut dyn Write, title: &str, text: &str) -> fmt::Result {
    writeln!(out, "\n{title}")?;
    for line in text.lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn write_abilities(out: &mut dyn Write, abilities: &[Ability]) -> fmt::Result {
    let name_width = abilities.iter().map(|ability| ability.name.len()).max().unwrap_or(0);
    writeln!(out, "\nKernel")?;
    for Ability { name, verdict, found, advice } in abilities {
        let mark = match verdict {
            Verdict::Good => "ok  ",
            Verdict::Limited => "less",
            Verdict::Fatal => "NO  ",
        };
        writeln!(out, "  {mark}  {name:<name_width$}  {found}")?;
        if !advice.is_empty() {
            writeln!(out, "        {:name_width$}  -> {advice}", "")?;
        }
    }
    Ok(())
}

fn write_verdict(out: &mut dyn Write, config: &Config, abilities: &[Ability]) -> Result<bool, fmt::Error> {
    let warnings = config.warnings();
    if !warnings.is_empty() {
        writeln!(out, "\nWarnings")?;
    }
    for warning in warnings {
        writeln!(out, "  - {warning}")?;
    }
    let fatal = |ability: &&Ability| ability.verdict == Verdict::Fatal;
    let mut reasons: Vec<String> = abilities
        .iter()
        .filter(fatal)
        .map(|ability| format!("{}: {}", ability.name, ability.found))
        .collect();
    if let Err(error) = config.verify() {
        // The sum is above; its first line and the advice in the last one say the rest.
        let words = error.to_string();
        let lines: Vec<&str> = words.lines().collect();
        reasons.push(match lines[..] {
            [first, .., last] => format!("{}: {last}", first.trim_end_matches(':')),
            _ => words,
        });
    }
    if reasons.is_empty() {
        writeln!(out, "\nThe engine can start.")?;
        return Ok(true);
    }
    writeln!(out, "\nThe engine cannot start:")?;
    for reason in reasons {
        writeln!(out, "  - {reason}")?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::EngineArgs;
    use snowskin_io::memory::TransparentTrial;
    use snowskin_io::probe::ExecutorProbeError;
    use std::io;

    fn config(memory: &str) -> Config {
        let args = EngineArgs {
            memory: Some(memory.to_owned()),
            // Whatever the machine has.
            huge_pages: Some("transparent".to_owned()),
            cores: Some("2".to_owned()),
            name: Some("test".to_owned()),
            ..EngineArgs::default()
        };
        Config::read(&args).expect("a configuration")
    }

    fn facts() -> KernelFacts {
        KernelFacts {
            release: Some("6.1.0".to_owned()),
            executor: Ok(()),
            memlock_bytes: None,
            open_files: None,
            transparent_trial: TransparentTrial::WhenPrefaulted,
            transparent_huge_pages: Some("[always] madvise never".to_owned()),
        }
    }

    fn written(config: &Config, facts: &KernelFacts) -> (String, bool) {
        let mut text = String::new();
        let can_start = write_report(&mut text, config, facts).expect("a report");
        (text, can_start)
    }

    #[test]
    fn what_can_start_says_so() {
        let (text, can_start) = written(&config("64MB"), &facts());
        assert!(can_start, "{text}");
        for part in [
            "\nConfiguration\n  name                = test ",
            "  memory              = 64 MiB ",
            "(from --memory)\n",
            "segments: 2 cores x 32 MiB",
            "\nProcessors\n  2 cores on ",
            "  ok    kernel                  6.1.0\n",
            "  ok    pages of segments       transparent huge pages, gathered when pre-faulted\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(text.ends_with("\nThe engine can start.\n"), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn every_reason_not_to_start_is_named_at_once() {
        let refused = ExecutorProbeError::Refused(io::Error::from_raw_os_error(1));
        let (text, can_start) = written(&config("999TB"), &KernelFacts { executor: Err(refused), ..facts() });
        assert!(!can_start);
        let (_, verdict) = text.split_once("The engine cannot start:\n").expect("a verdict");
        assert_eq!(verdict.lines().count(), 2, "{verdict}");
        assert!(
            verdict.contains("io_uring: the kernel refuses")
                && verdict.contains("are missing: use less memory")
        );
        assert!(text.contains("seccomp=unconfined"), "{text}");
    }

    #[test]
    fn this_machine_gets_a_report() {
        let (text, can_start) = report(&config("16MB"));
        assert!(can_start, "{text}");
    }
}
