//! A limit on how long an answer is waited for, which a busy thread of our own does not use up.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// Number of pieces in which the limit is waited for.
const PIECES: u32 = 10;

/// Waits until `work` is done, or has been silent for `limit`: then `None`.
///
/// Where the thread that runs this task is busy with others, or gets no processor, for longer than the
/// limit, a single timer would find the time over before the answer, which has long been there, was
/// looked at, or even before the question was sent. So the limit is waited for in pieces. Each piece
/// looks at the answer first and only then begins to count: however long the thread was away, that is one
/// piece.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..PIECES {
        if let Ok(done) = timeout(limit / PIECES, work.as_mut()).await {
            return Some(done);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    /// The thread does nothing else for longer than the limit.
    fn block() {
        let begun = std::time::Instant::now();
        while begun.elapsed() < LIMIT * 3 {
            std::thread::park_timeout(LIMIT);
        }
    }

    /// A server on a thread of its own, which answers each byte with the next one.
    fn server() -> std::net::SocketAddr {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while let Ok(()) = stream.read_exact(&mut byte) {
                stream.write_all(&[byte[0] + 1]).unwrap();
            }
        });
        address
    }

    /// Question and answer go through a task of their own, as those of a shared connection do.
    async fn ask(address: std::net::SocketAddr, blocks_after: bool) -> Option<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (asked, mut is_asked) = tokio::sync::mpsc::channel::<()>(1);
        let (answered, answer) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            is_asked.recv().await.unwrap();
            if !blocks_after {
                block();
            }
            stream.write_all(&[1]).await.unwrap();
            if blocks_after {
                block();
            }
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            answered.send(byte[0]).unwrap();
        });
        let work = async {
            asked.send(()).await.unwrap();
            answer.await.unwrap()
        };
        let answer = within(LIMIT, work).await;
        task.abort();
        answer
    }

    #[tokio::test]
    async fn an_answer_that_came_while_the_thread_was_busy_is_in_time() {
        assert_eq!(ask(server(), true).await, Some(2));
    }

    #[tokio::test]
    async fn a_question_that_the_thread_could_not_send_is_not_unanswered() {
        assert_eq!(ask(server(), false).await, Some(2));
    }

    #[tokio::test]
    async fn silence_is_over_at_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let begun = Instant::now();
        assert_eq!(within(LIMIT, stream.read_u8()).await.map(Result::ok), None);
        assert!(begun.elapsed() >= LIMIT);
    }
}
