//! Money.

use std::ops::{Add, Mul};

use crate::Tokens;

/// Thousand-millionths of a US dollar. Sums and products saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoDollars(u64);

/// What one token costs. One US dollar per million tokens is 1,000 nano-dollars per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenPrice(u64);

// === impl NanoDollars ===

impl NanoDollars {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many nano-dollars.
    #[must_use]
    pub const fn new(amount: u64) -> Self {
        Self(amount)
    }

    /// The amount in nano-dollars.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What is left after `spent`; nothing if there is not as much.
    #[must_use]
    pub const fn saturating_sub(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }

    /// How many tokens of this price it pays; without bound if they cost nothing.
    #[must_use]
    pub fn pays(self, price: TokenPrice) -> Tokens {
        self.0.checked_div(price.0).map_or(Tokens::MAX, Tokens::new)
    }
}

impl Add for NanoDollars {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

// === impl TokenPrice ===

impl TokenPrice {
    /// This many nano-dollars per token.
    #[must_use]
    pub const fn new(nano_dollars: u64) -> Self {
        Self(nano_dollars)
    }

    /// Nano-dollars per token.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The price of one token in each of `sequences`.
    #[must_use]
    pub const fn times(self, sequences: u64) -> Self {
        Self(self.0.saturating_mul(sequences))
    }
}

impl Mul<Tokens> for TokenPrice {
    type Output = NanoDollars;

    fn mul(self, tokens: Tokens) -> NanoDollars {
        NanoDollars(self.0.saturating_mul(tokens.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_pays_tokens_and_saturates() {
        let price = TokenPrice::new(5_000);
        let million = price * Tokens::new(1_000_000);
        assert_eq!(million, NanoDollars::new(5_000_000_000));
        assert_eq!(million.pays(price), Tokens::new(1_000_000));
        assert_eq!(
            (million + NanoDollars::new(4_999)).pays(price),
            Tokens::new(1_000_000)
        );
        assert_eq!(NanoDollars::ZERO.pays(TokenPrice::new(0)), Tokens::MAX);
        assert_eq!(price * Tokens::MAX + million, NanoDollars::new(u64::MAX));
        assert_eq!(NanoDollars::ZERO.saturating_sub(million), NanoDollars::ZERO);
    }
}
