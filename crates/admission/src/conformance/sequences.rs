//! Property test: sequences of requests, reports, ends, crashes and repeated messages, checked against invariants.

use std::collections::HashMap;
use std::time::Duration;

use inferyard_proto::outbox::Entry;
use inferyard_test_servers::{Server, needs, skips};
use proptest::prelude::*;

use super::subject::{self, Subject};
use super::{LIFETIME, event, limits, n, request, scope, used, whole};
use crate::kind::LimitKind;
use crate::store::{Admission, Progressed, Settled, Used};

const CAP_TOKENS: u64 = 2_000;
const CAP_MONEY: u64 = 5_000;
const CAP_RUNNING: u64 = 6;

mod request;
mod step;

use request::{Amount, Request};
use step::{Step, step};

/// The result of a step, for the comparison of two stores.
#[derive(Debug, PartialEq)]
enum Outcome {
    Decided { admitted: bool, money: u64 },
    Raised(Option<(bool, u64)>),
    Told(Progressed),
    Ended(Settled),
    Swept(usize),
}

struct Run<S> {
    subject: S,
    requests: Vec<Request>,
    outcomes: Vec<Outcome>,
    /// By account and scope: how far tokens and money may exceed the limits.
    short: HashMap<(String, String), Amount>,
}

// === impl Run ===

impl<S: Subject> Run<S> {
    async fn all(subject: S, steps: &[(Step, bool)]) -> Vec<Outcome> {
        let mut run = Self {
            subject,
            requests: Vec::new(),
            outcomes: Vec::new(),
            short: HashMap::new(),
        };
        for (step, twice) in steps {
            run.step(step, *twice).await;
            run.check_caps();
        }
        run.finish().await;
        run.outcomes
    }

    async fn step(&mut self, step: &Step, twice: bool) {
        match *step {
            Step::Admit {
                account,
                plan,
                key,
                tokens,
                money,
            } => {
                let admission = wanted(account, plan, key, tokens, money);
                self.admit(admission, twice).await;
            }
            Step::Raise { lease, money } => self.raise(lease, money, twice).await,
            Step::Progress {
                lease,
                tokens,
                held,
            } => self.progress(lease, tokens, held, twice).await,
            Step::Settle { lease, tokens } => self.settle(lease, tokens, twice).await,
            Step::Charge { account, tokens } => self.charge(account, tokens).await,
            Step::Crash => {
                self.subject.shift(LIFETIME + Duration::from_secs(1));
                let swept = self.subject.sweep_all().await;
                self.outcomes.push(Outcome::Swept(swept));
            }
            Step::Pass { seconds } => self.subject.shift(Duration::from_secs(seconds)),
        }
    }

    async fn admit(&mut self, admission: Admission, twice: bool) {
        let decision = self.subject.ask(&admission).await;
        let denies = decision.statuses.iter().any(|it| it.denial.is_some());
        assert_eq!(decision.admitted, !denies, "{decision:?}");
        if decision.admitted {
            assert!(
                decision.statuses.iter().all(|it| it.used <= it.limit),
                "{decision:?}"
            );
            if twice {
                let repeated = self.subject.ask(&admission).await;
                assert!(repeated.admitted);
                assert_eq!(repeated.money, decision.money);
            }
            self.requests.push(Request {
                tokens: 0,
                money: 0,
                held: Amount {
                    tokens: admission.tokens,
                    money: decision.money,
                },
                short: Amount::default(),
                is_over: false,
                admission,
            });
        }
        self.outcomes.push(Outcome::Decided {
            admitted: decision.admitted,
            money: decision.money,
        });
    }

