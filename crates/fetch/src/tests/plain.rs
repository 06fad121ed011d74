//! One file, and everything that can go wrong on its way.

use super::*;

fn model(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.gguf")).unwrap()
}

/// Bytes of bodies that were asked for, cut or not.
fn sent(server: &Server, size: usize, cut: usize) -> usize {
    let from = |asked: &Asked| size - asked.from().unwrap_or(0);
    server
        .asked()
        .iter()
        .map(|asked| from(asked).min(cut))
        .sum()
}

#[tokio::test]
async fn cut_connections_are_gone_on_with_and_no_byte_comes_twice() {
    let bytes = content(1_000_000, 1);
    for checked in [true, false] {
        let original = bytes.clone();
        let cut = 300_000;
        let server =
            Server::start(move |_, asked| Reply::file(asked, &original, "\"1\"").cut(cut)).await;
        let folder = tempfile::tempdir().unwrap();
        let sum = sha256(&bytes);
        let done = fetch(plain(&server, checked.then_some(&sum)), folder.path())
            .await
            .unwrap();
        assert_eq!(model(folder.path()), bytes);
        assert_eq!(server.asked().len(), 4);
        assert_eq!(sent(&server, bytes.len(), cut), bytes.len());
        assert_eq!(done.received, 1_000_000);
        let conditions: Vec<_> = server
            .asked()
            .iter()
            .filter_map(|asked| asked.header("if-range").map(str::to_owned))
            .collect();
        assert_eq!(
            conditions.len(),
            if checked { 0 } else { 3 },
            "a checksum needs no condition"
        );
    }
}

