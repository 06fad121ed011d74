//! Checks every keyword of a schema where it stands, and leaves out what cannot be enforced.

use llguidance::{derivre::RegexBuilder, regex_to_lark};
use serde_json::{Map, Value};

use super::Unfit;
use super::divisors::Divisors;
use super::finite;
use super::keywords::{Keyword, is_known_format, is_type};

/// The most alternatives of one `anyOf` or members of one object: each is tried at every byte that they
/// have in common.
const MOST_ALTERNATIVES: usize = 1_000;

/// The most regular expressions that one text must match: their automaton grows with the product of theirs.
const MOST_PATTERNS: usize = 8;

/// The most characters, items or members that are counted: more than any context holds.
const MOST_COUNT: u64 = 1_000_000_000;

/// The most patterns of names in all objects of a schema together: each is compared with the others.
const MOST_PATTERNS_OF_NAMES: usize = 100;

/// Why a limit that no grammar keeps is refused in strict schemas.
const UNENFORCED: &str = "this keyword cannot be enforced";

/// Checks `schema`, which stands at `root`. `strict`: what cannot be enforced is an error; otherwise it
/// is left out. `rounded`: paths of numbers that would be enforced as others.
pub(super) fn walk(
    schema: &mut Value,
    root: &str,
    strict: bool,
    rounded: &[String],
) -> Result<(), Unfit> {
    let mut walk = Walk {
        path: root.to_owned(),
        strict,
        rounded,
        divisors: Divisors::of(schema),
        patterns: None,
        patterns_of_names: 0,
    };
    let whole = schema.clone();
    walk.schema(schema, &whole)
}

struct Walk<'a> {
    path: String,
    strict: bool,
    rounded: &'a [String],
    divisors: Divisors,
    // Patterns so far in the outermost `allOf`; None: outside of one.
    patterns: Option<usize>,
    patterns_of_names: usize,
}

// === impl Walk ===

