//! How long the threads of the embedded engine spin for each other before they sleep.
//!
//! llama.cpp's threads synchronize after every operation. By default libgomp lets them spin for
//! milliseconds there. On cores that are shared, the spinning threads take the processor from other
//! processes and from the threads that they wait for. libgomp reads its settings when it is loaded,
//! which is before `main`.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Iterations of the spin loop, a few nanoseconds each: together about the time that waking a thread takes.
const SPIN_COUNT: &str = "5000";
/// libgomp's own settings. If one of them is set, it is the administrator's choice and stays.
const SETTINGS: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// Re-executes this program with a short spin. Returns if that is not needed, or with the reason why it failed.
pub(super) fn shorten() -> Option<io::Error> {
    let is_chosen = SETTINGS.iter().any(|name| env::var_os(name).is_some());
    if is_chosen || cfg!(not(target_os = "linux")) {
        return None;
    }
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(error),
    };
    let mut args = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // `exec` keeps the process id, the streams and the parent.
    Some(command.args(args).env(SETTINGS[0], SPIN_COUNT).exec())
}
