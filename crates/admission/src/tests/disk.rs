//! Tests of the limiter on a full disk: the kernel refuses to let files grow.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// Limits the size of files of this process to this many bytes. A larger write stores what fits and then fails, as on
/// a full disk.
fn let_files_have(bytes: Option<u64>) {
    let current = bytes.or(getrlimit(Resource::Fsize).maximum);
    let limit = Rlimit {
        current,
        ..getrlimit(Resource::Fsize)
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

/// Whether this is the separate test process. The limit applies to a whole process, so the test starts itself again
/// with a limit by which the new process recognizes itself.
fn is_alone() -> bool {
    if getrlimit(Resource::Fsize).current.is_some() {
        return true;
    }
    let test = std::thread::current().name().unwrap().to_owned();
    let script = "trap '' XFSZ; ulimit -S -f 1000000; exec \"$0\" --exact \"$1\"";
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .status();
    assert!(status.unwrap().success());
    false
}

#[tokio::test]
async fn on_a_full_disk_nobody_is_let_in_until_all_that_was_used_is_on_it() {
    if !is_alone() {
        return;
    }
    // Space for no entry; for no header; for the header and a part of an entry.
    for room in [8, 3, 12] {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting {
            spool: Some(folder.path()),
            ..Setting::default()
        };
        let mut bench = Bench::new(setting).await;
        let plan = plan(OnLoss::Open, Limits::default());
        bench.lose(Fault::Away).await;
        let mut running = Vec::new();
        for _ in 0..10 {
            running.push(bench.limiter.reserve(wanted(&plan, "acme")).await.unwrap());
        }
        running.pop().unwrap().settle(used(1, "ok")).await;
        let_files_have(Some(room));
        for reservation in running {
            reservation.settle(used(1, "ok")).await;
        }
        let backlog = &bench.limiter.shared.backlog;
        assert_eq!(backlog.count_in_memory(), 9);
        let refused = bench.limiter.reserve(wanted(&plan, "acme")).await;
        let why = refused.map(drop).unwrap_err();
        assert!(
            matches!(
                why,
                LimitError::NoRoom {
                    why: NoRoom::Disk,
                    ..
                }
            ),
            "{why}"
        );
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(
            files <= 3,
            "a full disk is not filled with empty files: {files}"
        );

        let_files_have(None);
        bench
            .until(|bench| bench.limiter.shared.backlog.room().is_ok())
            .await;
        assert!(!bench.limiter.shared.backlog.has_in_memory());
        bench.running.abort();
        let _ = bench.running.await;
        drop(bench.limiter);
        let mut next = Bench::new(setting).await;
        for _ in 0..10 {
            assert_eq!(next.event().await.0.completion_tokens, 1);
        }
        next.until(|bench| bench.limiter.shared.backlog.bytes() == 0)
            .await;
        assert!(next.end().await.is_empty());
        assert!(bench.outbox.try_recv().is_err());
    }
}
