//! What a request owes: how its tokens become the meters' numbers and its usage event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_proto::worker::v1::{Admitted, Usage};
use prost::Message as _;

use super::{Estimate, Need, now_us};
use inferyard_admission::{Reading, Reservation, Settling, Used};
use inferyard_catalog::Plan;

/// A reservation, and what turns tokens into money.
pub(crate) struct Bill {
    reservation: Reservation,
    plan: Arc<Plan>,
    need: Need,
    estimate: Estimate,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) first_token: Option<Duration>,
    /// The request was refused for its own fault.
    pub(crate) refused: bool,
}

// === impl Bill ===

impl Bill {
    pub(crate) fn new(
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

    /// What it needs is known better.
    pub(crate) fn granted(&mut self, need: Need) {
        self.need = need;
    }

    /// Every limit that binds the request, as it was after it was let in.
    pub(crate) fn readings(&self) -> &[Reading] {
        self.reservation.readings()
    }

    /// The prompt has been counted: what is held for it becomes exact.
    pub(crate) fn admitted(&self, admitted: Admitted, usage: &Usage, boot_id: u64) {
        self.estimate.counted(admitted.prompt_tokens.into());
        self.reservation.progress(self.used(usage, boot_id));
    }

    /// Tells the meters how far it is, where it is time to.
    pub(crate) fn progress(&self, usage: &Usage, boot_id: u64) {
        let tokens = u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens);
        if self.reservation.is_due(tokens) {
            self.reservation.progress(self.used(usage, boot_id));
        }
    }

    /// Ends it. One that was refused for its own fault costs nothing, whatever its worker did for it.
    pub(crate) fn settle(self, usage: &Usage, boot_id: u64, end: End) -> Settling {
        let nothing = Usage::default();
        let usage = if end.refused { &nothing } else { usage };
        let first_token = end.first_token.unwrap_or_default().as_micros();
        let event = UsageEvent {
            status: end.status.into(),
            code: end.code.to_owned(),
            ended_us: now_us(),
            first_token_us: u64::try_from(first_token).unwrap_or(u64::MAX),
            ..self.piece(usage, boot_id)
        };
        let used = Used {
            held_tokens: 0,
            held_money: 0,
            refused: end.refused,
            event: encoded(&event),
            ..self.used(usage, boot_id)
        };
        self.reservation.settle(used)
    }

    fn used(&self, usage: &Usage, boot_id: u64) -> Used {
        let need = &self.need;
        let (prompt, produced) = (
            u64::from(usage.prompt_tokens),
            u64::from(usage.completion_tokens),
        );
        let piece = self.piece(usage, boot_id);
        let spent = piece.cost_nanodollars;
        let room = need.context.saturating_sub(prompt);
        let most = need.longest.min(room).saturating_mul(need.choices);
        let to_pay = most.saturating_sub(produced);
        let to_pay = to_pay.saturating_mul(self.plan.price.output);
        Used {
            tokens: prompt + produced,
            money: spent,
            held_tokens: need.answer.min(most).saturating_sub(produced),
            // No budget, nothing held: then `money` is 0.
            held_money: to_pay.min(need.money.saturating_sub(spent)),
            refused: false,
            event: encoded(&piece),
        }
    }

    /// The second piece of the usage event.
    fn piece(&self, usage: &Usage, boot_id: u64) -> UsageEvent {
        let (prompt, cached, completion) = (
            u64::from(usage.prompt_tokens),
            u64::from(usage.cached_tokens),
            u64::from(usage.completion_tokens),
        );
        UsageEvent {
            worker_boot: boot_id,
            prompt_tokens: prompt,
            cached_tokens: cached,
            completion_tokens: completion,
            reasoning_tokens: usage.reasoning_tokens.into(),
            cost_nanodollars: self.plan.price.cost(prompt, cached, completion),
            ..UsageEvent::default()
        }
    }
}

fn encoded(event: &UsageEvent) -> Bytes {
    event.encode_to_vec().into()
}
