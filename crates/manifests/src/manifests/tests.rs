//! Every mistake names its line, its place, and what was expected.

mod chat_templates;
mod plan_mistakes;
mod plans;

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

const MODEL: &str = "\
apiVersion: inferyard.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: demo
spec:
  model:
    aliases: [other]
    source:
      builtin:
        name: demo
";

const PLAN: &str = "\
apiVersion: inferyard.dev/v1alpha1
kind: Plan
metadata:
  name: basic
spec:
  models: [other]
  priority: 3
";

fn key(spec: &str) -> String {
    format!(
        "apiVersion: inferyard.dev/v1alpha1\nkind: ApiKey\nmetadata: {{name: alice}}\nspec: {spec}\n"
    )
}

fn hash() -> String {
    "ab".repeat(32)
}

fn parse(documents: &[&str]) -> Result<Manifests, Mistakes> {
    Manifests::parse(&[ManifestFile {
        path: PathBuf::from("folder/q.yaml"),
        text: documents.join("---\n"),
        modified: UNIX_EPOCH + Duration::from_secs(7),
    }])
}

fn mistakes(documents: &[&str]) -> String {
    parse(documents).unwrap_err().to_string()
}

#[test]
fn resources_become_models_plans_and_keys() {
    let key = key(&format!(
        "{{plan: basic, hash: {}, expiresAt: 2030-01-01T00:00:00Z}}",
        hash()
    ));
    let manifests = parse(&[MODEL, PLAN, &key]).unwrap();
    let [model] = &manifests.models[..] else {
        panic!("one model")
    };
    assert_eq!(
        (&*model.name, &*model.resource, model.replicas),
        ("demo", "demo", 1)
    );
    assert_eq!(model.weights, Weights::Builtin(BuiltinModel::Demo));
    assert_eq!(model.created, 7);
    let plan = &manifests.plans["basic"];
    assert_eq!(
        plan.models,
        Some(vec!["demo".into()]),
        "an alias stands for its model"
    );
    let key = &manifests.keys[&KeyHash([0xab; 32])];
    assert_eq!(
        (key.name.as_deref(), &*key.account, &key.plan),
        (Some("alice"), "alice", plan)
    );
    assert_eq!(
        key.expires,
        Some(UNIX_EPOCH + Duration::from_hours(525_960))
    );
    let catalog = manifests.catalog(&BTreeMap::new(), []);
    assert_eq!(
        catalog
            .model(&manifests.default_plan(), "other")
            .unwrap()
            .name,
        model.name
    );
}

#[test]
fn settings_of_the_engine_and_a_relative_file_are_read() {
    let text = MODEL.replace(
        "builtin:\n        name: demo",
        "file: {path: weights/m.gguf}",
    ) + "  engine: {embedded: {contextLength: 4096, maxRunning: 8, kvTokens: 65536}}\n  scaling: {replicas: 2}\n";
    let manifests = parse(&[&text]).unwrap();
    let model = &manifests.models[0];
    assert_eq!(model.weights, Weights::File("folder/weights/m.gguf".into()));
    assert_eq!(model.engine.context_length, Some(4096));
    assert_eq!(model.engine.kv_tokens, Some(65536));
    assert_eq!(
        (model.engine.max_running, model.engine.threads),
        (Some(8), None)
    );
    assert_eq!(model.replicas, 2);
}

/// The plan of the key that `up` makes.
#[test]
fn the_default_plan_is_the_named_the_only_or_none() {
    let named = PLAN.replace("basic", "default");
    assert_eq!(
        &*parse(&[MODEL, PLAN]).unwrap().default_plan().name,
        "basic"
    );
    assert_eq!(
        &*parse(&[MODEL, PLAN, &named]).unwrap().default_plan().name,
        "default"
    );
    let other = PLAN.replace("basic", "more");
    for documents in [&[MODEL][..], &[MODEL, PLAN, &other]] {
        let plan = parse(documents).unwrap().default_plan();
        assert_eq!((&*plan.name, &plan.models), ("unrestricted", &None));
    }
}

#[test]
fn a_wrong_number_of_replicas_is_told_the_range() {
    let scaling = |value: &str| format!("{MODEL}  scaling:\n    replicas: {value}\n");
    let replicas =
        "ModelDeployment demo: spec.scaling.replicas: expected a whole number from 0 to 1024";
    let table = [
        (scaling("two"), format!("folder/q.yaml:12: {replicas}, found \"two\"")),
        (
            scaling("0"),
            "folder/q.yaml:12: ModelDeployment demo: spec.scaling.replicas: expected at least 1 on one \
             machine: leave the model out to stop it"
                .to_owned(),
        ),
        (scaling("1.5"), format!("folder/q.yaml:12: {replicas}, found 1.5")),
        (scaling("[1]"), format!("folder/q.yaml:12: {replicas}, found a list")),
    ];
    for (text, expected) in table {
        assert_eq!(mistakes(&[&text]), expected);
    }
}

