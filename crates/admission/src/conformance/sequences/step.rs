//! The steps of a sequence.

use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Admit {
        account: usize,
        plan: usize,
        key: Option<usize>,
        tokens: u64,
        money: u64,
    },
    /// The prompt is counted: the request needs another amount of money.
    Raise {
        lease: usize,
        money: u64,
    },
    Progress {
        lease: usize,
        tokens: u64,
        held: u64,
    },
    Settle {
        lease: usize,
        tokens: u64,
    },
    Charge {
        account: usize,
        tokens: u64,
    },
    /// All routers stop reporting for longer than a lease.
    Crash,
    Pass {
        seconds: u64,
    },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let admit = (
        0..3_usize,
        0..2_usize,
        proptest::option::of(0..2_usize),
        1..900_u64,
        0..1_500_u64,
    );
    prop_oneof![
        6 => admit.prop_map(|(account, plan, key, tokens, money)| {
            Step::Admit { account, plan, key, tokens, money }
        }),
        3 => (0..50_usize, 0..3_000_u64).prop_map(|(lease, money)| Step::Raise { lease, money }),
        4 => (0..50_usize, 0..300_u64, 0..300_u64)
            .prop_map(|(lease, tokens, held)| Step::Progress { lease, tokens, held }),
        4 => (0..50_usize, 0..500_u64).prop_map(|(lease, tokens)| Step::Settle { lease, tokens }),
        1 => (0..3_usize, 0..300_u64).prop_map(|(account, tokens)| Step::Charge { account, tokens }),
        1 => Just(Step::Crash),
        1 => (1..10_u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}