#[tokio::test]
async fn a_server_without_ranges_starts_again() {
    let bytes = content(400_000, 2);
    let original = bytes.clone();
    let server = Server::start(move |number, _| {
        let reply = Reply::whole(&original[..]).with("etag", "\"2\"");
        if number < 2 {
            reply.cut(100_000)
        } else {
            reply
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let done = fetch(plain(&server, Some(&sha256(&bytes))), folder.path())
        .await
        .unwrap();
    assert_eq!(model(folder.path()), bytes);
    assert_eq!((server.asked().len(), done.received), (3, 600_000));
}

#[tokio::test]
async fn a_file_that_changes_midway_is_never_mixed() {
    let (old, new) = (content(400_000, 3), content(500_000, 4));
    // The second server ignores the condition and tells the new tag only.
    for honest in [true, false] {
        let (before, after) = (old.clone(), new.clone());
        let server = Server::start(move |number, asked| match number {
            0 => Reply::file(asked, &before, "\"old\"").cut(100_000),
            _ if honest => Reply::file(asked, &after, "\"new\""),
            _ => {
                let from = asked.from().unwrap_or(0);
                let range = format!("bytes {from}-{}/{}", after.len() - 1, after.len());
                let status = if from > 0 { 206 } else { 200 };
                Reply {
                    status,
                    ..Reply::whole(&after[from..])
                }
                .with("content-range", range)
                .with("etag", "\"new\"")
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        fetch(plain(&server, None), folder.path()).await.unwrap();
        assert_eq!(model(folder.path()), new, "honest: {honest}");
    }
}

#[tokio::test]
async fn a_range_that_is_refused_is_not_asked_for_again() {
    let bytes = content(300_000, 5);
    let original = bytes.clone();
    let server = Server::start(move |number, asked| match (number, asked.from()) {
        (0, _) => Reply::file(asked, &original, "\"5\"").cut(100_000),
        (_, Some(_)) => Reply::status(416).with("content-range", "bytes */5"),
        (_, None) => Reply::file(asked, &original, "\"5\""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    fetch(plain(&server, Some(&sha256(&bytes))), folder.path())
        .await
        .unwrap();
    assert_eq!(model(folder.path()), bytes);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn servers_that_are_busy_are_left_alone_for_as_long_as_they_say() {
    let bytes = content(1000, 6);
    let original = bytes.clone();
    let server = Server::start(move |number, asked| match number {
        0 => Reply::status(503),
        1 => Reply::status(429).with("retry-after", "1"),
        2 => Reply::status(500),
        _ => Reply::file(asked, &original, "\"6\""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    fetch(plain(&server, None), folder.path()).await.unwrap();
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "Retry-After is respected"
    );
    assert_eq!((server.asked().len(), model(folder.path())), (4, bytes));
}

#[tokio::test]
async fn wrong_bytes_are_fetched_once_more_and_then_refused_with_both_checksums() {
    let (right, wrong) = (content(50_000, 7), content(50_000, 8));
    let sum = sha256(&right);
    let original = wrong.clone();
    let server = Server::start(move |_, asked| Reply::file(asked, &original, "\"7\"")).await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(plain(&server, Some(&sum)), folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&sum) && error.contains(&sha256(&wrong)),
        "{error}"
    );
    assert_eq!(server.asked().len(), 2);
    assert!(files(folder.path()).is_empty());
    assert!(
        !folder
            .path()
            .join(".inferyard-fetch/parts/model.gguf.part")
            .exists()
    );

    let original = right.clone();
    let server = Server::start(move |number, asked| {
        Reply::file(asked, if number == 0 { &wrong } else { &original }, "\"7\"")
    })
    .await;
    fetch(plain(&server, Some(&sum)), folder.path())
        .await
        .unwrap();
    assert_eq!(model(folder.path()), right);
}

#[tokio::test]
async fn a_fetch_that_was_stopped_goes_on_with_what_is_missing() {
    let bytes = content(800_000, 9);
    for checked in [true, false] {
        let original = bytes.clone();
        let server = Server::start(move |number, asked| {
            let reply = Reply::file(asked, &original, "\"9\"");
            if number == 0 {
                reply.hold(500_000)
            } else {
                reply
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let sum = sha256(&bytes);
        let source = || plain(&server, checked.then_some(&sum));
        let stop = CancellationToken::new();
        let part = folder.path().join(".inferyard-fetch/parts/model.gguf.part");
        let stopped = async {
            while fs::metadata(&part).map_or(0, |part| part.len()) < 500_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        };
        let (error, ()) = tokio::join!(fetch_until(source(), folder.path(), stop.clone()), stopped);
        let error = error.unwrap_err();
        assert!(
            matches!(error, FetchError::Interrupted { done: 500_000, .. }),
            "{error}"
        );
        let done = fetch(source(), folder.path()).await.unwrap();
        assert_eq!(model(folder.path()), bytes);
        assert_eq!(done.received, 300_000, "checked: {checked}");
        assert_eq!(server.asked()[1].from(), Some(500_000));

        let done = fetch(source(), folder.path()).await.unwrap();
        assert_eq!(
            (done.received, server.asked().len()),
            (0, 2),
            "it is complete"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_its_list_says_is_refused() {
    let bytes = content(1000, 10);
    let sum = sha256(&bytes);
    let server = Server::start(move |_, asked| {
        if asked.path.contains("/revision/") {
            let file = serde_json::json!({ "rfilename": "a.gguf", "size": 999, "lfs": { "sha256": sum, "size": 999 } });
            return Reply::whole(serde_json::json!({ "sha": COMMIT, "siblings": [file] }).to_string());
        }
        Reply::file(asked, &bytes, "\"10\"")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(Source::HuggingFace(hub(&server)), folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("999 bytes") && error.contains("1000 bytes"),
        "{error}"
    );
    assert_eq!(server.count("resolve"), 2);
}

#[tokio::test]
async fn nobody_who_redirects_in_a_circle_is_followed() {
    let server =
        Server::start(|_, asked| Reply::status(302).with("location", asked.path.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(plain(&server, None), folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("redirects too often"), "{error}");
    assert!(server.asked().len() <= 12);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() {
    let outer = tempfile::tempdir().unwrap();
    let file = outer.path().join("file");
    fs::write(&file, "").unwrap();
    let server = Server::start(|_, _| Reply::status(500)).await;
    let error = fetch(plain(&server, None), &file)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot write"), "{error}");
    assert_eq!(Arc::new(server).asked().len(), 0);
}