    /// It then holds the wanted amount, the rest of the budget, or what it held before.
    async fn raise(&mut self, lease: usize, money: u64, twice: bool) {
        let count = self.requests.len();
        let Some(request) = self.requests.get_mut(lease % count.max(1)) else {
            return;
        };
        let wanted = Admission {
            money,
            least_money: money / 2,
            ..request.admission.clone()
        };
        let decision = self.subject.ask_again(&wanted).await;
        if twice {
            let repeated = self.subject.ask_again(&wanted).await;
            assert_eq!(
                repeated.map(|it| (it.admitted, it.money)),
                decision.as_ref().map(|it| (it.admitted, it.money))
            );
        }
        assert!(!request.is_over || decision.is_none());
        if let Some(decision) = &decision {
            let budgets = decision.statuses.iter();
            let mut budgets = budgets.filter(|it| it.kind == LimitKind::BudgetPerMonth);
            assert_eq!(
                decision.admitted,
                budgets.all(|it| it.denial.is_none()),
                "{decision:?}"
            );
            if decision.admitted {
                assert!((money / 2..=money).contains(&decision.money));
                request.held.money = decision.money;
            }
        }
        let raised = decision.map(|it| (it.admitted, it.money));
        self.outcomes.push(Outcome::Raised(raised));
    }

    fn pick(&mut self, lease: usize, tokens: u64) -> Option<&mut Request> {
        let count = self.requests.len();
        let request = self.requests.get_mut(lease % count.max(1))?;
        if !request.is_over {
            request.spend(tokens);
        }
        Some(request)
    }

    async fn progress(&mut self, lease: usize, tokens: u64, held: u64, twice: bool) {
        let Some(request) = self.pick(lease, tokens) else {
            return;
        };
        let said = Used {
            held_tokens: held.min(request.held.tokens),
            held_money: held.min(request.held.money),
            ..used(request.tokens, request.money)
        };
        request.held = Amount {
            tokens: said.held_tokens,
            money: said.held_money,
        };
        let (lease, is_over) = (request.admission.lease.clone(), request.is_over);
        self.fall_short();
        let told = self.subject.progress(&lease, &said).await.unwrap();
        assert_eq!(told == Progressed::Ended, is_over);
        if twice && !is_over {
            let again = self.subject.progress(&lease, &said).await.unwrap();
            assert_eq!(again, Progressed::Renewed);
        }
        self.outcomes.push(Outcome::Told(told));
    }

    async fn settle(&mut self, lease: usize, tokens: u64, twice: bool) {
        let Some(request) = self.pick(lease, tokens) else {
            return;
        };
        let said = whole(&request.admission, used(request.tokens, request.money));
        let expected = if request.is_over {
            Settled::Already
        } else {
            Settled::Done
        };
        request.is_over = true;
        let lease = request.admission.lease.clone();
        self.fall_short();
        let settled = self.subject.settle(&lease, &said).await.unwrap();
        assert_eq!(settled, expected);
        if twice {
            let again = self.subject.settle(&lease, &said).await.unwrap();
            assert_eq!(again, Settled::Already);
        }
        self.outcomes.push(Outcome::Ended(settled));
    }

    /// A request that was admitted elsewhere.
    async fn charge(&mut self, account: usize, tokens: u64) {
        let mut admission = wanted(account, 0, None, 0, 0);
        admission.money = 0;
        let all = whole(&admission, used(tokens, tokens * 2));
        self.requests.push(Request {
            admission,
            tokens,
            money: tokens * 2,
            held: Amount::default(),
            short: Amount {
                tokens,
                money: tokens * 2,
            },
            is_over: true,
        });
        self.fall_short();
        let lease = self.requests.last().unwrap().admission.lease.clone();
        let charged = self.subject.charge(&lease, &all).await.unwrap();
        self.outcomes.push(Outcome::Ended(charged));
    }

    fn fall_short(&mut self) {
        self.short.clear();
        for request in &self.requests {
            let admission = &request.admission;
            for scope in &admission.lease.scopes {
                let key = (admission.lease.account.to_string(), scope.name.to_string());
                let short = self.short.entry(key).or_default();
                short.tokens += request.short.tokens;
                short.money += request.short.money;
            }
        }
    }

    /// Usage exceeds a limit only by what requests used beyond what they held. After a sweep this does not hold,
    /// because a crash releases held amounts too early.
    fn check_caps(&self) {
        if self
            .outcomes
            .iter()
            .any(|it| matches!(it, Outcome::Swept(1..)))
        {
            return;
        }
        for ((account, scope), short) in &self.short {
            let levels = self.subject.levels(account, scope);
            let most = |cap: u64, short: u64| crate::levels::number(cap + short) + 1e-6;
            assert!(levels.tokens_day + levels.held_tokens <= most(CAP_TOKENS, short.tokens));
            assert!(levels.money_month + levels.held_money <= most(CAP_MONEY, short.money));
        }
    }

