//! Whatever happens, nobody is lost and nobody is served twice.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join {
        account: u8,
        priority: i8,
        tokens: u64,
    },
    Leave(usize),
    /// One goes to a worker without waiting.
    Place {
        account: u8,
        priority: i8,
        tokens: u64,
    },
    Serve,
    /// The one that was served first and has not ended is refused, and comes back.
    Refuse,
    End(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, -1..2_i8, 0..5_000_u64).prop_map(|(account, priority, tokens)| {
            Step::Join { account, priority, tokens }
        }),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => (0..6_u8, -1..2_i8, 0..5_000_u64).prop_map(|(account, priority, tokens)| {
            Step::Place { account, priority, tokens }
        }),
        3 => Just(Step::Serve),
        1 => Just(Step::Refuse),
        2 => (0..500_u64).prop_map(Step::End),
    ]
}

proptest! {
    #[test]
    fn nobody_is_lost(steps in proptest::collection::vec(step(), 1..300)) {
        let mut line = Line::default();
        let mut waiting = HashSet::new();
        let mut served: Vec<(WaiterId, Charge)> = Vec::new();
        let mut placed: Vec<Charge> = Vec::new();
        for step in steps {
            match step {
                Step::Join { account, priority, tokens } => {
                    let claim = claim(&format!("account-{account}"), |claim| {
                        claim.priority = priority.into();
                        claim.plan = format!("plan-{priority}").into();
                        claim.weight = 1 + u32::from(account) * 50;
                        claim.most_waiting = 12;
                    });
                    if let Ok(joined) = line.join(waiter(&claim, tokens), None, SECOND) {
                        prop_assert!(waiting.insert(joined.id));
                        if let Some(out) = joined.pushed_out {
                            prop_assert!(waiting.remove(&out));
                        }
                    } else {
                        prop_assert!(line.of_plan(&claim.plan) >= 12);
                    }
                }
                Step::Leave(which) => {
                    let mut ids: Vec<_> = waiting.iter().copied().collect();
                    ids.sort();
                    if !ids.is_empty() {
                        let id = ids[which % ids.len()];
                        prop_assert!(line.leave(id).is_some());
                        waiting.remove(&id);
                    }
                }
                Step::Place { account, priority, tokens } => {
                    let claim = claim(&format!("account-{account}"), |claim| {
                        claim.priority = priority.into();
                        claim.weight = 1 + u32::from(account) * 50;
                    });
                    placed.push(line.place(&claim, tokens));
                }
                Step::Serve => match line.next() {
                    Some((id, charge)) => {
                        prop_assert!(waiting.remove(&id));
                        served.push((id, charge));
                    }
                    None => prop_assert!(waiting.is_empty()),
                },
                Step::Refuse => if !served.is_empty() {
                    let (id, charge) = served.remove(0);
                    line.refused(&charge);
                    let back = waiter(&charge.claim, charge.prompt_tokens);
                    prop_assert_eq!(line.join(back, Some(id), SECOND).unwrap().id, id);
                    prop_assert!(waiting.insert(id));
                },
                Step::End(tokens) => if !served.is_empty() {
                    let (_, charge) = served.remove(0);
                    line.ended(&charge, tokens);
                    if let Some(charge) = placed.pop() {
                        line.ended(&charge, tokens);
                    }
                },
            }
            prop_assert_eq!(line.claims.len(), waiting.len());
            let counted: usize = line.waiting().map(|(_, count)| count).sum();
            prop_assert_eq!(counted, waiting.len());
            let of_plans: usize = line.plans.values().sum();
            prop_assert_eq!(of_plans, waiting.len());
        }
        let mut rest = HashSet::new();
        while let Some((id, charge)) = line.next() {
            rest.insert(id);
            served.push((id, charge));
        }
        prop_assert_eq!(rest, waiting);
        prop_assert!(line.is_empty());
        // Nobody waits and nothing runs: only debts towards those who waited are left.
        for charge in served.into_iter().map(|(_, charge)| charge).chain(placed) {
            line.ended(&charge, 0);
        }
        for class in line.classes.values() {
            prop_assert!(class.is_at_rest());
        }
    }
}
