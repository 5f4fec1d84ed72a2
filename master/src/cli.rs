//! The command line of `snowskin-master`.

use argh::FromArgs;
use snowskin_master::{MasterConfig, SettingsChange, Timing};
use snowskin_protocol::Strategy;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Snowskin's master: knows the members of a cluster and which core is the home of which keys. No data passes it, and
/// its death loses nothing. Listens on the loopback interface unless told otherwise.
#[derive(Debug, FromArgs)]
pub(crate) struct Cli {
    /// where to answer cores and clients; port 0: any free one (default 127.0.0.1:7300)
    #[argh(option, default = "snowskin_master::config::LISTEN_DEFAULT")]
    listen: SocketAddr,
    /// where to answer admin HTTP: page, metrics, settings (default 127.0.0.1:7380)
    #[argh(option, default = "snowskin_master::config::HTTP_DEFAULT")]
    http: SocketAddr,
    /// do not answer admin HTTP
    #[argh(switch)]
    no_http: bool,
    /// file that remembers table and settings over a restart; without one they are learnt from the cores
    #[argh(option)]
    ledger: Option<PathBuf>,
    /// share of a core's memory at which eviction starts, 0.001 to 1 (default: what the ledger has, else 0.98)
    #[argh(option, from_str_fn(permille))]
    high_watermark: Option<u16>,
    /// share at which it stops, not above the high one (default: what the ledger has, else 0.97)
    #[argh(option, from_str_fn(permille))]
    low_watermark: Option<u16>,
    /// milliseconds for which a read protects an object (default: what the ledger has, else 5000)
    #[argh(option)]
    lease_ms: Option<u32>,
    /// how places for values are chosen: random, free_ratio_first, fragmentation_aware or local_first (default: what the
    /// ledger has, else fragmentation_aware)
    #[argh(option)]
    allocation_strategy: Option<Strategy>,
    /// milliseconds to listen, after a start without ledger, for cores that have a table already (default 2000)
    #[argh(option, default = "Timing::default().quiet.as_millis() as u64")]
    quiet_ms: u64,
    /// what to log: error, warn, info, debug, or a filter like snowskin_master=debug (default info)
    #[argh(option, default = "String::from(\"info\")")]
    pub(crate) log: String,
}

impl From<Cli> for MasterConfig {
    fn from(cli: Cli) -> Self {
        MasterConfig {
            listen: cli.listen,
            http: (!cli.no_http).then_some(cli.http),
            ledger: cli.ledger,
            settings: SettingsChange {
                high_watermark_permille: cli.high_watermark,
                low_watermark_permille: cli.low_watermark,
                lease_ms: cli.lease_ms,
                allocation_strategy: cli.allocation_strategy,
            },
            timing: Timing { quiet: Duration::from_millis(cli.quiet_ms), ..Timing::default() },
            stops_at_signals: true,
            ..MasterConfig::default()
        }
    }
}

fn permille(text: &str) -> Result<u16, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number: use a share like 0.98"))?;
    if (0.001..=1.0).contains(&share) {
        Ok((share * 1000.0).round() as u16)
    } else {
        Err(format!("{text} is no share of the memory: use 0.001 to 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<MasterConfig, String> {
        Cli::from_args(&["snowskin-master"], arguments).map(Into::into).map_err(|exit| exit.output)
    }

    #[test]
    fn without_arguments_it_listens_on_loopback() {
        let config = config(&[]).unwrap();
        assert!(config.listen.ip().is_loopback() && config.http.unwrap().ip().is_loopback());
        assert_eq!(config.settings, SettingsChange::default());
        assert_eq!(config.timing, Timing::default());
    }

    #[test]
    fn shares_become_thousandths() {
        let config = config(&["--high-watermark", "0.95", "--lease-ms", "7", "--no-http"]).unwrap();
        assert_eq!(config.settings.high_watermark_permille, Some(950));
        assert_eq!(config.settings.low_watermark_permille, None);
        assert_eq!(config.settings.lease_ms, Some(7));
        assert_eq!(config.http, None);
        let refusal = super::tests::config(&["--allocation-strategy", "best"]).unwrap_err();
        assert!(refusal.contains("give random, free_ratio_first"), "{refusal}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        assert!(config(&["--high-watermark", "98"]).unwrap_err().contains("0.001 to 1"));
        assert!(config(&["--low-watermark", "nan"]).is_err());
        assert!(config(&["--listen", "somewhere"]).is_err());
        assert!(config(&["--help"]).unwrap_err().contains("--ledger"));
    }
}
