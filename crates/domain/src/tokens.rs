//! Counts of tokens.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A count of tokens. Sums saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(u64);

// === impl Tokens ===

impl Tokens {
    /// No tokens.
    pub const ZERO: Self = Self(0);
    /// One token.
    pub const ONE: Self = Self(1);
    /// More tokens than any limit.
    pub const MAX: Self = Self(u64::MAX);

    /// This many tokens.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// As many tokens in each of `sequences`.
    #[must_use]
    pub const fn times(self, sequences: u64) -> Self {
        Self(self.0.saturating_mul(sequences))
    }

    /// What is left after `used`; none if there is not as much.
    #[must_use]
    pub const fn saturating_sub(self, used: Self) -> Self {
        Self(self.0.saturating_sub(used.0))
    }

    /// The count as messages have it; the largest number if it is beyond that.
    #[must_use]
    pub fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Add for Tokens {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::ZERO, Add::add)
    }
}

impl From<u32> for Tokens {
    fn from(count: u32) -> Self {
        Self(count.into())
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
