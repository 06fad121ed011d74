//! llama.cpp itself, driven by `node-llama-cpp`, which batches the sequences of one context.

use std::path::Path;

use anyhow::{Context, Result};

use super::condition::Ground;
use super::stretch::Stretch;
use crate::process::Process;

/// Arguments: the model, streams, threads, and milliseconds of warm-up and measurement.
///
/// The number of threads is passed explicitly: by default node-llama-cpp starts at least four, which is very
/// slow on two cores.
const SCRIPT: &str = r#"
import {getLlama, LlamaCompletion, LlamaLogLevel} from "node-llama-cpp";
const [gguf, ...numbers] = process.argv.slice(2);
const [streams, threads, warmUp, length] = numbers.map(Number);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: gguf});
const context = await model.createContext({sequences: streams, contextSize: 512, threads});
let tokens = 0;
const stream = async (index) => {
  const contextSequence = context.getSequence();
  for (let number = 0; ; number += 1) {
    await contextSequence.clearHistory();
    const completion = new LlamaCompletion({contextSequence});
    const prompt = `Story ${index} ${number}: Once upon a time there was`;
    const onToken = (told) => { tokens += told.length; };
    await completion.generateCompletion(prompt, {maxTokens: 200, temperature: 0, onToken});
    completion.dispose({disposeSequence: false});
  }
};
for (let index = 0; index < streams; index += 1) {
  stream(index).catch((error) => { console.error(error); process.exit(1); });
}
setTimeout(() => {
  const [before, begin] = [tokens, performance.now()];
  setTimeout(() => {
    console.log((tokens - before) / (performance.now() - begin) * 1000);
    process.exit(0);
  }, length);
}, warmUp);
"#;

/// Tokens per second in total, with this number of streams.
pub(super) async fn speed(
    ground: &Ground,
    folder: &Path,
    gguf: &Path,
    streams: usize,
    stretch: Stretch,
) -> Result<f64> {
    let script = folder.join("speed.mjs");
    std::fs::write(&script, SCRIPT)?;
    let mut command = ground.command(Path::new("node"))?;
    command.arg(&script).arg(gguf).arg(streams.to_string());
    command.arg(ground.cores().to_string());
    command.arg(stretch.warm_up.as_millis().to_string());
    command.arg(stretch.length.as_millis().to_string());
    let mut process = Process::start(command, None)?;
    let told = process.line().await?;
    told.trim()
        .parse()
        .with_context(|| format!("expected tokens per second, found `{told}`"))
}
