//! The process in which schemas are compiled first.

use std::fs;
use std::io::{self, Write};

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use toktrie::ApproximateTokEnv;

use super::Draft;
use crate::grammar::Grammars;
use crate::grammar::schema::{Form, Schema};

/// Seconds of processor time for all schemas of a request.
const CPU_SECONDS: u64 = 2;
/// Bytes of memory that is written to.
const MEMORY: u64 = 1 << 30;
/// How much later than the engine's threads it is served.
const NICE: i32 = 10;

/// Compiles the schemas on standard input, and writes a byte to standard output for each that is done, whether
/// it compiled or was refused. The kernel ends this process when it takes more than its limits.
///
/// # Errors
///
/// The limits cannot be set, or standard input is not a list of schemas.
pub fn compile_schemas() -> io::Result<()> {
    limit()?;
    let drafts: Vec<Draft> = serde_json::from_reader(io::stdin().lock())?;
    // What a schema costs hardly depends on the vocabulary.
    let grammars =
        Grammars::new(&ApproximateTokEnv::single_byte_env()).map_err(io::Error::other)?;
    let mut output = io::stdout().lock();
    for draft in drafts {
        let form = if draft.arguments {
            Form::Object
        } else {
            Form::Any
        };
        let schema = Schema {
            text: draft.text.into(),
            path: String::new(),
            strict: draft.strict,
        };
        // Why it is refused is found again in the worker.
        let _ = grammars.compile_alone(&schema, form);
        output.write_all(b".")?;
        output.flush()?;
    }
    Ok(())
}

fn limit() -> io::Result<()> {
    // A core file would hold the schemas, which are a client's.
    lower(Resource::Core, 0)?;
    lower(Resource::Cpu, CPU_SECONDS)?;
    // Not the address space: libraries of a GPU map more than that of it.
    lower(Resource::Data, MEMORY)?;
    // Where processor and memory are short, the worker is to have them. Both may be forbidden or unknown here.
    let _ = nice(NICE);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Sets a limit, unless a lower one is set already, which this process may not raise.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let most = getrlimit(resource)
        .maximum
        .map_or(most, |hard| hard.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
