//! The process in which schemas are compiled first.

use std::fs;
use std::io::{self, Write};

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use toktrie::ApproximateTokEnv;

use super::Draft;
use crate::grammar::Grammars;
use crate::grammar::schema::{Form, Schema};

/// Seconds of processor time for all schemas of a request.
const CPU_SECONDS: u64 = 2;
/// Bytes of memory, of which about 300 MB are the program itself.
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
    let most = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // A core file would hold the schemas, which are a client's.
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Cpu, most(CPU_SECONDS))?;
    setrlimit(Resource::As, most(MEMORY))?;
    // Where processor and memory are short, the worker is to have them. Both may be forbidden or unknown here.
    let _ = nice(NICE);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