    /// Ends everything; then nothing may be held, and every event must be written once.
    async fn finish(&mut self) {
        for index in 0..self.requests.len() {
            if !self.requests[index].is_over {
                self.settle(index, 1, true).await;
            }
        }
        let mut money: HashMap<(String, String), u64> = HashMap::new();
        for request in &self.requests {
            for scope in &request.admission.lease.scopes {
                let account = request.admission.lease.account.to_string();
                *money.entry((account, scope.name.to_string())).or_default() += request.money;
            }
        }
        for ((account, scope), money) in money {
            let levels = self.subject.levels(&account, &scope);
            let held = [levels.held_tokens, levels.held_money, levels.running];
            assert!(held.iter().all(|it| it.abs() < 1e-9), "{levels:?}");
            assert_eq!(crate::levels::whole(levels.money_month), money);
        }
        let entries = self.subject.entries().await;
        check_bills(&self.requests, &entries);
    }
}

/// Every request has each part of its event once, and the parts sum up to its usage.
fn check_bills(requests: &[Request], entries: &[Entry]) {
    let mut bills: HashMap<String, Vec<(u32, u64, u64)>> = HashMap::new();
    for entry in entries {
        let (event, billed) = (event(&entry.event), event(&entry.billed));
        let tokens = event.completion_tokens - billed.completion_tokens;
        let money = event.cost_nanodollars - billed.cost_nanodollars;
        bills
            .entry(event.request_id)
            .or_default()
            .push((entry.part, tokens, money));
    }
    assert_eq!(bills.len(), requests.len());
    for request in requests {
        let id = event(&request.admission.event).request_id;
        let mut parts = bills.remove(&id).expect("every request should be billed");
        parts.sort_unstable();
        assert!(
            parts.iter().zip(0..).all(|(part, number)| part.0 == number),
            "{parts:?}"
        );
        let sum = parts
            .iter()
            .fold((0, 0), |sum, part| (sum.0 + part.1, sum.1 + part.2));
        assert_eq!(sum, (request.tokens, request.money), "{parts:?}");
    }
}

/// Limits per day, so that the duration of the test does not matter.
fn wanted(account: usize, plan: usize, key: Option<usize>, tokens: u64, money: u64) -> Admission {
    let caps = limits(|it| {
        it.requests_per_day = n(60);
        it.tokens_per_day = n(CAP_TOKENS);
        it.concurrent_requests = n(CAP_RUNNING);
        it.budget_per_month = n(CAP_MONEY);
        it.requests_total = n(50);
    });
    let mut scopes = vec![scope(&format!("plan:{plan}"), caps)];
    if let Some(key) = key {
        let narrow = limits(|it| {
            it.tokens_per_day = n(1_000);
            it.budget_per_month = n(CAP_MONEY / 2);
        });
        scopes.push(scope(&format!("key:{key}"), narrow));
    }
    Admission {
        tokens,
        money,
        least_money: money / 4,
        ..request(&format!("account-{account}"), scopes)
    }
}

fn run(future: impl Future<Output = Vec<Outcome>>) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_keep_every_promise_and_agree(
        steps in proptest::collection::vec((step(), any::<bool>()), 1..60),
    ) {
        if skips(&[Server::Redis]) {
            return Ok(());
        }
        let in_memory = run(Run::all(subject::memory(), &steps));
        let in_redis = run(Run::all(subject::redis(), &steps));
        prop_assert_eq!(in_memory, in_redis);
    }
}

#[test]
fn news_of_a_request_that_was_charged_long_ago_changes_nothing() {
    needs!(Redis);
    let charge = Step::Charge {
        account: 0,
        tokens: 0,
    };
    let news = Step::Progress {
        lease: 0,
        tokens: 0,
        held: 0,
    };
    let steps = [charge, Step::Crash, Step::Crash, Step::Crash, news].map(|step| (step, false));
    let in_memory = run(Run::all(subject::memory(), &steps));
    let in_redis = run(Run::all(subject::redis(), &steps));
    assert_eq!(in_memory, in_redis);
}
