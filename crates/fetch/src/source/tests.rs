//! What is accepted on the command line, and what is not.

use super::*;

#[test]
fn a_repository_is_an_owner_and_a_name() {
    for right in ["Qwen/Qwen3-8B-GGUF", "a/b.c_d"] {
        assert!(right.parse::<Repo>().is_ok(), "{right}");
    }
    for wrong in [
        "", "gpt2", "a/", "/b", "a/b/c", "../b", "a/..", "a/b?c", "a/b c",
    ] {
        assert!(wrong.parse::<Repo>().is_err(), "{wrong}");
    }
}

#[test]
fn a_revision_stays_in_its_place() {
    for right in ["main", "refs/pr/1", "v1.0", "0123456789abcdef"] {
        assert!(right.parse::<Revision>().is_ok(), "{right}");
    }
    for wrong in ["", "..", "a/../b", "a//b", "/a", "a b", "a?b", "a\\b"] {
        assert!(wrong.parse::<Revision>().is_err(), "{wrong}");
    }
}

#[test]
fn an_address_is_http_without_a_password() {
    assert!("https://h/a".parse::<Address>().is_ok());
    for wrong in [
        "",
        "h/a",
        "ftp://h/a",
        "file:///a",
        "https://u:p@h/a",
        "https://u@h",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}

#[test]
fn an_address_below_keeps_the_path_of_a_mirror_and_escapes_names() {
    let mirror: Address = "https://h/hf/".parse().unwrap();
    let url = mirror.below(["a", "refs/pr/1", "x#y?.gguf"]);
    assert_eq!(url.as_str(), "https://h/hf/a/refs%2Fpr%2F1/x%23y%3F.gguf");
}

#[test]
fn a_signature_is_not_written_down() {
    let source = |url: &str| {
        let url = url.parse().unwrap();
        let (sha256, token) = (None, None);
        let identity = Source::Plain(Plain { url, sha256, token }).identity();
        serde_json::to_string(&identity).unwrap()
    };
    let signed = source("https://h/a.gguf?signature=secret");
    assert!(!signed.contains("secret"), "{signed}");
    assert_ne!(signed, source("https://h/a.gguf?signature=other"));
    assert_eq!(signed, source("https://h/a.gguf?signature=secret"));
}

#[test]
fn globs() {
    let table = [
        ("*.gguf", "a.gguf", true),
        ("*.gguf", "sub/a.gguf", true),
        ("*.gguf", "a.gguf.md", false),
        ("*Q4_K_M*", "m-Q4_K_M-00001-of-00002.gguf", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("**", "", true),
        ("a*b*c", "aXbYbZc", true),
        ("a*b*c", "aXbYbZ", false),
        ("config.json", "sub/config.json", false),
    ];
    for (pattern, name, expect) in table {
        let glob: Glob = pattern.parse().unwrap();
        assert_eq!(glob.matches(name), expect, "{pattern} {name}");
    }
    for wrong in ["", "[ab].gguf", "{a,b}"] {
        assert!(wrong.parse::<Glob>().is_err(), "{wrong}");
    }
}

#[test]
fn a_token_is_never_shown() {
    let token: Token = "hf_secret\n".parse().unwrap();
    assert!(!format!("{token:?}").contains("secret"));
    assert_eq!(token.header(), "Bearer hf_secret");
    for wrong in ["", " ", "a b", "ä"] {
        assert!(wrong.parse::<Token>().is_err(), "{wrong}");
    }
}