#[test]
fn a_wrong_field_names_its_path_its_line_and_what_was_expected() {
    let table = [
        (
            MODEL.replace("aliases", "alias"),
            "folder/q.yaml:7: ModelDeployment demo: spec.model.alias: unknown field (did you mean aliases?); known here: \
             aliases, name or source"
                .to_owned(),
        ),
        (
            MODEL.replace("[other]", "[\"white space\"]"),
            "folder/q.yaml:7: ModelDeployment demo: spec.model.aliases[0]: expected a text of 1 to \
             128 characters that matches ^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$, found \
             \"white space\""
                .to_owned(),
        ),
        (
            MODEL.replace("name: demo\n", "name: gpt\n").replace("name: gpt\nspec", "name: demo\nspec"),
            "folder/q.yaml:10: ModelDeployment demo: spec.model.source.builtin.name: expected \
             \"demo\", found \"gpt\""
                .to_owned(),
        ),
        (
            MODEL.replace("source:\n", "source:\n      file: {path: m.gguf}\n"),
            "folder/q.yaml:9: ModelDeployment demo: spec.model.source: expected exactly one of \
             builtin, file, http, huggingFace, image or pvc, found builtin and file"
                .to_owned(),
        ),
        (
            MODEL.replace("    source:\n      builtin:\n        name: demo\n", ""),
            "folder/q.yaml:7: ModelDeployment demo: spec.model.source: missing: expected a mapping"
                .to_owned(),
        ),
        (
            MODEL.replace("metadata:\n  name: demo", "metadata: {}"),
            "folder/q.yaml:3: ModelDeployment: metadata.name: missing: expected a text of 1 to 63 \
             characters that matches ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
                .to_owned(),
        ),
        (
            MODEL.replace("v1alpha1", "v2"),
            "folder/q.yaml:1: apiVersion: expected inferyard.dev/v1alpha1, found \"inferyard.dev/v2\""
                .to_owned(),
        ),
        (
            MODEL.replace("ModelDeployment", "Model"),
            "folder/q.yaml:2: kind: expected ApiKey, ModelDeployment or Plan, found \"Model\""
                .to_owned(),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(mistakes(&[&text]), expected);
    }
}

#[test]
fn what_is_not_yaml_names_the_line() {
    let message = mistakes(&["kind: [Plan\nspec: {\n"]);
    assert!(message.starts_with("folder/q.yaml:"), "{message}");
    assert!(message.contains("not YAML"), "{message}");
}

#[test]
fn references_and_names_are_checked() {
    let second = MODEL.replace("name: demo\nspec", "name: second\nspec");
    let key_of = |plan: &str| key(&format!("{{plan: {plan}, hash: {}}}", hash()));
    let same_hash = key_of("basic").replace("alice", "bob");
    let table: [(&[&str], &str); 9] = [
        (
            &[MODEL, MODEL],
            "ModelDeployment demo: metadata.name: this ModelDeployment is declared twice, first in folder/q.yaml:1",
        ),
        (
            &[MODEL, &second],
            "ModelDeployment second: spec.model.aliases[0]: the name \"other\" is taken by ModelDeployment demo",
        ),
        (
            &[MODEL, &second.replace("other", "demo")],
            "the name \"demo\" is taken by ModelDeployment demo",
        ),
        (
            &[MODEL, &PLAN.replace("other", "nobody")],
            "Plan basic: spec.models[0]: no ModelDeployment serves a model named \"nobody\"",
        ),
        (
            &[MODEL, &key_of("basic")],
            "ApiKey alice: spec.plan: there is no Plan named \"basic\"",
        ),
        (
            &[MODEL, PLAN, &key_of("basic"), &same_hash],
            "ApiKey bob: spec.hash: ApiKey alice has the same hash",
        ),
        (
            &[MODEL, PLAN, &key("{plan: basic, hash: abc}")],
            "ApiKey alice: spec.hash: expected the SHA-256 of a key as 64 lower-case hexadecimal digits, found \"abc\"",
        ),
        (
            &[PLAN.split("  models").next().unwrap()],
            "Plan basic: spec: missing: expected a mapping",
        ),
        (
            &["apiVersion: inferyard.dev/v1alpha1\nkind: Plan\nmetadata: {name: p}\nspec: {}\n"],
            "no ModelDeployment: there is nothing to serve",
        ),
    ];
    for (documents, expected) in table {
        let message = mistakes(documents);
        assert!(
            message.contains(expected),
            "{message}\nshould contain\n{expected}"
        );
    }
}

#[test]
fn a_moment_that_does_not_exist_is_a_mistake() {
    let key = key(&format!(
        "{{plan: basic, hash: {}, expiresAt: 2030-02-31T00:00:00Z}}",
        hash()
    ));
    let message = mistakes(&[MODEL, PLAN, &key]);
    assert!(
        message.contains("ApiKey alice: spec.expiresAt: "),
        "{message}"
    );
}

/// What refers to a resource with a mistake is not reported as well.
#[test]
fn all_mistakes_come_at_once_and_without_consequences() {
    let model = MODEL
        .replace("name: demo\n", "name: Demo!\n")
        .replace("spec:", "sepc:");
    let plan = PLAN.replace("priority: 3", "priority: high");
    let key = key(&format!("{{plan: basic, hash: {}, disabled: 1}}", hash()));
    let found = parse(&[&model, &plan, &key]).unwrap_err().0;
    let places: Vec<_> = found.iter().map(|mistake| mistake.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "ModelDeployment Demo!: spec",
            "ModelDeployment Demo!: metadata.name",
            "ModelDeployment Demo!: sepc",
            "Plan basic: spec.priority",
            "ApiKey alice: spec.disabled",
        ]
    );
}
