//! What of a limit is one router's, while routers cannot ask each other.

use std::num::NonZeroU64;

use inferyard_catalog::Limits;

use super::store::{Meter, Scope};

/// Which part of every limit this router may use up by itself.
///
/// A limit that does not divide is not rounded for each router alike: of a limit of 10 three routers
/// have 4, 3 and 3, and of a limit of 2 they have 1, 1 and none. Their sum is the limit, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// How many routers there are, at least one.
    pub(super) routers: u64,
    /// The place of this one among them; unknown where it never heard of them: then it leaves what
    /// does not divide to the others.
    pub(super) place: Option<u64>,
}

/// The limits of a scope as this router alone enforces them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) limits: Limits,
    /// Meters of which nothing is this router's.
    pub(super) nothing: Vec<Meter>,
}

// === impl Share ===

impl Share {
    /// As a factor, for what was used before.
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 routers")]
    pub(super) fn factor(self) -> f64 {
        1.0 / self.routers as f64
    }

    /// This router's part of a limit. Which routers have the remainder depends on `salt`, so that it
    /// is not the same ones for all.
    fn of(self, limit: u64, salt: u64) -> u64 {
        let rest = limit % self.routers;
        let place = self.place.map(|place| {
            let turned = salt % self.routers + place % self.routers;
            turned % self.routers
        });
        limit / self.routers + u64::from(place.is_some_and(|place| place < rest))
    }

    /// This router's part of a scope's limits.
    pub(super) fn part(self, account: &str, scope: &Scope) -> Part {
        let mut part = Part {
            limits: Limits::default(),
            nothing: Vec::new(),
        };
        for (index, (meter, limit)) in limits(&scope.limits).into_iter().enumerate() {
            let Some(limit) = limit else { continue };
            let salt = salt(account, &scope.name, index);
            match NonZeroU64::new(self.of(limit.get(), salt)) {
                Some(own) => *limit_mut(&mut part.limits, meter) = Some(own),
                None => part.nothing.push(meter),
            }
        }
        part
    }
}

/// The limits by meter, in the order in which stores report them.
pub(super) fn limits(limits: &Limits) -> [(Meter, Option<NonZeroU64>); 7] {
    [
        (Meter::RequestsPerMinute, limits.requests_per_minute),
        (Meter::RequestsPerDay, limits.requests_per_day),
        (Meter::RequestsTotal, limits.requests_total),
        (Meter::TokensPerMinute, limits.tokens_per_minute),
        (Meter::TokensPerDay, limits.tokens_per_day),
        (Meter::ConcurrentRequests, limits.concurrent_requests),
        (Meter::BudgetPerMonth, limits.budget_per_month),
    ]
}

pub(super) fn limit_mut(limits: &mut Limits, meter: Meter) -> &mut Option<NonZeroU64> {
    match meter {
        Meter::RequestsPerMinute => &mut limits.requests_per_minute,
        Meter::RequestsPerDay => &mut limits.requests_per_day,
        Meter::RequestsTotal => &mut limits.requests_total,
        Meter::TokensPerMinute => &mut limits.tokens_per_minute,
        Meter::TokensPerDay => &mut limits.tokens_per_day,
        Meter::ConcurrentRequests => &mut limits.concurrent_requests,
        Meter::BudgetPerMonth => &mut limits.budget_per_month,
    }
}

/// FNV-1a: it must be the same in all routers.
fn salt(account: &str, scope: &str, meter: usize) -> u64 {
    let index = u8::try_from(meter).expect("there should be fewer than 256 meters");
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
        assert_eq!(own == 0, part.nothing == [Meter::RequestsPerMinute]);
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
