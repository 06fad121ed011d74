//! Repositories of a hub.

use super::*;

/// The hub's answer for files that it keeps outside git.
fn listing(files: &[(&str, &[u8])]) -> Reply {
    let siblings: Vec<_> = (files.iter())
        .map(|(name, bytes)| {
            serde_json::json!({
                "rfilename": name, "size": bytes.len(), "blobId": "0".repeat(40),
                "lfs": { "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 130 },
            })
        })
        .collect();
    let answer = serde_json::json!({ "id": "acme/tiny", "sha": COMMIT, "siblings": siblings });
    Reply::whole(answer.to_string()).with("content-type", "application/json")
}

fn is_listing(asked: &Asked) -> bool {
    asked.path.starts_with("/api/models/acme/tiny/revision/")
}

#[expect(clippy::too_many_lines, reason = "one story of two servers")]
#[tokio::test]
async fn a_repository_comes_whole_and_the_token_goes_to_the_hub_alone() {
    let (config_json, weights) = (b"{}\n".to_vec(), content(300_000, 1));
    let (small, large) = (config_json.clone(), weights.clone());
    let cdn = Server::start(move |_, asked| Reply::file(asked, &large, "\"w\"")).await;
    let (elsewhere, large) = (cdn.url.clone(), weights.clone());
    let hub_server = Server::start(move |_, asked| {
        if is_listing(asked) {
            let answer = serde_json::json!({ "sha": COMMIT, "siblings": [
                { "rfilename": "config.json", "size": 3, "blobId": "0967ef424bce6791893e9a57bb952f80fd536e93" },
                { "rfilename": ".gitattributes", "size": 1, "blobId": "0".repeat(40) },
                { "rfilename": "sub/w.safetensors", "size": large.len(),
                  "lfs": { "sha256": sha256(&large), "size": large.len() } },
            ]});
            return Reply::whole(answer.to_string());
        }
        if asked.path == format!("/acme/tiny/resolve/{COMMIT}/config.json") {
            return Reply::file(asked, &small, "\"c\"");
        }
        assert_eq!(asked.path, format!("/acme/tiny/resolve/{COMMIT}/sub/w.safetensors"));
        Reply::status(302).with("location", format!("{elsewhere}/signed?signature=s"))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let source = HuggingFace {
        token: Some("hf_secret".parse().unwrap()),
        ..hub(&hub_server)
    };
    let done = fetch(Source::HuggingFace(source.clone()), folder.path())
        .await
        .unwrap();
    assert_eq!(done.commit.as_deref(), Some(COMMIT));
    assert_eq!((done.files, done.received), (2, 300_003));
    assert_eq!(files(folder.path()), ["config.json", "sub/w.safetensors"]);
    assert_eq!(
        fs::read(folder.path().join("sub/w.safetensors")).unwrap(),
        weights
    );
    let tokens = |server: &Server| -> Vec<_> {
        let asked = server.asked();
        asked
            .iter()
            .map(|asked| asked.header("authorization").map(str::to_owned))
            .collect()
    };
    assert_eq!(
        tokens(&hub_server),
        vec![Some("Bearer hf_secret".to_owned()); 3]
    );
    assert_eq!(tokens(&cdn), [None]);
    let record = fs::read_to_string(folder.path().join(".inferyard-fetch/record.json")).unwrap();
    assert!(
        record.contains(COMMIT) && !record.contains("secret"),
        "{record}"
    );

    let again = fetch(Source::HuggingFace(source), folder.path())
        .await
        .unwrap();
    assert_eq!(again.received, 0);
    assert_eq!(
        hub_server.asked().len() + cdn.asked().len(),
        4,
        "nothing was asked for again"
    );
}

#[tokio::test]
async fn what_will_not_pass_ends_it_at_once_and_says_what_to_do() {
    let table = [
        (401, None, "put a token into HF_TOKEN"),
        (403, Some("hf_x"), "accept its conditions"),
        (
            401,
            Some("hf_x"),
            "the token in HF_TOKEN does not open acme/tiny at main",
        ),
        (
            404,
            Some("hf_x"),
            "check the name and the revision (it says: Invalid rev id: main)",
        ),
    ];
    for (status, token, words) in table {
        let server = Server::start(move |_, _| {
            let reply = Reply::status(status);
            if status == 404 {
                reply.with("x-error-message", "Invalid rev id: main")
            } else {
                reply
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let token = token.map(|token| token.parse().unwrap());
        let source = Source::HuggingFace(HuggingFace {
            token,
            ..hub(&server)
        });
        let error = fetch(source, folder.path()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("hf_x"), "{error}");
        assert_eq!(server.asked().len(), 1, "{status} is not tried again");
    }
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    for name in ["../escaped", "/tmp/escaped-by-name", "a/../../escaped"] {
        let server = Server::start(move |_, _| listing(&[("fine.txt", b"1"), (name, b"2")])).await;
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("weights");
        let source = Source::HuggingFace(hub(&server));
        let error = fetch(source, &folder).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        assert_eq!(server.asked().len(), 1);
        assert!(files(&folder).is_empty());
        assert!(!outer.path().join("escaped").exists());
    }
}

#[tokio::test]
async fn a_disk_without_room_is_told_before_anything_is_asked_for() {
    let server = Server::start(|_, _| {
        let answer = serde_json::json!({ "sha": COMMIT, "siblings": [
            { "rfilename": "a.gguf", "size": 1_u64 << 60, "lfs": { "sha256": "0".repeat(64), "size": 1_u64 << 60 } },
        ]});
        Reply::whole(answer.to_string())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(Source::HuggingFace(hub(&server)), folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("{} more are needed", 1_u64 << 60)),
        "{error}"
    );
    assert_eq!(server.count("resolve"), 0);
}

#[tokio::test]
async fn what_is_here_is_not_fetched_and_what_is_of_another_revision_goes() {
    let (kept, old, new) = (content(5000, 1), content(6000, 2), content(7000, 3));
    let server = {
        let (kept, old, new) = (kept.clone(), old.clone(), new.clone());
        Server::start(move |_, asked| match asked.path.as_str() {
            path if path.contains("/revision/main") => {
                listing(&[("a.txt", &kept), ("sub/old.gguf", &old)])
            }
            path if path.contains("/revision/v2") => {
                listing(&[("a.txt", &kept), ("new.gguf", &new)])
            }
            path if path.ends_with("a.txt") => Reply::file(asked, &kept, "\"k\""),
            path if path.ends_with("old.gguf") => Reply::file(asked, &old, "\"o\""),
            _ => Reply::file(asked, &new, "\"n\""),
        })
        .await
    };
    let folder = tempfile::tempdir().unwrap();
    // Somebody put it there before.
    fs::write(folder.path().join("a.txt"), &kept).unwrap();
    fs::write(folder.path().join("theirs.txt"), "not ours").unwrap();
    let done = fetch(Source::HuggingFace(hub(&server)), folder.path())
        .await
        .unwrap();
    assert_eq!(done.received, 6000);
    let source = HuggingFace {
        revision: "v2".parse().unwrap(),
        ..hub(&server)
    };
    let done = fetch(Source::HuggingFace(source.clone()), folder.path())
        .await
        .unwrap();
    assert_eq!(done.received, 7000);
    assert_eq!(server.count("a.txt"), 0);
    assert_eq!(files(folder.path()), ["a.txt", "new.gguf", "theirs.txt"]);

    // A file that was changed since is found and mended.
    fs::write(folder.path().join("new.gguf"), "changed").unwrap();
    let done = fetch(Source::HuggingFace(source), folder.path())
        .await
        .unwrap();
    assert_eq!(done.received, 7000);
    assert_eq!(fs::read(folder.path().join("new.gguf")).unwrap(), new);
}

#[tokio::test]
async fn of_two_at_once_the_second_waits_and_fetches_nothing() {
    let weights = content(100_000, 4);
    let original = weights.clone();
    let server = Server::start(move |_, asked| {
        if is_listing(asked) {
            listing(&[("a.gguf", &original)])
        } else {
            Reply::file(asked, &original, "\"a\"")
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let source = || Source::HuggingFace(hub(&server));
    let (one, two) = tokio::join!(
        fetch(source(), folder.path()),
        fetch(source(), folder.path())
    );
    assert_eq!(one.unwrap().received + two.unwrap().received, 100_000);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_had_ends_the_others_and_they_are_kept() {
    let long = content(200_000, 5);
    let original = long.clone();
    let server = Server::start(move |_, asked| match asked.path.as_str() {
        path if path.contains("/revision/") => {
            listing(&[("long.gguf", &original), ("gone.json", b"{}")])
        }
        path if path.ends_with("long.gguf") && asked.from().is_none() => {
            Reply::file(asked, &original, "\"l\"").hold(50_000)
        }
        path if path.ends_with("long.gguf") => Reply::file(asked, &original, "\"l\""),
        _ => Reply::status(404),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(Source::HuggingFace(hub(&server)), folder.path())
        .await
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.starts_with("gone.json: ") && words.contains("404"),
        "{words}"
    );
    assert!(
        files(folder.path()).is_empty(),
        "what is not complete is not in the folder"
    );
}
