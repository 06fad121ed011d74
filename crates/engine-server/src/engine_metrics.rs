//! The Prometheus metrics of the engine: its queue and its cache.

use crate::dialect::Dialect;

/// One reading of the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EngineMetrics {
    /// Requests in the engine's own queue.
    pub(crate) waiting: usize,
    /// Tokens that the KV cache can hold; 0: the engine does not tell.
    pub(crate) kv_total: u64,
    /// Tokens of the KV cache that running requests use.
    pub(crate) kv_used: u64,
}

// === impl EngineMetrics ===

impl EngineMetrics {
    /// Reads the text format. Several engines behind one server are added up.
    pub(crate) fn read(text: &str, dialect: Dialect) -> Self {
        let mut found = Self::default();
        let (mut shares, mut share) = (0_u32, 0.0);
        let mut used = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            match (dialect, name) {
                (Dialect::Vllm, "vllm:num_requests_waiting")
                | (Dialect::SgLang, "sglang:num_queue_reqs") => found.waiting += whole(value),
                (Dialect::Vllm, "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc")
                | (Dialect::SgLang, "sglang:token_usage") => {
                    shares += 1;
                    share += value.clamp(0.0, 1.0);
                }
                (Dialect::Vllm, "vllm:cache_config_info") => {
                    let label = |name| label(labels, name).unwrap_or_default();
                    found.kv_total += label("num_gpu_blocks") * label("block_size");
                }
                (Dialect::SgLang, "sglang:max_total_num_tokens") => {
                    found.kv_total += whole(value) as u64;
                }
                (Dialect::SgLang, "sglang:num_used_tokens") => {
                    *used.get_or_insert(0) += whole(value) as u64;
                }
                _ => {}
            }
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of tokens that no cache comes near the limits of"
        )]
        let by_share = (share / f64::from(shares.max(1)) * found.kv_total as f64) as u64;
        found.kv_used = used.unwrap_or(by_share).min(found.kv_total);
        found
    }
}

/// `name{labels} value`
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (name, labels, rest) = if let Some((name, rest)) = line.split_once('{') {
        // A label's value may hold a brace.
        let (labels, value) = rest.rsplit_once('}')?;
        (name, labels, value)
    } else {
        let (name, value) = line.split_once(' ')?;
        (name, "", value)
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

fn label(labels: &str, name: &str) -> Option<u64> {
    labels.split(',').find_map(|label| {
        let value = label.trim().strip_prefix(name)?.strip_prefix("=\"")?;
        value.strip_suffix('"')?.parse().ok()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and never negative; casts of floats saturate"
)]
fn whole(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vllm() {
        let text = "\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"m{x}\"} 3.0
vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 2.0
vllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 1.0
vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25
vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"m\"} 0.75
vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",num_gpu_blocks=\"100\",num_cpu_blocks=\"0\"} 1.0
vllm:num_preemptions_total{engine=\"0\",model_name=\"m\"} NaN
broken{
";
        let metrics = EngineMetrics::read(text, Dialect::Vllm);
        assert_eq!(
            metrics,
            EngineMetrics {
                waiting: 3,
                kv_total: 1600,
                kv_used: 800
            }
        );
        assert_eq!(
            EngineMetrics::read(text, Dialect::Plain),
            EngineMetrics::default()
        );
    }

    #[test]
    fn sglang() {
        let text = "\
sglang:num_running_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 5.0
sglang:num_used_tokens{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 1234.0
sglang:token_usage{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 0.01
sglang:num_queue_reqs{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 7.0
sglang:max_total_num_tokens{engine_type=\"unified\",model_name=\"m\",tp_rank=\"0\"} 100000.0
";
        let metrics = EngineMetrics::read(text, Dialect::SgLang);
        assert_eq!(
            metrics,
            EngineMetrics {
                waiting: 7,
                kv_total: 100_000,
                kv_used: 1234
            }
        );
    }
}
