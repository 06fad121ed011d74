//! Every mistake in a plan, a price, limits or a rotated key says what to write instead.

use super::plans::{key_with, plan, plan_named};
use super::*;

/// What many messages expect, by the word that stands for it in the tables.
const EXPECTED: [(&str, &str); 5] = [
    (
        "COUNT",
        "expected a whole number of at least 1 and at most 1000000000000 (leave the field out for \
         no limit), found",
    ),
    (
        "MONEY",
        "expected dollars as a decimal string, such as \"25.00\", found",
    ),
    (
        "PRICE",
        "expected dollars per million tokens as a decimal string of at most 3 decimals (0.001 is \
         one nano-dollar per token, the finest price), such as \"0.30\", found",
    ),
    (
        "TWO",
        "two prices: expected perMillionTokens alone, or perMillionInputTokens and \
         perMillionOutputTokens without it",
    ),
    (
        "HALF",
        "expected perMillionTokens, or both perMillionInputTokens and perMillionOutputTokens",
    ),
];

const LIMITS: &[(&str, &str)] = &[
    (
        "{limits: {requestsPerMinute: -60}}",
        "spec.limits.requestsPerMinute: COUNT -60",
    ),
    (
        "{limits: {tokensPerDay: 0}}",
        "spec.limits.tokensPerDay: COUNT 0",
    ),
    (
        "{limits: {requestsTotal: 2.5}}",
        "spec.limits.requestsTotal: COUNT 2.5",
    ),
    (
        "{limits: {concurrentRequests: many}}",
        "spec.limits.concurrentRequests: COUNT \"many\"",
    ),
    (
        "{limits: {tokensPerMinute: 1000000000001}}",
        "spec.limits.tokensPerMinute: COUNT 1000000000001",
    ),
    (
        "{limits: {requestsPerDay: 99999999999999999999}}",
        "spec.limits.requestsPerDay: COUNT ",
    ),
    (
        "{limits: {tokensPerMin: 1}}",
        "spec.limits.tokensPerMin: unknown field (did you mean tokensPerMinute?); known here: \
         budgetPerMonth, concurrentRequests, requestsPerDay, requestsPerMinute, requestsTotal, \
         tokensPerDay or tokensPerMinute",
    ),
    (
        "{requestsPerMinute: 1}",
        "spec.requestsPerMinute: unknown field; known here: defaultOutputReserve, limits, models, \
         namespaceSelector, preview, price, priority, queue, shadow, weight or whenRedisIsLost",
    ),
    (
        "{limits: {budgetPerMonth: 25}}",
        "spec.limits.budgetPerMonth: MONEY 25: write \"25\", in quotes",
    ),
    (
        "{limits: {budgetPerMonth: -1}}",
        "spec.limits.budgetPerMonth: MONEY -1",
    ),
    (
        "{limits: {budgetPerMonth: '-1'}}",
        "spec.limits.budgetPerMonth: MONEY \"-1\"",
    ),
    (
        "{limits: {budgetPerMonth: $25}}",
        "spec.limits.budgetPerMonth: MONEY \"$25\"",
    ),
    (
        "{limits: {budgetPerMonth: '1e3'}}",
        "spec.limits.budgetPerMonth: MONEY \"1e3\"",
    ),
    (
        "{limits: {budgetPerMonth: '10,00'}}",
        "spec.limits.budgetPerMonth: MONEY \"10,00\"",
    ),
    (
        "{limits: {budgetPerMonth: '0.00'}}",
        "spec.limits.budgetPerMonth: expected more than 0 dollars; leave the field out for no \
         budget; found \"0.00\"",
    ),
];

