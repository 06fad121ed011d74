//! The instance of a worker process.

use std::fmt;
use std::num::NonZeroU64;

/// One run of a worker process, from its start to its end. A restarted worker is another instance, and what was known
/// of the earlier one is void.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct InstanceId(NonZeroU64);

// === impl InstanceId ===

impl InstanceId {
    /// The id with this number; `None` for 0, which stands for no instance in messages.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number, never 0.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for InstanceId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
