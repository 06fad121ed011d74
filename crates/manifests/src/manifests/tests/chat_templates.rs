//! Chat templates: written down, or in a `ConfigMap` of the same manifests.

use super::{MODEL, mistakes, parse};

const CONFIG_MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: chats
data:
  gemma.jinja: |
    {{ messages }}
";

fn model(template: &str) -> String {
    format!("{MODEL}  chatTemplate: {template}\n")
}

fn template(documents: &[&str]) -> Option<String> {
    let manifests = parse(documents).unwrap();
    manifests.models[0]
        .chat_template
        .as_deref()
        .map(str::to_owned)
}

#[test]
fn a_template_is_inline_or_in_a_config_map() {
    assert_eq!(template(&[MODEL]), None);
    let inline = model("{inline: '{{ messages }}'}");
    assert_eq!(template(&[&inline]).unwrap(), "{{ messages }}");
    let named = model("{configMap: {name: chats, key: gemma.jinja}}");
    assert_eq!(template(&[&named, CONFIG_MAP]).unwrap(), "{{ messages }}\n");
    assert_eq!(template(&[CONFIG_MAP, &named]).unwrap(), "{{ messages }}\n");
}

#[test]
fn what_is_missing_is_named() {
    let check = |template: &str, map: &str, expect: &str| {
        let found = mistakes(&[&model(template), map]);
        assert!(found.contains(expect), "{found}");
    };
    check(
        "{configMap: {name: chat, key: gemma.jinja}}",
        CONFIG_MAP,
        "ModelDeployment demo: spec.chatTemplate.configMap.name: no manifest declares a ConfigMap named \"chat\"",
    );
    check(
        "{configMap: {name: chats, key: gemma}}",
        CONFIG_MAP,
        "spec.chatTemplate.configMap.key: the ConfigMap chats has no entry \"gemma\"",
    );
    check(
        "{}",
        CONFIG_MAP,
        "spec.chatTemplate: expected exactly one of configMap or inline",
    );
    check(
        "{inline: x, configMap: {name: chats, key: gemma.jinja}}",
        CONFIG_MAP,
        "spec.chatTemplate: expected exactly one of configMap or inline, found configMap and inline",
    );
    check(
        "{inline: ''}",
        CONFIG_MAP,
        "spec.chatTemplate.inline: expected",
    );
    let bad = CONFIG_MAP.replace("gemma.jinja: |\n    {{ messages }}", "gemma.jinja: [1]");
    check(
        "{inline: x}",
        &bad,
        "ConfigMap chats: data.gemma.jinja: expected",
    );
}
