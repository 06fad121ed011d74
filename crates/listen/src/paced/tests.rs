//! The times of a paced socket, on a clock that the tests move.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::advance;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// A socket with room for four bytes, its other end, and what its connection knows.
fn pair() -> (Paced<DuplexStream>, DuplexStream, Arc<Progress>) {
    let (near, far) = duplex(4);
    let progress = Progress::new(CancellationToken::new(), Counts::default());
    (
        Paced::new(near, Arc::clone(&progress), LIMIT),
        far,
        progress,
    )
}

/// Whether the future is still pending after this time.
async fn still_pending(future: impl Future, time: Duration) -> bool {
    tokio::time::timeout(time, future).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_for_the_limit_end_the_connection() {
    let (mut near, _far, progress) = pair();
    near.write_all(b"full").await.unwrap();
    let began = Instant::now();
    let error = near.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
    assert_eq!(progress.counts.stalled.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_waited_for() {
    let (mut near, mut far, progress) = pair();
    let writing = tokio::spawn(async move { near.write_all(&[7; 40]).await });
    for _ in 0..40 {
        advance(LIMIT / 2).await;
        far.read_u8().await.unwrap();
    }
    writing.await.unwrap().unwrap();
    assert_eq!(progress.counts.stalled.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_without_bytes_that_wait_is_no_stall() {
    let (mut near, mut far, _) = pair();
    near.write_all(b"full").await.unwrap();
    assert!(still_pending(near.write_all(b"more"), LIMIT / 2).await);
    far.read_exact(&mut [0; 4]).await.unwrap();
    near.write_all(b"more").await.unwrap();
    advance(2 * LIMIT).await;
    // The limit counts from here, not from when bytes waited before.
    assert!(still_pending(near.write_all(b"last"), LIMIT / 2).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_overdue_is_taken_and_waits_for_the_peer_for_one_limit() {
    let (mut near, mut far, progress) = pair();
    progress.asked(Instant::now() + Duration::from_secs(10));
    near.write_all(b"full").await.unwrap();
    assert!(still_pending(near.write_all(b"x"), Duration::from_secs(5)).await);
    advance(Duration::from_secs(5)).await;
    near.write_all(b"the end").await.unwrap();
    near.flush().await.unwrap();
    let shutdown = tokio::spawn(async move { near.shutdown().await });
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "fullthe end");
    shutdown.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_an_overdue_rest_too_slowly_is_left() {
    let (mut near, mut far, progress) = pair();
    progress.cut.cancel();
    near.write_all(&[7; 100]).await.unwrap();
    let began = Instant::now();
    let shutdown = tokio::spawn(async move { near.shutdown().await });
    for _ in 0..4 {
        advance(LIMIT / 4).await;
        let _ = far.read_u8().await;
    }
    let error = shutdown.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() <= LIMIT + Duration::from_secs(1));
}
