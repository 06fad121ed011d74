//! Reads JSON into a type of the Kubernetes API, and reports each unknown field and each wrong type by its path.

use std::cell::RefCell;
use std::fmt;

use inferyard_crds::nearest;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use crate::list_keys;

/// Reads a value.
///
/// # Errors
///
/// All unknown fields, and the first value of a wrong type: what is wrong, after its path below `root`.
pub(super) fn read<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, Vec<String>> {
    let unknown = RefCell::new(Vec::new());
    let strict = Strict {
        value,
        path: root.to_owned(),
        unknown: &unknown,
    };
    let path = strict.path.clone();
    let read = T::deserialize(strict).map_err(|error| error.at(&path));
    let mut mistakes = unknown.into_inner();
    match read {
        Ok(read) if mistakes.is_empty() => return Ok(read),
        Ok(_) => {}
        Err(mistake) => mistakes.push(mistake.to_string()),
    }
    Err(mistakes)
}

/// A value at its path.
struct Strict<'a> {
    value: &'a Value,
    path: String,
    unknown: &'a RefCell<Vec<String>>,
}

/// A value that its type cannot hold. The path is known once the error reaches the deserializer of that value.
#[derive(Debug)]
struct Mistake {
    path: Option<String>,
    message: String,
}

/// The fields of an object that are still to be read.
struct Fields<'a> {
    entries: serde_json::map::Iter<'a>,
    value: Option<Strict<'a>>,
    object: Strict<'a>,
}

/// The items of a list that are still to be read.
struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    list: Strict<'a>,
}

// === impl Strict ===

impl<'a> Strict<'a> {
    fn below(&self, value: &'a Value, path: String) -> Self {
        Self {
            value,
            path,
            unknown: self.unknown,
        }
    }

    fn read<S: DeserializeSeed<'a>>(self, seed: S) -> Result<S::Value, Mistake> {
        let path = self.path.clone();
        seed.deserialize(self).map_err(|error| error.at(&path))
    }

    fn report_unknown(&self, object: &Map<String, Value>, known: &'static [&'static str]) {
        for name in object.keys() {
            if known.contains(&name.as_str()) {
                continue;
            }
            let near = nearest(name, known.iter().copied());
            let hint = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            let path = &self.path;
            let mistake = format!("{path}.{name}: unknown field{hint}");
            self.unknown.borrow_mut().push(mistake);
        }
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(_) => self.value.deserialize_any(visitor).map_err(Mistake::custom),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                list: self,
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                entries: fields.iter(),
                value: None,
                object: self,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    /// The types of the Kubernetes API tell here which fields they have, and ignore all others afterwards.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if let Value::Object(object) = self.value {
            self.report_unknown(object, known);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

// === impl Fields ===

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        let Some((name, value)) = self.entries.next() else {
            return Ok(None);
        };
        let path = format!("{}.{name}", self.object.path);
        self.value = Some(self.object.below(value, path));
        seed.deserialize(BorrowedStrDeserializer::new(name))
            .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let value = self
            .value
            .take()
            .expect("a key should be read before its value");
        value.read(seed)
    }
}

// === impl Items ===

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        let list = &self.list.path;
        let name = list.rsplit('.').next().unwrap_or(list);
        let key = list_keys::key(name).and_then(|key| Some((key, item.get(key)?)));
        let path = match key {
            Some((key, value)) => format!("{list}[{key}={value}]"),
            None => format!("{list}[{index}]"),
        };
        self.list.below(item, path).read(seed).map(Some)
    }
}

// === impl Mistake ===

impl Mistake {
    /// The innermost value that fails names the path.
    fn at(mut self, path: &str) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(formatter, "{path}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

impl std::error::Error for Mistake {}

impl Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            message: message.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_by_its_path() {
        let worker =
            |fields: Value| json!({ "spec": { "containers": [{ "name": "worker" }, fields] } });
        for (template, expected) in [
            (
                json!({ "spec": { "nodeSelectr": { "a": "b" }, "color": null } }),
                vec![
                    "t.spec.nodeSelectr: unknown field (did you mean nodeSelector?)",
                    "t.spec.color: unknown field",
                ],
            ),
            (
                worker(json!({ "name": "x", "env": [{ "name": "A", "valu": "b" }] })),
                vec![
                    "t.spec.containers[name=\"x\"].env[name=\"A\"].valu: unknown field (did you mean value?)",
                ],
            ),
            (
                worker(json!({ "args": "x" })),
                vec!["t.spec.containers[1].args: invalid type: string \"x\", expected a sequence"],
            ),
            (
                worker(json!({ "name": "x", "ports": [{ "containerPort": "a" }] })),
                vec![
                    "t.spec.containers[name=\"x\"].ports[containerPort=\"a\"].containerPort: invalid type: string \"a\", \
                     expected i32",
                ],
            ),
            (
                json!({ "metadata": { "label": {} }, "spec": 1 }),
                vec![
                    "t.metadata.label: unknown field (did you mean labels?)",
                    "t.spec: invalid type: integer `1`, expected PodSpec",
                ],
            ),
        ] {
            assert_eq!(
                read::<PodTemplateSpec>(&template, "t"),
                Err(expected.iter().map(|&text| text.to_owned()).collect()),
                "{template}"
            );
        }
    }

    #[test]
    fn what_its_type_holds_is_read_without_a_loss() {
        let template = json!({ "metadata": { "annotations": { "any": "x" } }, "spec": {
            "containers": [{
                "name": "x",
                "livenessProbe": { "httpGet": { "port": "http" }, "periodSeconds": 5 },
                "resources": { "limits": { "any.dev/gpu": "1" } },
            }],
            "nodeSelector": { "any": "x" },
            "hostIPC": true,
        } });
        let read = read::<PodTemplateSpec>(&template, "").unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), template);
    }
}
