//! How many tokens and how much money a request sets aside; pure.

use inferyard_proto::worker::v1::GenerateRequest;

use super::Estimate;
use crate::place::Lengths;
use inferyard_catalog::{Key, Limits, Price};

/// What the chat template adds at most where no worker tells.
const TEMPLATE_TOKENS: u64 = 1_024;
/// Where no worker has told its context: longer than any.
const LONGEST_CONTEXT: u64 = 1 << 20;

/// What a request sets aside before it is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Tokens of prompt and answer, as far as they can be guessed.
    pub(crate) tokens: u64,
    /// Nano-dollars that it costs at most; 0 where there is no budget.
    pub(crate) money: u64,
    /// Nano-dollars without which it is of no use to begin.
    pub(crate) least_money: u64,
    /// Tokens of `tokens` that are for the answer.
    pub(crate) answer: u64,
    /// Tokens that one choice has at most.
    pub(crate) longest: u64,
    /// Tokens of prompt and answer together that the model takes.
    pub(crate) context: u64,
    /// How many answers are wanted.
    pub(crate) choices: u64,
    /// How it is paid; `None`: no budget binds it.
    payment: Option<Payment>,
}

/// What decides how much of a budget a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payment {
    /// Tokens that the prompt has at most, or exactly once it was counted.
    most_prompt: u64,
    /// About how many it has.
    likely_prompt: u64,
    /// A worker counts the prompt before it computes it, and refuses it where it has more tokens than
    /// allowed: so too little money for `most_prompt` is no reason to deny it.
    counts: bool,
    /// Nano-dollars of a prompt token, computed or cached, whichever is dearer.
    prompt_price: u64,
    /// Nano-dollars of a produced token of every choice.
    answer_price: u64,
    /// The longest answer as it was asked for, and what the request itself says of it.
    longest: u64,
    max_tokens: Option<u32>,
    /// Nothing is denied, so nothing is made shorter.
    shadow: bool,
}

// === impl Need ===

impl Need {
    pub(crate) fn of(
        request: &GenerateRequest,
        estimate: &Estimate,
        lengths: Lengths,
        key: &Key,
    ) -> Self {
        let plan = &key.plan;
        let scopes = [Some(&plan.limits), key.limits.as_ref()];
        let context = lengths.context.unwrap_or(LONGEST_CONTEXT);
        let choices = u64::from(request.choices.max(1));
        let prompt = estimate.tokens.min(context);
        let asked = request.max_tokens.map(u64::from);
        let longest = asked.unwrap_or(context).min(context);
        let reserve = match asked {
            Some(_) => longest,
            None => u64::from(plan.output_reserve).min(context),
        };
        let mut tokens = prompt.saturating_add(choices.saturating_mul(reserve));
        // What the caller did not ask for denies nobody: a prompt that fits is let in.
        if let (None, Some(cap)) = (asked, token_limit(scopes)) {
            tokens = tokens.min(cap.max(prompt.saturating_add(choices)));
        }
        let budget = |limits: &Limits| limits.budget_per_month.is_some();
        let has_budget = scopes.into_iter().flatten().any(budget);
        let payment = has_budget.then(|| {
            let template = lengths.template.unwrap_or(TEMPLATE_TOKENS);
            let most_prompt = estimate.most(template).min(context);
            Payment {
                most_prompt,
                likely_prompt: prompt.min(most_prompt),
                counts: lengths.template.is_some() && !estimate.is_exact,
                longest,
                max_tokens: request.max_tokens,
                shadow: plan.shadow,
                ..Payment::priced(&plan.price, choices)
            }
        });
        Self {
            tokens,
            money: payment.map_or(0, |payment| payment.most()),
            least_money: payment.map_or(0, |payment| payment.least()),
            answer: tokens - prompt,
            longest,
            context,
            choices,
            payment,
        }
    }

    /// Bounds prompt and answer by what was granted. Where a worker counts the prompt and it is not clear that
    /// prompt and answer can be paid, no prompt is allowed: the worker then says how long it is.
    pub(crate) fn grant(&mut self, money: u64, request: &mut GenerateRequest) {
        self.money = self.money.min(money);
        let Some(payment) = self.payment.filter(|payment| !payment.shadow) else {
            return;
        };
        let (most_prompt, longest) = payment.bounds(self.money);
        self.longest = longest;
        let most = longest.saturating_mul(self.choices);
        self.answer = self.answer.min(most);
        let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        request.max_prompt_tokens = Some(small(most_prompt));
        request.max_tokens = if longest < payment.longest {
            Some(small(longest))
        } else {
            payment.max_tokens
        };
    }

    /// A worker has counted the prompt: what it needs is known exactly. It is to be granted anew.
    pub(crate) fn counted(&mut self, prompt: u64) {
        if let Some(payment) = &mut self.payment {
            payment.most_prompt = prompt;
            payment.likely_prompt = prompt;
            payment.counts = false;
            self.money = payment.most();
            self.least_money = payment.least();
        }
    }

    /// Whether more may have to be asked for when the prompt has been counted.
    pub(crate) fn may_be_counted(&self) -> bool {
        self.payment.is_some_and(|payment| !payment.shadow)
    }
}

// === impl Payment ===

impl Payment {
    fn priced(price: &Price, choices: u64) -> Self {
        Self {
            most_prompt: 0,
            likely_prompt: 0,
            counts: false,
            prompt_price: price.input.max(price.cached_input),
            answer_price: choices.saturating_mul(price.output),
            longest: 0,
            max_tokens: None,
            shadow: false,
        }
    }

    fn price(&self, prompt: u64, longest: u64) -> u64 {
        let prompt = prompt.saturating_mul(self.prompt_price);
        prompt.saturating_add(longest.saturating_mul(self.answer_price))
    }

    fn most(&self) -> u64 {
        self.price(self.most_prompt, self.longest)
    }

    /// The prompt and one token of each choice; of a prompt that a worker will count, one token.
    fn least(&self) -> u64 {
        let prompt = if self.counts {
            self.most_prompt.min(1)
        } else {
            self.most_prompt
        };
        self.price(prompt, self.longest.min(1))
    }

    /// Tokens of the prompt, and of one choice, that together cost no more than this.
    fn bounds(&self, money: u64) -> (u64, u64) {
        let likely = if self.counts {
            self.likely_prompt
        } else {
            self.most_prompt
        };
        if money >= self.price(likely, self.longest) {
            let left = money - self.price(0, self.longest);
            let prompt = left.checked_div(self.prompt_price).unwrap_or(u64::MAX);
            return (prompt.min(self.most_prompt), self.longest);
        }
        if self.counts {
            return (0, self.longest);
        }
        let left = money.saturating_sub(self.price(self.most_prompt, 0));
        let longest = left.checked_div(self.answer_price).unwrap_or(u64::MAX);
        (self.most_prompt, longest.min(self.longest))
    }
}

/// The smallest limit of tokens in a window.
fn token_limit(scopes: [Option<&Limits>; 2]) -> Option<u64> {
    let limits = scopes.into_iter().flatten();
    let windows = limits.flat_map(|limits| [limits.tokens_per_minute, limits.tokens_per_day]);
    windows.flatten().map(u64::from).min()
}

#[cfg(test)]
mod tests;
