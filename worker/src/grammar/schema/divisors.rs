//! Which numbers the numbers of an answer can be multiples of.
//!
//! The automaton of a divisor has a state for each remainder, and the compiler of grammars visits them
//! without a limit: 9,999,991 takes gigabytes and minutes. Zeros at the end cost nothing.

use serde_json::Value;

/// The most states that the divisors of one schema may need.
const MOST_STATES: u64 = 20_000;
/// A divisor that is at most this, but for zeros at its end, needs few states.
const SMALL: u64 = 100;
/// The compiler's own bound of a divisor without its point.
const LARGEST: u64 = 1_000_000_000;

/// The divisors of one schema.
#[derive(Debug)]
pub(super) struct Divisors {
    // Two of them may have to hold for the same number; then they are counted as if all had to.
    combined: bool,
    known: Vec<(u64, usize)>,
    states: u64,
}

// === impl Divisors ===

impl Divisors {
    /// Of a schema of which no divisor has come.
    pub(super) fn of(schema: &Value) -> Self {
        Self {
            combined: combines(schema),
            known: Vec::new(),
            states: 1,
        }
    }

    /// Adds one, a positive JSON number. False: it cannot be enforced beside the others.
    pub(super) fn add(&mut self, number: &str) -> bool {
        let Some(divisor) = parse(number) else {
            return false;
        };
        if self.known.contains(&divisor) {
            return true;
        }
        let states = self.states.saturating_mul(states(divisor.0));
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

fn states(digits: u64) -> u64 {
    let mut short = digits;
    while short.is_multiple_of(10) {
        short /= 10;
    }
    if short <= SMALL { short } else { digits }
}

/// The digits as one number, and how many of them stand behind the point.
fn parse(number: &str) -> Option<(u64, usize)> {
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut digits: u64 = format!("{whole}{fraction}").parse().ok()?;
    let behind = i32::try_from(fraction.len()).ok()? - exponent;
    if behind < 0 {
        digits = digits.checked_mul(10_u64.checked_pow(behind.unsigned_abs())?)?;
    }
    let behind = usize::try_from(behind.max(0)).ok()?;
    ((1..=LARGEST).contains(&digits) && behind <= 9).then_some((digits, behind))
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