impl Walk<'_> {
    fn unfit<T>(&self, reason: impl Into<String>) -> Result<T, Unfit> {
        Err(Unfit {
            path: self.path.clone(),
            reason: reason.into(),
        })
    }

    /// Does something one step further down.
    fn at<T>(&mut self, step: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let end = self.path.len();
        self.path.push_str(step);
        let result = then(self);
        self.path.truncate(end);
        result
    }

    fn at_key<T>(&mut self, key: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        self.at(".", |walk| walk.at(key, then))
    }

    fn schema(&mut self, schema: &mut Value, whole: &Value) -> Result<(), Unfit> {
        let fields = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(fields) => fields,
            _ => return self.unfit("a schema must be an object or a boolean"),
        };
        let mut left_out = Vec::new();
        for (name, value) in fields.iter_mut() {
            let keep = self.at_key(name, |walk| walk.keyword(name, value, whole))?;
            if !keep {
                left_out.push(name.clone());
            }
        }
        for name in left_out {
            if name == "patternProperties" {
                // What it would have allowed is not to be forbidden.
                fields.shift_remove("additionalProperties");
            }
            fields.shift_remove(&name);
        }
        finite::bound_members(fields);
        Ok(())
    }

    /// Whether the keyword is to be enforced.
    fn keyword(&mut self, name: &str, value: &mut Value, whole: &Value) -> Result<bool, Unfit> {
        match Keyword::of(name) {
            Keyword::Annotation => return Ok(true),
            Keyword::Unenforced => return self.unenforced(name, value),
            Keyword::Pattern => return self.pattern(value),
            Keyword::Format => return self.format(value),
            Keyword::Patterns => return self.patterns(value, whole),
            Keyword::Items if value.is_array() => self.schemas(value, whole)?,
            Keyword::Schema | Keyword::Items => self.schema(value, whole)?,
            Keyword::Schemas => self.schemas(value, whole)?,
            Keyword::AllOf => return self.all_of(value, whole),
            Keyword::Members => {
                let count = value.as_object().map_or(0, Map::len);
                self.check_count(count)?;
                self.named(value, whole)?;
            }
            Keyword::Named => {
                self.named(value, whole)?;
            }
            Keyword::Divisor => return self.divisor(value),
            Keyword::Value => self.exact()?,
            Keyword::Values => match value.as_array() {
                None => return self.unfit("it must be an array"),
                Some(values) if values.is_empty() => {
                    return self.unfit("it must have at least one value");
                }
                Some(_) => self.exact()?,
            },
            Keyword::Bound if value.is_boolean() => {}
            Keyword::Number | Keyword::Bound => {
                if !value.is_number() {
                    return self.unfit("it must be a number");
                }
                self.exact()?;
            }
            Keyword::Count => return self.count(name, value),
            Keyword::Type => self.kind(value)?,
            Keyword::Names => self.names(value)?,
            Keyword::Reference => self.reference(value, whole)?,
        }
        Ok(true)
    }

    fn unenforced(&self, name: &str, value: &Value) -> Result<bool, Unfit> {
        let is_off = ["uniqueItems", "nullable"].contains(&name) && *value == Value::Bool(false);
        if is_off {
            return Ok(false);
        }
        self.too_much(UNENFORCED)
    }

    fn pattern(&mut self, value: &Value) -> Result<bool, Unfit> {
        let Value::String(pattern) = value else {
            return self.unfit("it must be a string");
        };
        if let Some(patterns) = &mut self.patterns {
            *patterns += 1;
            if *patterns > MOST_PATTERNS {
                return self.too_much(format!(
                    "at most {MOST_PATTERNS} patterns within an 'allOf' can be enforced"
                ));
            }
        }
        match readable(pattern) {
            Ok(()) => Ok(true),
            Err(reason) => self.too_much(reason),
        }
    }

    /// A keyword that cannot be enforced: an error, or left out.
    fn too_much(&self, reason: impl Into<String>) -> Result<bool, Unfit> {
        if self.strict {
            return self.unfit(reason);
        }
        Ok(false)
    }

    fn all_of(&mut self, value: &mut Value, whole: &Value) -> Result<bool, Unfit> {
        let outside = self.patterns;
        self.patterns = outside.or(Some(0));
        let walked = self.schemas(value, whole);
        if outside.is_none() {
            self.patterns = None;
        }
        walked.map(|()| true)
    }

    fn divisor(&mut self, value: &Value) -> Result<bool, Unfit> {
        let positive = value.as_f64().filter(|number| *number > 0.0);
        let (Value::Number(number), Some(_)) = (value, positive) else {
            return self.unfit("it must be a number above 0");
        };
        self.exact()?;
        if self.divisors.add(&number.to_string()) {
            return Ok(true);
        }
        self.too_much("it has too many digits, or too many with the other ones of the schema")
    }

    fn format(&self, value: &Value) -> Result<bool, Unfit> {
        match value {
            Value::String(format) if is_known_format(format) => Ok(true),
            Value::String(_) if self.strict => self.unfit("this format is not known"),
            Value::String(_) => Ok(false),
            _ => self.unfit("it must be a string"),
        }
    }

    fn patterns(&mut self, value: &mut Value, whole: &Value) -> Result<bool, Unfit> {
        let patterns = self.named(value, whole)?;
        self.patterns_of_names += patterns.len();
        if self.patterns_of_names > MOST_PATTERNS_OF_NAMES {
            return self.too_much(format!(
                "at most {MOST_PATTERNS_OF_NAMES} patterns of names can be enforced"
            ));
        }
        for pattern in patterns.keys() {
            match readable(pattern) {
                Err(reason) if self.strict => {
                    return self.at_key(pattern, |walk| walk.unfit(reason));
                }
                // Without this one, what the other ones and `additionalProperties` mean is another thing.
                Err(_) => return Ok(false),
                Ok(()) => {}
            }
        }
        Ok(true)
    }

    fn schemas(&mut self, value: &mut Value, whole: &Value) -> Result<(), Unfit> {
        let Value::Array(schemas) = value else {
            return self.unfit("it must be an array");
        };
        self.check_count(schemas.len())?;
        for (index, schema) in schemas.iter_mut().enumerate() {
            self.at(&format!("[{index}]"), |walk| walk.schema(schema, whole))?;
        }
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<(), Unfit> {
        if count > MOST_ALTERNATIVES {
            return self.unfit(format!(
                "it has {count} schemas; at most {MOST_ALTERNATIVES} can be enforced"
            ));
        }
        Ok(())
    }

    fn named<'v>(
        &mut self,
        value: &'v mut Value,
        whole: &Value,
    ) -> Result<&'v Map<String, Value>, Unfit> {
        let Value::Object(schemas) = value else {
            return self.unfit("it must be an object");
        };
        for (name, schema) in schemas.iter_mut() {
            self.at_key(name, |walk| walk.schema(schema, whole))?;
        }
        Ok(schemas)
    }

    /// Refuses a value with a number in it that would become another one.
    fn exact(&self) -> Result<(), Unfit> {
        let inside = |path: &&String| {
            let rest = path.strip_prefix(&self.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        match self.rounded.iter().find(inside) {
            Some(path) => Err(Unfit {
                path: path.clone(),
                reason: "a number with this many digits cannot be enforced exactly".to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn count(&self, name: &str, value: &mut Value) -> Result<bool, Unfit> {
        // 2.0 is a whole number as well.
        let whole = value.to_string();
        let whole = whole.strip_suffix(".0").unwrap_or(&whole);
        let Ok(count) = whole.parse::<u64>() else {
            return self.unfit("it must be a whole number, 0 or more");
        };
        if count <= MOST_COUNT {
            *value = count.into();
            return Ok(true);
        }
        if name.starts_with("max") {
            // No answer gets there.
            return Ok(false);
        }
        self.unfit(format!("it must be at most {MOST_COUNT}"))
    }

    fn kind(&self, value: &Value) -> Result<(), Unfit> {
        let is_one = |value: &Value| value.as_str().is_some_and(is_type);
        let are = |values: &Vec<Value>| !values.is_empty() && values.iter().all(is_one);
        if is_one(value) || value.as_array().is_some_and(are) {
            return Ok(());
        }
        self.unfit("it must be the name of a JSON type, or an array of such names")
    }

    fn names(&self, value: &Value) -> Result<(), Unfit> {
        match value.as_array() {
            Some(names) if names.iter().all(Value::is_string) => Ok(()),
            _ => self.unfit("it must be an array of strings"),
        }
    }

    fn reference(&self, value: &Value, whole: &Value) -> Result<(), Unfit> {
        let Value::String(reference) = value else {
            return self.unfit("it must be a string");
        };
        // With a base of its own, or an anchor, the compiler looks it up.
        let based = whole.get("$id").is_some() || whole.get("id").is_some();
        let Some(pointer) = reference.strip_prefix('#') else {
            return if based {
                Ok(())
            } else {
                self.unfit("it must point into the schema itself, as '#/…' does")
            };
        };
        let escaped = pointer.contains('%');
        if based || escaped || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Ok(());
        }
        match whole.pointer(pointer) {
            Some(_) => Ok(()),
            None => self.unfit("nothing stands where it points to"),
        }
    }
}

/// Whether the engine of the grammars understands a regular expression.
fn readable(pattern: &str) -> Result<(), String> {
    let mut builder = RegexBuilder::new();
    builder
        .mk_regex_for_serach(&regex_to_lark(pattern, "dw"))
        .map(|_| ())
        .map_err(|error| super::super::reason::of_regex(&error.to_string()))
}

/// The first `oneOf`.
pub(crate) fn first_one_of(schema: &Value, root: &str) -> Option<String> {
    first(schema, root, &|fields| {
        fields.contains_key("oneOf").then_some("oneOf")
    })
}

/// The first bound on the number of members, where some of them may be missing.
pub(crate) fn first_bound_of_members(schema: &Value, root: &str) -> Option<String> {
    first(schema, root, &|fields| {
        let optional = fields.get("properties").and_then(Value::as_object)?;
        let required = fields.get("required").and_then(Value::as_array);
        let may_miss = optional.keys().any(|name| {
            !required.is_some_and(|names| names.iter().any(|known| known == name.as_str()))
        });
        let bounds = ["minProperties", "maxProperties"];
        let mut bounds = bounds.into_iter();
        bounds.find(|bound| may_miss && fields.contains_key(*bound))
    })
}

/// The first place, from the outside in, where `found` finds something.
fn first(
    schema: &Value,
    path: &str,
    found: &dyn Fn(&Map<String, Value>) -> Option<&'static str>,
) -> Option<String> {
    match schema {
        Value::Object(fields) => found(fields)
            .map(|name| format!("{path}.{name}"))
            .or_else(|| {
                let mut fields = fields.iter();
                fields.find_map(|(name, value)| first(value, &format!("{path}.{name}"), found))
            }),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| first(item, &format!("{path}[{index}]"), found))
        }
        _ => None,
    }
}
