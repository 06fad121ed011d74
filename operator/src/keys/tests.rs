//! The status of keys, in tables.

use inferyard_crds::Plan;
use serde_json::{Value, json};

use super::*;
use crate::plans::tests::{plan, resource};

fn key(namespace: &str, name: &str, age: i64, spec: &Value) -> ApiKey {
    resource("ApiKey", namespace, name, age, spec)
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A key on the plan `p` of its namespace.
fn hashed(namespace: &str, name: &str, age: i64, digit: char) -> ApiKey {
    let spec = json!({ "plan": "p", "hash": hash(digit) });
    key(namespace, name, age, &spec)
}

/// A key in a Secret, whose hash the status has.
fn kept(name: &str, age: i64, digit: char) -> ApiKey {
    let secret = json!({ "name": "s", "key": "token" });
    let mut kept = key(
        "team-b",
        name,
        age,
        &json!({ "plan": "p", "secret": secret }),
    );
    kept.status = Some(ApiKeyStatus {
        hash: Some(hash(digit)),
        ..ApiKeyStatus::default()
    });
    kept
}

/// Reason, message and hash of each status.
fn said(keys: &[(ApiKey, Option<Found>)]) -> Vec<(String, String, Option<String>)> {
    let platform = Platform::new(vec!["inferyard".to_owned()]);
    let declared: [Plan; 4] = [
        plan("inferyard", "p", 1, &json!({})),
        plan("team-a", "p", 1, &json!({})),
        plan("team-b", "p", 1, &json!({})),
        plan("team-b", "greedy", 1, &json!({ "priority": 7 })),
    ];
    let declared: Vec<_> = declared.iter().collect();
    let plans = Plans::new(&platform, &declared, []);
    let keys = keys.iter().map(|(key, found)| (key, found.clone()));
    let keys = Keys::with(&platform, &plans, keys.collect());
    let statuses = keys.statuses(Timestamp::UNIX_EPOCH);
    let told = statuses.map(|(_, status)| {
        let condition = &status.conditions[0];
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        (reason, message, status.hash)
    });
    told.collect()
}

#[test]
fn a_key_is_accepted_on_a_plan_of_its_own_namespace() {
    for (namespace, plan, reason, words) in [
        ("team-b", "p", "Valid", "its callers are on the Plan p"),
        ("team-b", "none", "NotFound", "there is no Plan none"),
        ("team-a", "greedy", "NotFound", "there is no Plan greedy"),
        (
            "team-b",
            "greedy",
            "NotAllowed",
            "the Plan greedy is not allowed",
        ),
    ] {
        let spec = json!({ "plan": plan, "hash": hash('1') });
        let told = said(&[(key(namespace, "k", 1, &spec), None)]);
        assert_eq!(told[0].0, reason, "{namespace} {plan}");
        assert!(told[0].1.contains(words), "{}", told[0].1);
    }
}

#[test]
fn a_secret_without_a_key_revokes_it_and_one_that_cannot_be_read_does_not() {
    let gone = Found::NoKey(
        Reason::NotFound,
        "spec.secret: there is no Secret s".to_owned(),
    );
    let empty = Found::NoKey(Reason::Invalid, "spec.secret: found 0".to_owned());
    for (found, reason, left) in [
        (Found::Key(hash('2')), "Valid", Some(hash('2'))),
        (gone, "NotFound", None),
        (empty, "Invalid", None),
        (
            Found::Unread("the Secret cannot be read now".to_owned()),
            "Refused",
            Some(hash('1')),
        ),
    ] {
        let told = said(&[(kept("k", 1, '1'), Some(found))]);
        assert_eq!((told[0].0.as_str(), &told[0].2), (reason, &left));
    }
}

/// A tenant copies a hash into an older key of its own.
#[test]
fn a_key_that_has_its_hash_does_not_lose_it_to_an_older_one() {
    let mut victim = hashed("team-b", "victim", 1, '7');
    let old = || (hashed("team-a", "old", 9, '7'), None);
    let first = said(&[(victim.clone(), None), old()]);
    assert_eq!((&*first[0].0, &*first[1].0), ("NameTaken", "Valid"));
    victim.status = Some(ApiKeyStatus {
        hashes: vec![hash('7')],
        ..ApiKeyStatus::default()
    });
    let later = said(&[(victim.clone(), None), old()]);
    assert_eq!((&*later[0].0, &*later[1].0), ("Valid", "NameTaken"));
    // The platform goes before tenants all the same.
    let platform = (hashed("inferyard", "own", 1, '7'), None);
    let told = said(&[(victim, None), platform]);
    assert_eq!((&*told[0].0, &*told[1].0), ("NameTaken", "Valid"));
}

#[test]
fn a_status_has_the_hashes_that_are_the_keys_own() {
    let platform = Platform::new(vec!["inferyard".to_owned()]);
    let plans = Plans::new(&platform, &[], []);
    let (first, second) = (hashed("team-b", "a", 5, '7'), hashed("team-b", "b", 1, '7'));
    let secret = kept("c", 1, '8');
    let found = Some(Found::Key(hash('9')));
    let keys = vec![(&first, None), (&second, None), (&secret, found)];
    let keys = Keys::with(&platform, &plans, keys);
    let statuses = keys.statuses(Timestamp::UNIX_EPOCH);
    let hashes: Vec<_> = statuses.map(|(_, status)| status.hashes).collect();
    assert_eq!(hashes, [vec![hash('7')], vec![], vec![hash('9')]]);
}

#[test]
fn of_two_keys_with_one_hash_the_second_says_so() {
    let rotated = key(
        "team-b",
        "rotated",
        3,
        &json!({
            "plan": "p", "hash": hash('8'),
            "previousHash": hash('7'), "previousHashExpiresAt": "2030-01-01T00:00:00Z",
        }),
    );
    let seven = || Some(Found::Key(hash('7')));
    let table = [
        // The older one, whatever its field is.
        (
            hashed("team-b", "old", 5, '7'),
            None,
            hashed("team-b", "young", 1, '7'),
            None,
        ),
        (hashed("team-b", "old", 5, '7'), None, rotated.clone(), None),
        (rotated, None, hashed("team-b", "young", 1, '7'), None),
        (
            hashed("team-b", "old", 5, '7'),
            None,
            kept("young", 1, '0'),
            seven(),
        ),
        (
            kept("old", 5, '0'),
            seven(),
            hashed("team-b", "young", 1, '7'),
            None,
        ),
        // Age does not help against the platform.
        (
            hashed("inferyard", "young", 1, '7'),
            None,
            hashed("team-b", "old", 5, '7'),
            None,
        ),
        (
            hashed("team-a", "old", 5, '7'),
            None,
            hashed("team-b", "young", 1, '7'),
            None,
        ),
    ];
    for (first, first_found, second, second_found) in table {
        let elsewhere = first.namespace() != second.namespace();
        let name = first.name_any();
        let told = said(&[(second, second_found), (first, first_found)]);
        assert_eq!(told[1].0, "Valid", "{}", told[1].1);
        assert_eq!(told[0].0, "NameTaken", "{}", told[0].1);
        let whose = if elsewhere {
            "an ApiKey of another namespace has the same key".to_owned()
        } else {
            format!("the ApiKey {name} has the same key")
        };
        assert!(told[0].1.contains(&whose), "{}", told[0].1);
    }
}
