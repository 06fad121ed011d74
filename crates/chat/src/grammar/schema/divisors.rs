//! Which numbers the numbers of an answer can be multiples of.
//!
//! The automaton of a divisor has a state for each remainder, and the compiler of grammars visits them
//! without a limit: 9,999,991 takes gigabytes and minutes. Zeros at the end cost nothing.

use serde_json::Value;

use crate::decimal::Decimal;

/// The most states that the divisors of one schema may need.
const MOST_STATES: u64 = 20_000;
/// A divisor that is at most this, but for zeros at its end, needs few states.
const SMALL: u64 = 100;
/// The most that a divisor may be without its point.
const LARGEST: u64 = 1_000_000_000;
/// The most digits of a divisor behind its point.
const MOST_PLACES: i64 = 9;

/// The divisors of one schema.
#[derive(Debug)]
pub(super) struct Divisors {
    // Two of them may have to hold for the same number; then they are counted as if all had to.
    combined: bool,
    known: Vec<Decimal>,
    states: u64,
}

// === impl Divisors ===

impl Divisors {
    /// Starts with none of the divisors of `schema`.
    pub(super) fn of(schema: &Value) -> Self {
        Self {
            combined: combines(schema),
            known: Vec::new(),
            states: 1,
        }
    }

    /// Adds one, a positive JSON number. False: it cannot be enforced beside the others.
    pub(super) fn add(&mut self, number: &str) -> bool {
        let divisor = Decimal::parse(number);
        if self.known.contains(&divisor) {
            return true;
        }
        let Some(states) = states(&divisor) else {
            return false;
        };
        let states = self.states.saturating_mul(states);
        if states > MOST_STATES {
            return false;
        }
        if self.combined {
            self.states = states;
        }
        self.known.push(divisor);
        true
    }
}

/// Whether a part of a schema holds together with another one that may have a divisor.
fn combines(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let has = |name| fields.contains_key(name);
            let all = fields.get("allOf").and_then(Value::as_array);
            all.is_some_and(|schemas| schemas.len() > 1)
                || (has("multipleOf") && (has("allOf") || has("$ref")))
                || fields.values().any(combines)
        }
        Value::Array(items) => items.iter().any(combines),
        _ => false,
    }
}

/// How many states the automaton of a divisor has. None: it is beyond the compiler's own bounds.
fn states(divisor: &Decimal) -> Option<u64> {
    let digits: u64 = divisor.digits.parse().ok()?;
    let zeros = u32::try_from(divisor.exponent.max(0)).ok()?;
    let all = digits.checked_mul(10_u64.checked_pow(zeros)?)?;
    let is_held = all <= LARGEST && divisor.exponent >= -MOST_PLACES;
    is_held.then_some(if digits <= SMALL { digits } else { all })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alone() -> Divisors {
        Divisors::of(&json!({}))
    }

    #[test]
    fn divisors_with_few_states_are_taken() {
        for number in [
            "1", "0.01", "1e-9", "1000000", "1e6", "2.50", "3600", "19997", "5000000", "0.19997",
        ] {
            assert!(alone().add(number), "{number}");
        }
        for number in [
            "20001",
            "604800",
            "9999991",
            "9999999999",
            "1e-10",
            "1e400",
            "2.000001",
        ] {
            assert!(!alone().add(number), "{number}");
        }
    }

    #[test]
    fn divisors_that_might_hold_together_are_counted_together() {
        let mut apart = alone();
        assert!(apart.add("9973") && apart.add("9967"));
        let part = json!({ "multipleOf": 9973 });
        let one = json!({ "properties": { "a": { "allOf": [part, {}] } } });
        let other = json!({ "items": [{ "multipleOf": 9973, "$ref": "#" }] });
        assert!(combines(&one) && combines(&other) && !combines(&part));
        let mut divisors = Divisors::of(&one);
        assert!(divisors.add("9973"));
        assert!(divisors.add("9973.0") && divisors.add("1000"));
        assert!(!divisors.add("9967"));
        assert!(divisors.add("2") && !divisors.add("3"));
    }
}
