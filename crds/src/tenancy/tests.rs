//! Each rule as rows.

use serde_json::{Value, json};

use super::*;
use crate::{Plan, PlanSpec};

fn platform() -> Platform {
    Platform::new(vec!["inferyard".to_owned(), "shared".to_owned()])
}

fn spec(fields: &Value) -> PlanSpec {
    let plan = json!({
        "apiVersion": crate::API_VERSION, "kind": "Plan", "metadata": {"name": "p"}, "spec": fields,
    });
    serde_json::from_value::<Plan>(plan).unwrap().spec
}

#[test]
fn a_plan_of_a_tenant_is_held_to_its_own_namespace() {
    let excesses = [
        (
            json!({"priority": 1}),
            "spec.priority 1 would go before the requests of other namespaces: write 0 or less",
        ),
        (json!({"priority": 1000}), "spec.priority 1000 would go"),
        (
            json!({"preview": {}}),
            "spec.preview would open models to callers without a key: leave the field out",
        ),
        (
            json!({"price": {"perMillionTokens": "0"}}),
            "spec.price.perMillionTokens \"0\" is below the default price: write at least \"5\"",
        ),
        (
            json!({"price": {"perMillionTokens": "4.999"}}),
            "spec.price.perMillionTokens \"4.999\"",
        ),
        (
            json!({"price": {"perMillionInputTokens": "1", "perMillionOutputTokens": "9"}}),
            "spec.price.perMillionInputTokens \"1\"",
        ),
        (
            json!({"price": {"perMillionInputTokens": "9", "perMillionOutputTokens": "1"}}),
            "spec.price.perMillionOutputTokens \"1\"",
        ),
        (
            json!({"price": {
                "perMillionInputTokens": "9", "perMillionCachedInputTokens": "0.30",
                "perMillionOutputTokens": "9",
            }}),
            "spec.price.perMillionCachedInputTokens \"0.30\"",
        ),
        (
            json!({"namespaceSelector": {"any": true}}),
            "spec.namespaceSelector would reach the models of other namespaces: leave the field out",
        ),
        (
            json!({"namespaceSelector": {"matchNames": ["team-b", "team-a"]}}),
            "spec.namespaceSelector would reach",
        ),
    ];
    for (fields, said) in excesses {
        let spec = spec(&fields);
        let refusal = platform().refusal("team-b", &spec).unwrap_or_default();
        assert!(refusal.contains(said), "{fields}: {refusal}");
        let end = "Only a Plan in a namespace of the platform (inferyard, shared) may do that";
        assert!(refusal.ends_with(end), "{fields}: {refusal}");
        for namespace in ["inferyard", "shared"] {
            assert_eq!(platform().refusal(namespace, &spec), None, "{fields}");
        }
    }
}

#[test]
fn a_plan_of_a_tenant_may_set_everything_that_affects_only_its_namespace() {
    for fields in [
        json!({}),
        json!({"priority": 0}),
        json!({"priority": -1000, "weight": 10_000, "shadow": true}),
        json!({"price": {"perMillionTokens": "5"}}),
        json!({"price": {"perMillionInputTokens": "5.000", "perMillionOutputTokens": "15"}}),
        json!({"namespaceSelector": {"any": false}}),
        json!({"namespaceSelector": {"matchNames": ["team-b"]}}),
        json!({"limits": {"requestsPerMinute": 1}, "queue": {"maxRequests": 65_536}}),
    ] {
        assert_eq!(
            platform().refusal("team-b", &spec(&fields)),
            None,
            "{fields}"
        );
    }
}

#[test]
fn all_excesses_are_reported_together() {
    let fields = json!({"priority": 7, "preview": {}, "namespaceSelector": {"any": true}});
    let refusal = platform().refusal("team-b", &spec(&fields)).unwrap();
    for field in ["spec.priority", "spec.preview", "spec.namespaceSelector"] {
        assert!(refusal.contains(field), "{refusal}");
    }
}

