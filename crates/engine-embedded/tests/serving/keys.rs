//! Objects whose names are free: each comes once.

use std::collections::HashSet;

use inferyard_proto::worker::v1 as wire;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use wire::failed::Kind;
use wire::response_format::Format;

use crate::harness::{Server, chat};

/// The names of an object, as they were written.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Names;
            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, Value>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

fn numbered(digits: &str, count: usize) -> Value {
    json!({
        "type": "object",
        "patternProperties": {format!("^x[{digits}]$"): {"type": "integer", "minimum": 0, "maximum": 9}},
        "additionalProperties": false, "minProperties": count, "maxProperties": count,
    })
}

fn shaped(schema: &Value, sampling: wire::Sampling) -> wire::GenerateRequest {
    wire::GenerateRequest {
        response_format: Some(wire::ResponseFormat {
            format: Some(Format::JsonSchema(wire::JsonSchema {
                name: "shape".to_owned(),
                schema_json: schema.to_string().into_bytes().into(),
                strict: true,
            })),
        }),
        sampling: Some(sampling),
        max_tokens: Some(400),
        ..chat("Reply with: x1")
    }
}

fn sampling(temperature: f32, seed: i64) -> wire::Sampling {
    wire::Sampling {
        temperature: Some(temperature),
        seed: Some(seed),
        ..Default::default()
    }
}

#[tokio::test]
async fn names_of_a_pattern_come_once_at_any_temperature() {
    let server = Server::start().await;
    for (count, seed) in [(2, 0), (2, 1), (10, 2), (10, 3)] {
        for temperature in [0.0, 1.0] {
            let request = shaped(&numbered("0-9", count), sampling(temperature, seed));
            let text = server.text(request).await;
            let Names(names) = serde_json::from_str(&text).unwrap();
            let different: HashSet<_> = names.iter().collect();
            assert_eq!((names.len(), different.len()), (count, count), "{text}");
        }
    }
}

#[tokio::test]
async fn more_names_than_a_pattern_has_are_refused_before_the_answer() {
    let server = Server::start().await;
    let failed = server
        .failure(shaped(&numbered("01", 3), sampling(0.0, 0)))
        .await;
    assert_eq!(failed.kind(), Kind::InvalidRequest);
    assert_eq!(failed.param, "response_format.json_schema.schema");
    assert!(
        failed.message.contains("it allows no value"),
        "{}",
        failed.message
    );
    server.wait_idle().await;
}

#[tokio::test]
async fn where_no_name_is_left_the_answer_fails_and_says_why() {
    let server = Server::start().await;
    // Too long to be counted as names.
    let schema = json!({
        "type": "object", "patternProperties": { "^x{101}[01]$": { "const": 1 } },
        "additionalProperties": false, "minProperties": 3, "maxProperties": 3,
    });
    let request = wire::GenerateRequest {
        max_tokens: Some(2_000),
        ..shaped(&schema, sampling(0.0, 0))
    };
    let failed = server.failure(request).await;
    assert_eq!(
        (
            failed.kind(),
            failed.param.as_str(),
            failed.message.as_str()
        ),
        (
            Kind::InvalidRequest,
            "response_format",
            "The format of the answer cannot be completed: an object needs more different keys than its names allow."
        )
    );
    server.wait_idle().await;
}
