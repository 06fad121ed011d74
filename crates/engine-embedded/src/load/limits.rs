//! How much of a model runs at a time, from the configuration and what the model is.

use llama_cpp_2::model::LlamaModel;

use super::LoadError;
use crate::config::{Config, MAX_RUNNING};
use crate::schedule::BatchMode;

/// llama.cpp holds the sequences of a cell in a bit set of this size.
const MAX_SEQUENCES: usize = 256;
/// Sequences that are kept for their prefixes, where the limit allows it.
const CACHED_SEQUENCES: usize = 64;
/// Cells of a KV cache that nobody has asked a size for.
const DEFAULT_KV_TOKENS: u64 = 16_384;
/// Below this many parameters a second thread costs more than it brings, and so do kept prefixes.
const TINY_MODEL: u64 = 20_000_000;

/// How much a model can do at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that run together.
    pub(crate) max_running: usize,
    /// Requests that wait.
    pub(crate) max_queued: usize,
    /// Tokens of one sequence.
    pub(crate) context_length: usize,
    /// Cells of the KV cache.
    pub(crate) kv_tokens: usize,
    /// Cells that sequences may hold which no longer run, for prompts that begin like them.
    pub(crate) max_cached_tokens: usize,
    /// Sequences that the KV cache can tell apart.
    pub(crate) sequences: usize,
    /// Tokens of one step.
    pub(crate) batch_tokens: usize,
    /// How the tokens of a step are computed.
    pub(crate) batch_mode: BatchMode,
    /// Whether sequences can begin with parts of others (recurrent models cannot).
    pub(crate) shares_prefixes: bool,
    /// The newest tokens, which are all that some layers see. llama.cpp gives the cells of tokens that are
    /// out of their sight to others. None: all layers see all tokens, or the file does not say.
    pub(crate) window: Option<usize>,
    /// Threads that compute.
    pub(crate) threads: i32,
}

// === impl Limits ===

impl Limits {
    pub(super) fn new(config: &Config, llama: &LlamaModel) -> Result<Self, LoadError> {
        if !(1..=usize::from(MAX_RUNNING)).contains(&config.limits.max_running) {
            return Err(LoadError::Config(format!(
                "max_running is {}; it must be 1 to {MAX_RUNNING}",
                config.limits.max_running
            )));
        }
        let trained = llama.n_ctx_train();
        let wanted = config.limits.context_length.map_or(0, u64::from);
        let kv_tokens = config.kv_tokens.unwrap_or(DEFAULT_KV_TOKENS.max(wanted));
        let context_length = match config.limits.context_length {
            Some(0) => return Err(LoadError::Config("context_length must not be 0".to_owned())),
            Some(length) if u64::from(length) > kv_tokens => {
                return Err(LoadError::Config(format!(
                    "a context of {length} tokens does not fit into {kv_tokens} KV cells"
                )));
            }
            Some(length) => u64::from(length),
            None => u64::from(trained).min(kv_tokens),
        };
        // llama.cpp rounds up to this; so are the cells that are told and used.
        let kv_tokens = kv_tokens.max(1).next_multiple_of(256);
        let size = |number: u64| {
            usize::try_from(number)
                .map_err(|_| LoadError::Config(format!("{number} is too large a number")))
        };
        let batch_tokens = size(u64::from(config.batch_tokens))?;
        Ok(Self {
            max_running: config.limits.max_running,
            max_queued: config.limits.max_queued,
            context_length: size(context_length)?,
            kv_tokens: size(kv_tokens)?,
            max_cached_tokens: size(kv_tokens / cached_part(llama))?,
            sequences: (config.limits.max_running + CACHED_SEQUENCES).min(MAX_SEQUENCES),
            // Running answers alone must not fill it, or no prompt would ever be computed.
            batch_tokens: batch_tokens
                .max(2 * config.limits.max_running)
                .min(size(kv_tokens)?),
            batch_mode: if cfg!(feature = "cuda") {
                BatchMode::Mixed
            } else {
                BatchMode::Separate
            },
            shares_prefixes: !llama.is_recurrent() && !llama.is_hybrid(),
            window: window(llama),
            threads: threads(config, llama),
        })
    }
}

/// The part of the KV cache (one in so many cells) that kept sequences may fill. On a processor every
/// step looks at every used cell, if only to see that it belongs to another sequence: that is dear
/// where computing a prompt anew is cheap. Kernels of accelerators skip such cells.
fn cached_part(llama: &LlamaModel) -> u64 {
    match llama.n_params() {
        _ if cfg!(feature = "cuda") => 1,
        parameters if parameters < TINY_MODEL => 16,
        _ => 4,
    }
}

fn window(llama: &LlamaModel) -> Option<usize> {
    let named = |key: &str| llama.meta_val_str(key).ok();
    let architecture = named("general.architecture")?;
    let window = named(&format!("{architecture}.attention.sliding_window"))?;
    window.parse().ok().filter(|window| *window > 0)
}

fn threads(config: &Config, llama: &LlamaModel) -> i32 {
    let threads = config.threads.unwrap_or_else(|| {
        if llama.n_params() < TINY_MODEL {
            return 1;
        }
        // What affinity and the quota of the control group allow, a part of a core rounded up. Two
        // hardware threads of one core share the units that matter here.
        num_cpus::get_physical().min(num_cpus::get())
    });
    i32::try_from(threads.clamp(1, 512)).unwrap_or(1)
}
