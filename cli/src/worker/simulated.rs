//! A worker without a model: the flags of its timing model.

use std::net::SocketAddr;
use std::time::Duration;

use inferyard_engine_simulated::Config;

use crate::duration;
use crate::failure::Failure;

/// How fast the GPU is that is not there.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "With --engine simulated: how fast the GPU is that is not there")]
pub(super) struct Args {
    /// Tokens of prompts that it computes in a second [default: 20000]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    simulated_prefill: Option<u32>,
    /// Time of the next token of one answer [default: 8ms]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    simulated_step: Option<Duration>,
    /// How much longer every further answer makes that step [default: 50us]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    simulated_step_per_sequence: Option<Duration>,
    /// Tokens of prompts in one step at most [default: 2048]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    simulated_batch_tokens: Option<u32>,
    /// Tokens of an answer for which the request sets no limit [default: 64]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    simulated_answer_tokens: Option<u32>,
    /// Nothing takes any time: tokens come as fast as they are read
    #[arg(
        long,
        conflicts_with_all = [
            "simulated_prefill",
            "simulated_step",
            "simulated_step_per_sequence",
        ]
    )]
    simulated_instant: bool,
    /// Where the same engine also answers OpenAI's HTTP API, so that other routers can be put
    /// before it; without keys [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    openai_listen: Option<SocketAddr>,
}

// === impl Args ===

impl Args {
    /// What was asked for.
    pub(super) fn engine(&self) -> Config {
        let default = if self.simulated_instant {
            Config::instant()
        } else {
            Config::default()
        };
        Config {
            batch_tokens: self.simulated_batch_tokens.unwrap_or(default.batch_tokens),
            prefill_tokens_per_second: self
                .simulated_prefill
                .map_or(default.prefill_tokens_per_second, f64::from),
            step: self.simulated_step.unwrap_or(default.step),
            step_per_sequence: self
                .simulated_step_per_sequence
                .unwrap_or(default.step_per_sequence),
            answer_tokens: self
                .simulated_answer_tokens
                .unwrap_or(default.answer_tokens),
            http: self.openai_listen,
            ..default
        }
    }

    /// With a model there is nothing to simulate.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("--simulated-prefill", self.simulated_prefill.is_some()),
            ("--simulated-step", self.simulated_step.is_some()),
            (
                "--simulated-step-per-sequence",
                self.simulated_step_per_sequence.is_some(),
            ),
            (
                "--simulated-batch-tokens",
                self.simulated_batch_tokens.is_some(),
            ),
            (
                "--simulated-answer-tokens",
                self.simulated_answer_tokens.is_some(),
            ),
            ("--simulated-instant", self.simulated_instant),
            ("--openai-listen", self.openai_listen.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Failure::usage(format!("{flag} needs --engine simulated"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        simulated: Args,
    }

    fn parse(flags: &[&str]) -> Args {
        CommandLine::parse_from(["worker"].iter().chain(flags)).simulated
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(parse(&[]).engine(), Config::default());
        let instant = parse(&["--simulated-instant", "--simulated-answer-tokens", "9"]).engine();
        let expected = Config {
            answer_tokens: 9,
            ..Config::instant()
        };
        assert_eq!(instant, expected);
        let flags = [
            "--simulated-step",
            "5ms",
            "--simulated-step-per-sequence",
            "0",
        ];
        let slow = parse(&flags).engine();
        assert_eq!(
            (slow.step, slow.step_per_sequence),
            (Duration::from_millis(5), Duration::ZERO)
        );
    }

    #[test]
    fn a_worker_with_a_model_refuses_them() {
        assert!(parse(&[]).refuse().is_ok());
        let refused = parse(&["--openai-listen", "127.0.0.1:0"]).refuse();
        let message = refused.unwrap_err().to_string();
        assert_eq!(message, "--openai-listen needs --engine simulated");
    }
}
