//! Property test: in any sequence of steps, no request is lost and none is served twice.

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
    /// A request is placed without waiting.
    Place {
        account: u8,
        priority: i8,
        tokens: u64,
    },
    Serve,
    /// The earliest served request that has not ended is refused, and returns to the queue.
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
        let mut queue = Queue::default();
        let mut waiting = HashSet::new();
        let mut served: Vec<(WaiterId, Charge)> = Vec::new();
        let mut placed: Vec<Charge> = Vec::new();
        for step in steps {
            match step {
                Step::Join { account, priority, tokens } => {
                    let policy = policy(&format!("account-{account}"), |policy| {
                        policy.priority = priority.into();
                        policy.plan = format!("plan-{priority}").into();
                        policy.weight = 1 + u32::from(account) * 50;
                        policy.most_waiting = 12;
                    });
                    if let Ok(joined) = queue.join(waiter(&policy, tokens), None, SECOND) {
                        prop_assert!(waiting.insert(joined.id));
                        if let Some(out) = joined.pushed_out {
                            prop_assert!(waiting.remove(&out));
                        }
                    } else {
                        prop_assert!(queue.of_plan(&policy.plan) >= 12);
                    }
                }
                Step::Leave(which) => {
                    let mut ids: Vec<_> = waiting.iter().copied().collect();
                    ids.sort();
                    if !ids.is_empty() {
                        let id = ids[which % ids.len()];
                        prop_assert!(queue.leave(id).is_some());
                        waiting.remove(&id);
                    }
                }
                Step::Place { account, priority, tokens } => {
                    let policy = policy(&format!("account-{account}"), |policy| {
                        policy.priority = priority.into();
                        policy.weight = 1 + u32::from(account) * 50;
                    });
                    placed.push(queue.place(&policy, tokens));
                }
                Step::Serve => match queue.next() {
                    Some((id, charge)) => {
                        prop_assert!(waiting.remove(&id));
                        served.push((id, charge));
                    }
                    None => prop_assert!(waiting.is_empty()),
                },
                Step::Refuse => if !served.is_empty() {
                    let (id, charge) = served.remove(0);
                    queue.refused(&charge);
                    let back = waiter(&charge.policy, charge.prompt_tokens);
                    prop_assert_eq!(queue.join(back, Some(id), SECOND).unwrap().id, id);
                    prop_assert!(waiting.insert(id));
                },
                Step::End(tokens) => if !served.is_empty() {
                    let (_, charge) = served.remove(0);
                    queue.ended(&charge, tokens);
                    if let Some(charge) = placed.pop() {
                        queue.ended(&charge, tokens);
                    }
                },
            }
            prop_assert_eq!(queue.policies.len(), waiting.len());
            let counted: usize = queue.waiting().map(|(_, count)| count).sum();
            prop_assert_eq!(counted, waiting.len());
            let of_plans: usize = queue.plans.values().sum();
            prop_assert_eq!(of_plans, waiting.len());
        }
        let mut rest = HashSet::new();
        while let Some((id, charge)) = queue.next() {
            rest.insert(id);
            served.push((id, charge));
        }
        prop_assert_eq!(rest, waiting);
        prop_assert!(queue.is_empty());
        // No request waits or runs: only idle accounts are left.
        for charge in served.into_iter().map(|(_, charge)| charge).chain(placed) {
            queue.ended(&charge, 0);
        }
        for class in queue.classes.values() {
            prop_assert!(class.is_at_rest());
        }
    }
}
