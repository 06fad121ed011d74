//! One router's share of a limit, while routers cannot coordinate through the store.

use std::num::NonZeroU64;

use inferyard_catalog::Limits;

use super::store::Scope;
use crate::kind::{LimitKind, by_kind, by_kind_mut};

/// The part of every limit that this router may use by itself.
///
/// The remainder of the division is distributed, not rounded: of a limit of 10, three routers get 4, 3 and 3; of a
/// limit of 2 they get 1, 1 and 0. The sum is exactly the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Number of routers, at least 1.
    pub(super) routers: u64,
    /// The index of this router among them; `None`: unknown, and then it gets nothing of the remainder.
    pub(super) place: Option<u64>,
}

/// The limits of a scope that this router enforces alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) limits: Limits,
    /// Limits of which this router's share is zero.
    pub(super) nothing: Vec<LimitKind>,
}

// === impl Share ===

impl Share {
    /// The share as a factor, for usage from before the outage.
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 routers")]
    pub(super) fn factor(self) -> f64 {
        1.0 / self.routers as f64
    }

    /// This router's part of a limit. `salt` selects the routers that get the remainder, so that it is not always the
    /// same ones.
    fn of(self, limit: u64, salt: u64) -> u64 {
        let rest = limit % self.routers;
        let place = self.place.map(|place| {
            let turned = salt % self.routers + place % self.routers;
            turned % self.routers
        });
        limit / self.routers + u64::from(place.is_some_and(|place| place < rest))
    }

    /// This router's part of the limits of a scope.
    pub(super) fn part(self, account: &str, scope: &Scope) -> Part {
        let mut part = Part {
            limits: Limits::default(),
            nothing: Vec::new(),
        };
        for (index, (kind, limit)) in by_kind(&scope.limits).into_iter().enumerate() {
            let Some(limit) = limit else { continue };
            let salt = salt(account, &scope.name, index);
            match NonZeroU64::new(self.of(limit.get(), salt)) {
                Some(own) => *by_kind_mut(&mut part.limits, kind) = Some(own),
                None => part.nothing.push(kind),
            }
        }
        part
    }
}

/// FNV-1a: all routers must compute the same value.
fn salt(account: &str, scope: &str, kind: usize) -> u64 {
    let index = u8::try_from(kind).expect("there should be fewer than 256 levels");
    let bytes = account.bytes().chain(scope.bytes()).chain([index]);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(limit: u64) -> Scope {
        Scope {
            name: "plan:p".into(),
            limits: Limits {
                requests_per_minute: NonZeroU64::new(limit),
                ..Limits::default()
            },
        }
    }

    fn own(share: Share, account: &str, limit: u64) -> u64 {
        let part = share.part(account, &scope(limit));
        let own = part.limits.requests_per_minute.map_or(0, NonZeroU64::get);
        assert_eq!(own == 0, part.nothing == [LimitKind::RequestsPerMinute]);
        own
    }

    proptest! {
        #[test]
        fn the_parts_of_all_routers_are_the_limit(
            limit in 1..10_000_u64, routers in 1..50_u64, account in "[a-z]{1,8}",
        ) {
            let parts = (0..routers).map(|place| {
                own(Share { routers, place: Some(place) }, &account, limit)
            });
            let parts: Vec<_> = parts.collect();
            prop_assert_eq!(parts.iter().sum::<u64>(), limit);
            let spread = parts.iter().max().unwrap() - parts.iter().min().unwrap();
            prop_assert!(spread <= 1);
        }

        #[test]
        fn a_router_without_a_place_takes_no_remainder(limit in 1..10_000_u64, routers in 1..50_u64) {
            let share = Share { routers, place: None };
            prop_assert_eq!(own(share, "a", limit), limit / routers);
        }
    }

    #[test]
    fn the_remainder_is_not_always_the_same_routers() {
        let share = Share {
            routers: 8,
            place: Some(0),
        };
        let lucky = (0..64).filter(|n| own(share, &format!("account-{n}"), 1) == 1);
        let lucky = lucky.count();
        assert!((1..32).contains(&lucky), "{lucky} of 64");
    }
}
