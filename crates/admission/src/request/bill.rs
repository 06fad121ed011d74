//! The bill of a request: converts its tokens into usage of its limits and a usage event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use inferyard_domain::{InstanceId, NanoDollars, Tokens};
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_proto::worker::v1::{Admitted, Usage};
use prost::Message as _;

use super::{Estimate, Need, now_us};
use crate::reservation::{Reservation, Settling};
use crate::store::{LimitStatus, Used};
use inferyard_catalog::Plan;

/// A reservation with its prices.
pub struct Bill {
    reservation: Reservation,
    plan: Arc<Plan>,
    need: Need,
    estimate: Estimate,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct RequestEnd {
    /// HTTP status of the answer.
    pub status: u16,
    /// `ok`, or a label of the failure, from a closed set.
    pub code: &'static str,
    /// Time from the request head to the first token; `None`: no token was produced.
    pub first_token: Option<Duration>,
    /// The request was refused as invalid.
    pub refused: bool,
}

// === impl Bill ===

impl Bill {
    pub(super) fn new(
        reservation: Reservation,
        plan: Arc<Plan>,
        need: Need,
        estimate: Estimate,
    ) -> Self {
        Self {
            reservation,
            plan,
            need,
            estimate,
        }
    }

    /// Updates what it needs.
    pub fn granted(&mut self, need: Need) {
        self.need = need;
    }

    /// Every limit that binds the request, after its admission.
    #[must_use]
    pub fn statuses(&self) -> &[LimitStatus] {
        self.reservation.statuses()
    }

    /// A worker has counted the prompt: the reservation becomes exact.
    pub fn admitted(&self, admitted: Admitted, usage: &Usage, instance: Option<InstanceId>) {
        self.estimate.counted(admitted.prompt_tokens.into());
        self.reservation.progress(self.used(usage, instance));
    }

    /// Reports usage to the store, if a report is due.
    pub fn progress(&self, usage: &Usage, instance: Option<InstanceId>) {
        let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
        if self.reservation.is_due(tokens) {
            self.reservation.progress(self.used(usage, instance));
        }
    }

    /// Ends the reservation. A request refused as invalid costs nothing, whatever its worker computed.
    #[must_use]
    pub fn settle(self, usage: &Usage, instance: Option<InstanceId>, end: RequestEnd) -> Settling {
        let nothing = Usage::default();
        let usage = if end.refused { &nothing } else { usage };
        let first_token = end.first_token.unwrap_or_default().as_micros();
        let event = UsageEvent {
            status: end.status.into(),
            code: end.code.to_owned(),
            ended_us: now_us(),
            first_token_us: u64::try_from(first_token).unwrap_or(u64::MAX),
            ..self.piece(usage, instance)
        };
        let used = Used {
            held_tokens: 0,
            held_money: 0,
            refused: end.refused,
            event: encoded(&event),
            ..self.used(usage, instance)
        };
        self.reservation.settle(used)
    }

    fn used(&self, usage: &Usage, instance: Option<InstanceId>) -> Used {
        let need = &self.need;
        let (prompt, produced) = (
            Tokens::from(usage.prompt_tokens),
            Tokens::from(usage.completion_tokens),
        );
        let piece = self.piece(usage, instance);
        let spent = NanoDollars::new(piece.cost_nanodollars);
        let room = need.context.saturating_sub(prompt);
        let most = need.longest.min(room).times(need.choices);
        let to_pay = self.plan.price.output * most.saturating_sub(produced);
        Used {
            tokens: (prompt + produced).get(),
            money: spent.get(),
            held_tokens: need.answer.min(most).saturating_sub(produced).get(),
            // Without a budget nothing is held, because `money` is 0.
            held_money: to_pay.min(need.money.saturating_sub(spent)).get(),
            refused: false,
            event: encoded(&piece),
        }
    }

    /// The second piece of the usage event.
    fn piece(&self, usage: &Usage, instance: Option<InstanceId>) -> UsageEvent {
        let (prompt, cached, completion) = (
            Tokens::from(usage.prompt_tokens),
            Tokens::from(usage.cached_tokens),
            Tokens::from(usage.completion_tokens),
        );
        UsageEvent {
            worker_instance: instance.map_or(0, InstanceId::get),
            prompt_tokens: prompt.get(),
            cached_tokens: cached.get(),
            completion_tokens: completion.get(),
            reasoning_tokens: usage.reasoning_tokens.into(),
            cost_nanodollars: self.plan.price.cost(prompt, cached, completion).get(),
            ..UsageEvent::default()
        }
    }
}

fn encoded(event: &UsageEvent) -> Bytes {
    event.encode_to_vec().into()
}