#[test]
fn a_plan_reaches_its_own_namespace_and_what_the_platform_opens() {
    let table = [
        (json!({}), "inferyard", vec!["inferyard"]),
        (json!({}), "team-a", vec!["team-a"]),
        (
            json!({"namespaceSelector": {"any": true}}),
            "shared",
            vec!["inferyard", "shared", "team-a", "team-b"],
        ),
        (
            json!({"namespaceSelector": {"any": false}}),
            "shared",
            vec!["shared"],
        ),
        (
            json!({"namespaceSelector": {"matchNames": ["team-a"]}}),
            "shared",
            vec!["shared", "team-a"],
        ),
        // A plan that is not allowed reaches its own namespace only, also where `refusal` was not called.
        (
            json!({"namespaceSelector": {"any": true}}),
            "team-a",
            vec!["team-a"],
        ),
        (
            json!({"namespaceSelector": {"matchNames": ["team-b"]}}),
            "team-a",
            vec!["team-a"],
        ),
    ];
    for (fields, own, expected) in table {
        let reach = platform().reach(own, &spec(&fields));
        let reached: Vec<_> = ["inferyard", "shared", "team-a", "team-b"]
            .into_iter()
            .filter(|namespace| reach.includes(namespace))
            .collect();
        assert_eq!(reached, expected, "{own}: {fields}");
    }
}

#[test]
fn names_of_two_namespaces_are_never_the_same() {
    let platform = platform();
    assert_eq!(platform.called("inferyard", "acme"), "acme");
    assert_eq!(platform.called("shared", "acme"), "shared/acme");
    assert_eq!(platform.called("team-b", "acme"), "team-b/acme");
    assert_eq!(platform.model_id("inferyard", "org/m"), "org/m");
    assert_eq!(platform.model_id("team-b", "org/m"), "org/m@team-b");
}

#[test]
fn one_namespace_alone_is_the_platforms() {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let of = |watched: &[&str]| Platform::usual(&names(watched), "release");
    assert_eq!(of(&["release"]), Platform::new(names(&["release"])));
    assert_eq!(of(&["models"]), Platform::new(names(&["models"])));
    assert_eq!(of(&["a", "b"]), Platform::new(names(&["release"])));
    assert_eq!(of(&[]), Platform::new(names(&["release"])));
}

#[test]
fn the_oldest_claimant_has_a_name() {
    let claimant = |rank, leaving, created, namespace, name| Claimant {
        rank,
        leaving,
        created,
        namespace,
        name,
    };
    let old = claimant(0, false, 5, "b", "old");
    let table = [
        (old, claimant(0, false, 6, "a", "young")),
        (
            old,
            claimant(0, false, 5, "b", "older-by-name-is-after-old"),
        ),
        (old, claimant(0, false, 5, "c", "a")),
        // A resource that is being deleted comes last, and the platform comes first.
        (old, claimant(0, true, 1, "b", "leaving")),
        (old, claimant(1, false, 1, "b", "of-a-tenant")),
    ];
    for (owner, other) in table {
        for claims in [[owner, other], [other, owner]] {
            let owners = owners(claims.map(|claimant| ("name", claimant)));
            assert_eq!(owners["name"], owner, "{other:?}");
        }
    }
    let apart = owners([(("a", "m"), old), (("b", "m"), table[0].1)]);
    assert_eq!(
        apart.len(),
        2,
        "a name in another namespace is another name"
    );
}

#[test]
fn the_platform_is_found_before_others() {
    let platform = platform();
    let ranks = ["inferyard", "shared", "team-a", "team-b"].map(|name| platform.rank(name));
    assert_eq!(ranks, [0, 1, 2, 2]);
    let ranks = ["inferyard", "shared", "team-a", "team-b"]
        .map(|name| [true, false].map(|has| platform.key_rank(name, has)));
    assert_eq!(ranks, [[0, 1], [0, 1], [2, 3], [2, 3]]);
}