const PRICES: &[(&str, &str)] = &[
    (
        "{price: {perMillionTokens: '1', perMillionInputTokens: '1'}}",
        "spec.price: TWO",
    ),
    (
        "{price: {perMillionTokens: '1', perMillionCachedInputTokens: '1'}}",
        "spec.price: TWO",
    ),
    (
        "{price: {perMillionTokens: '1', perMillionOutputTokens: '1'}}",
        "spec.price: TWO",
    ),
    ("{price: {}}", "spec.price: HALF"),
    ("{price: {perMillionInputTokens: '1'}}", "spec.price: HALF"),
    ("{price: {perMillionOutputTokens: '1'}}", "spec.price: HALF"),
    (
        "{price: {perMillionCachedInputTokens: '1'}}",
        "spec.price: HALF",
    ),
    (
        "{price: {perMillionTokens: '0.0005'}}",
        "spec.price.perMillionTokens: PRICE \"0.0005\"",
    ),
    (
        "{price: {perMillionTokens: '-5'}}",
        "spec.price.perMillionTokens: PRICE \"-5\"",
    ),
    (
        "{price: {perMillionTokens: 5}}",
        "spec.price.perMillionTokens: PRICE 5: write \"5\", in quotes",
    ),
    (
        "{price: '5'}",
        "spec.price: expected a mapping, found \"5\"",
    ),
];

const OTHER_FIELDS: &[(&str, &str)] = &[
    (
        "{weight: 0}",
        "spec.weight: expected a whole number from 1 to 10000, found 0",
    ),
    (
        "{priority: 5000}",
        "spec.priority: expected a whole number from -1000 to 1000, found 5000",
    ),
    (
        "{defaultOutputReserve: 0}",
        "spec.defaultOutputReserve: expected a whole number from 1 to 1048576, found 0",
    ),
    (
        "{queue: {maxRequests: -1}}",
        "spec.queue.maxRequests: expected a whole number from 0 to 65536, found -1",
    ),
    (
        "{queue: {maxWait: 30}}",
        "spec.queue.maxWait: expected a time, such as \"30s\", found 30",
    ),
    (
        "{queue: {maxWait: 11m}}",
        "spec.queue.maxWait: expected at least 1s and at most 10m; found \"11m\"",
    ),
    (
        "{whenRedisIsLost: fail}",
        "spec.whenRedisIsLost: expected \"local\", \"closed\" or \"open\", found \"fail\"",
    ),
    (
        "{shadow: on the wall}",
        "spec.shadow: expected true or false, found \"on the wall\"",
    ),
    (
        "{preview: {signUpUrl: 'javascript:alert(1)'}}",
        "spec.preview.signUpUrl: expected a link, such as \"https://example.com/sign-up\", found \
         \"javascript:alert(1)\"",
    ),
    (
        "{preview: {tokensPerDay: 0}}",
        "spec.preview.tokensPerDay: COUNT 0",
    ),
    (
        "{namespaceSelector: {any: true, matchNames: [a]}}",
        "spec.namespaceSelector: expected exactly one of any or matchNames, found any and matchNames",
    ),
    (
        "{namespaceSelector: {matchNames: [Team_A]}}",
        "spec.namespaceSelector.matchNames[0]: expected the name of a namespace: lower-case letters, \
         digits and -, found \"Team_A\"",
    ),
    (
        "{models: [dmeo]}",
        "spec.models[0]: no ModelDeployment serves a model named \"dmeo\": did you mean \"demo\"?",
    ),
    (
        "{models: [gpt-4]}",
        "spec.models[0]: no ModelDeployment serves a model named \"gpt-4\": expected demo or other",
    ),
];

/// The fields beside the plan and the hash, which is `OWN`.
const KEYS: &[(&str, &str)] = &[
    (
        "limits: {requestsPerMinute: 0}",
        "spec.limits.requestsPerMinute: COUNT 0",
    ),
    (
        "limits: {budgetPerMonth: '0'}",
        "spec.limits.budgetPerMonth: expected more than 0 dollars; leave the field out for no \
         budget; found \"0\"",
    ),
    (
        "secret: {name: s, key: k}",
        "spec: expected exactly one of hash (`inferyard keys create` makes one) and secret",
    ),
    (
        "previousHash: OTHER",
        "spec: expected previousHash and previousHashExpiresAt together, or neither of them",
    ),
    (
        "previousHashExpiresAt: 2030-01-01T00:00:00Z",
        "spec: expected previousHash and previousHashExpiresAt together, or neither of them",
    ),
    (
        "previousHash: OWN, previousHashExpiresAt: 2030-01-01T00:00:00Z",
        "spec.previousHash: expected another hash than the present one",
    ),
    (
        "previousHash: OTHER, previousHashExpiresAt: tomorrow",
        "spec.previousHashExpiresAt: ",
    ),
    (
        "previousHash: secret, previousHashExpiresAt: 2030-01-01T00:00:00Z",
        "spec.previousHash: expected the SHA-256 of a key as 64 lower-case hexadecimal digits, \
         found \"secret\"",
    ),
];

