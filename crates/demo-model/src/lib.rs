//! A tiny real chat model, its weights compiled in: what the demo serves and the tests run against.

/// The name that the model carries in its own metadata, and that manifests refer to it by.
pub const NAME: &str = "demo";

/// The whole model as one GGUF file: weights in f16, tokenizer and chat template. About 1.2 MiB.
///
/// Engines open models by path, so write these bytes to a file first.
pub static GGUF: &[u8] = include_bytes!("../demo.gguf");
