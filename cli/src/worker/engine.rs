//! Settings of the engine as flags, read by a worker and written by `up`.

use inferyard_engine::EngineLimits;
use inferyard_engine_embedded::MAX_RUNNING;
use inferyard_manifests::EngineSettings;

use crate::failure::Failure;

/// The contract with users and the engine know nothing of each other, and must not differ in this.
const _: () = assert!(inferyard_crds::MOST_RUNNING == MAX_RUNNING);

/// Settings of the engine.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Engine")]
pub(super) struct Args {
    /// Tokens of one conversation [default: as the model was trained, or as the engine says]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(64..))]
    context_length: Option<u32>,
    /// Answers computed at the same time [default: 16; 256 by an engine beside the worker, or a
    /// simulated one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    max_running: Option<u16>,
    /// Requests that wait before more are refused [default: 256]
    #[arg(long, value_name = "N")]
    max_queued: Option<usize>,
    /// Tokens that the key-value cache holds [default: chosen from the context length; 1000000 of a
    /// simulated one]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(64..))]
    kv_tokens: Option<u64>,
    /// Processor threads [default: chosen from the size of the model]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// The flags that say the same as a manifest.
pub(crate) fn flags(settings: &EngineSettings) -> Vec<String> {
    let flags = [
        ("--context-length", settings.context_length.map(u64::from)),
        ("--max-running", settings.max_running.map(|n| n as u64)),
        ("--max-queued", settings.max_queued.map(|n| n as u64)),
        ("--kv-tokens", settings.kv_tokens),
        ("--threads", settings.threads.map(|n| n as u64)),
    ];
    let given = flags
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)));
    given
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_string()])
        .collect()
}

// === impl Args ===

impl Args {
    /// A server beside the worker has a cache of its own.
    pub(super) fn refuse_kv_tokens(&self) -> Result<(), Failure> {
        match self.kv_tokens {
            None => Ok(()),
            Some(_) => Err(Failure::usage(
                "--kv-tokens is for engines within the worker; a server beside it has its own \
                 setting"
                    .to_owned(),
            )),
        }
    }

    /// The embedded engine has no more sequences than that.
    pub(super) fn refuse_too_many(&self) -> Result<(), Failure> {
        match self.max_running {
            Some(count) if count > MAX_RUNNING => Err(Failure::usage(format!(
                "--max-running: {count} is not in 1..={MAX_RUNNING}, which the embedded engine \
                 can compute at the same time"
            ))),
            _ => Ok(()),
        }
    }

    /// Flags win over the manifest, and the manifest over the defaults.
    pub(super) fn apply(&self, manifest: &EngineSettings, limits: &mut EngineLimits) {
        limits.context_length = self.context_length.or(manifest.context_length);
        if let Some(max) = self.max_running.map(usize::from).or(manifest.max_running) {
            limits.max_running = max;
        }
        if let Some(max) = self.max_queued.or(manifest.max_queued) {
            limits.max_queued = max;
        }
    }

    /// Tokens that the key-value cache holds, by the flag or else by the manifest.
    pub(super) fn kv_tokens(&self, manifest: &EngineSettings) -> Option<u64> {
        self.kv_tokens.or(manifest.kv_tokens)
    }

    /// Processor threads, by the flag or else by the manifest.
    pub(super) fn threads(&self, manifest: &EngineSettings) -> Option<usize> {
        self.threads.map(usize::from).or(manifest.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        engine: Args,
    }

    #[test]
    fn what_a_manifest_says_survives_the_command_line() {
        let settings = EngineSettings {
            context_length: Some(4096),
            max_running: Some(8),
            max_queued: Some(0),
            kv_tokens: Some(1 << 33),
            threads: Some(2),
        };
        let flags = flags(&settings);
        let parsed = CommandLine::parse_from(std::iter::once("worker".to_owned()).chain(flags));
        let (args, undeclared) = (parsed.engine, EngineSettings::default());
        let mut limits = EngineLimits::new(16);
        args.apply(&undeclared, &mut limits);
        assert_eq!(
            (limits.context_length, limits.max_running, limits.max_queued),
            (Some(4096), 8, 0)
        );
        let given = (args.kv_tokens(&undeclared), args.threads(&undeclared));
        assert_eq!(given, (Some(1 << 33), Some(2)));
    }
}