fn other_hash() -> String {
    "cd".repeat(32)
}

/// Mistakes that lie between two resources.
fn between() -> Vec<(Vec<String>, String)> {
    let own = key_with("account: a");
    let overlap = key_with("previousHash: OWN, previousHashExpiresAt: 2030-01-01T00:00:00Z")
        .replace(&hash(), &other_hash())
        .replace("OWN", &hash())
        .replace("alice", "bob");
    let on = |plan: &str| own.replace("plan: basic", &format!("plan: {plan}"));
    let table = [
        (
            vec![plan("{}"), own.clone(), overlap],
            "ApiKey bob: spec.previousHash: ApiKey alice has the same hash",
        ),
        (
            vec![plan("{}"), on("bassic")],
            "ApiKey alice: spec.plan: there is no Plan named \"bassic\": did you mean \"basic\"?",
        ),
        (
            vec![plan("{}"), on("enterprise")],
            "ApiKey alice: spec.plan: there is no Plan named \"enterprise\": expected basic",
        ),
        (
            vec![plan_named("free", "{preview: {}}"), plan("{preview: {}}")],
            "Plan basic: spec.preview: Plan free is open to callers without a key already, and \
             only one plan can be: leave the field out of one of them",
        ),
    ];
    table
        .map(|(documents, said)| (documents, said.to_owned()))
        .into()
}

/// Documents, and what is said about the one mistake in them.
fn table() -> Vec<(Vec<String>, String)> {
    let in_words = |said: &str| {
        EXPECTED.iter().fold(said.to_owned(), |said, (word, text)| {
            said.replace(word, text)
        })
    };
    let plans = [LIMITS, PRICES, OTHER_FIELDS].concat();
    let plans = plans
        .into_iter()
        .map(|(spec, said)| (vec![plan(spec)], format!("Plan basic: {}", in_words(said))));
    let keys = KEYS.iter().map(|(fields, said)| {
        let fields = fields
            .replace("OTHER", &other_hash())
            .replace("OWN", &hash());
        let documents = vec![plan("{}"), key_with(&fields)];
        (documents, format!("ApiKey alice: {}", in_words(said)))
    });
    plans.chain(keys).chain(between()).collect()
}

/// A message that ends in a blank goes on with words that are not ours.
#[test]
fn every_mistake_is_said_once_with_its_path_and_what_to_write() {
    for (documents, said) in table() {
        let documents = documents.iter().map(String::as_str);
        let found = mistakes(&[MODEL].into_iter().chain(documents).collect::<Vec<_>>());
        assert_eq!(found.lines().count(), 1, "{found}");
        let found = found.strip_prefix("folder/q.yaml:").unwrap();
        let (line, rest) = found.split_once(": ").unwrap();
        assert!(line.parse::<u64>().unwrap() > 10, "{found}");
        let fits = if said.ends_with(' ') {
            rest.starts_with(&said)
        } else {
            rest == said
        };
        assert!(fits, "{rest}\nshould be\n{said}");
    }
}

fn rules(schema: &serde_json::Value, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            let own = fields.get("x-kubernetes-validations");
            for rule in own.iter().flat_map(|rules| rules.as_array().unwrap()) {
                found.push(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|value| rules(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
        _ => {}
    }
}

/// A cluster evaluates the rules between fields; here they are code, and none may be forgotten.
#[test]
fn every_rule_of_the_definitions_is_checked_here_too() {
    let mut messages = Vec::new();
    // Most rules of a model are about what one machine does not read; `schema` and `link` have the others.
    let definitions = inferyard_crds::definitions().into_iter();
    for definition in definitions.filter(|found| found.spec.names.kind != "ModelDeployment") {
        rules(&serde_json::to_value(definition).unwrap(), &mut messages);
    }
    assert_eq!(messages.len(), 9, "{messages:?}");
    let table = table();
    for message in messages {
        // Where one of several fields is expected, `schema` lists them in its own words.
        let listed = message.replace(", ", " or ");
        let mut all = table.iter().map(|(_, said)| said);
        let said = all.any(|said| said.contains(&message) || said.contains(&listed));
        assert!(said, "{message}");
    }
}
