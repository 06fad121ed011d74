//! Computes how many tokens and how much money a request reserves; pure code.

use inferyard_domain::{NanoDollars, TokenPrice, Tokens};
use inferyard_placement::PromptLengths;
use inferyard_proto::worker::v1::GenerateRequest;

use super::Estimate;
use inferyard_catalog::{Key, Limits, Price};

/// Tokens of the chat template, assumed if no worker reports them; an upper bound.
const TEMPLATE_TOKENS: u64 = 1_024;
/// Context length, assumed if no worker has reported one; longer than any.
const LONGEST_CONTEXT: u64 = 1 << 20;

/// What a request reserves before it is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Estimated tokens of prompt and answer.
    pub(crate) tokens: Tokens,
    /// Nano-dollars that it costs at most; 0 without a budget.
    pub(crate) money: NanoDollars,
    /// Nano-dollars below which the request is denied.
    pub(crate) least_money: NanoDollars,
    /// The part of `tokens` for the answer.
    pub(crate) answer: Tokens,
    /// Tokens of one choice at most.
    pub(crate) longest: Tokens,
    /// The model's context length: tokens of prompt and answer together.
    pub(crate) context: Tokens,
    /// Number of choices.
    pub(crate) choices: u64,
    /// How it is paid; `None`: no budget binds it.
    payment: Option<Payment>,
}

/// Determines how much of a budget a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payment {
    /// Upper bound of the prompt's tokens; exact once counted.
    most_prompt: Tokens,
    /// Estimated tokens of the prompt.
    likely_prompt: Tokens,
    /// A worker counts the prompt before computing it, and rejects it above `max_prompt_tokens`. Too little money for
    /// `most_prompt` is therefore no reason to deny the request.
    counts: bool,
    /// Price of a prompt token: computed or cached, whichever is higher.
    prompt_price: TokenPrice,
    /// Price of one answer token in every choice.
    answer_price: TokenPrice,
    /// The longest answer that the client allows, and its own `max_tokens`.
    longest: Tokens,
    max_tokens: Option<u32>,
    /// In shadow mode nothing is denied, so nothing is shortened.
    shadow: bool,
}

// === impl Need ===

impl Need {
    pub(crate) fn of(
        request: &GenerateRequest,
        estimate: &Estimate,
        lengths: PromptLengths,
        key: &Key,
    ) -> Self {
        let plan = &key.plan;
        let scopes = [Some(&plan.limits), key.limits.as_ref()];
        let context = Tokens::new(lengths.context.unwrap_or(LONGEST_CONTEXT));
        let choices = u64::from(request.choices.max(1));
        let prompt = Tokens::new(estimate.tokens).min(context);
        let asked = request.max_tokens.map(Tokens::from);
        let longest = asked.unwrap_or(context).min(context);
        let reserve = match asked {
            Some(_) => longest,
            None => Tokens::from(plan.output_reserve).min(context),
        };
        let mut tokens = prompt + reserve.times(choices);
        // A default answer length must not deny a prompt that fits.
        if let (None, Some(cap)) = (asked, token_limit(scopes)) {
            tokens = tokens.min(cap.max(prompt + Tokens::ONE.times(choices)));
        }
        let budget = |limits: &Limits| limits.budget_per_month.is_some();
        let has_budget = scopes.into_iter().flatten().any(budget);
        let payment = has_budget.then(|| {
            let template = lengths.template.unwrap_or(TEMPLATE_TOKENS);
            let most_prompt = Tokens::new(estimate.most(template)).min(context);
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
            money: payment.map_or(NanoDollars::ZERO, |payment| payment.most()),
            least_money: payment.map_or(NanoDollars::ZERO, |payment| payment.least()),
            answer: tokens.saturating_sub(prompt),
            longest,
            context,
            choices,
            payment,
        }
    }

    /// Bounds prompt and answer by the granted money. If it may not pay for both and a worker counts the prompt,
    /// `max_prompt_tokens` is 0: the worker then only reports the count.
    pub(crate) fn grant(&mut self, money: NanoDollars, request: &mut GenerateRequest) {
        self.money = self.money.min(money);
        let Some(payment) = self.payment.filter(|payment| !payment.shadow) else {
            return;
        };
        let (most_prompt, longest) = payment.bounds(self.money);
        self.longest = longest;
        let most = longest.times(self.choices);
        self.answer = self.answer.min(most);
        request.max_prompt_tokens = Some(most_prompt.small());
        request.max_tokens = if longest < payment.longest {
            Some(longest.small())
        } else {
            payment.max_tokens
        };
    }

    /// A worker has counted the prompt, so the need is exact; `grant` must follow.
    pub(crate) fn counted(&mut self, prompt: Tokens) {
        if let Some(payment) = &mut self.payment {
            payment.most_prompt = prompt;
            payment.likely_prompt = prompt;
            payment.counts = false;
            self.money = payment.most();
            self.least_money = payment.least();
        }
    }

    /// Whether a worker's count may require a larger reservation.
    pub(crate) fn may_be_counted(&self) -> bool {
        self.payment.is_some_and(|payment| !payment.shadow)
    }
}

// === impl Payment ===

impl Payment {
    fn priced(price: &Price, choices: u64) -> Self {
        Self {
            most_prompt: Tokens::ZERO,
            likely_prompt: Tokens::ZERO,
            counts: false,
            prompt_price: price.input.max(price.cached_input),
            answer_price: price.output.times(choices),
            longest: Tokens::ZERO,
            max_tokens: None,
            shadow: false,
        }
    }

    fn price(&self, prompt: Tokens, longest: Tokens) -> NanoDollars {
        self.prompt_price * prompt + self.answer_price * longest
    }

    fn most(&self) -> NanoDollars {
        self.price(self.most_prompt, self.longest)
    }

    /// The cost of the prompt and one token of each choice; a prompt that a worker will count is taken as one token.
    fn least(&self) -> NanoDollars {
        let prompt = if self.counts {
            self.most_prompt.min(Tokens::ONE)
        } else {
            self.most_prompt
        };
        self.price(prompt, self.longest.min(Tokens::ONE))
    }

    /// The most tokens of the prompt and of one choice that `money` pays for together.
    fn bounds(&self, money: NanoDollars) -> (Tokens, Tokens) {
        let likely = if self.counts {
            self.likely_prompt
        } else {
            self.most_prompt
        };
        if money >= self.price(likely, self.longest) {
            let left = money.saturating_sub(self.price(Tokens::ZERO, self.longest));
            let prompt = left.pays(self.prompt_price);
            return (prompt.min(self.most_prompt), self.longest);
        }
        if self.counts {
            return (Tokens::ZERO, self.longest);
        }
        let left = money.saturating_sub(self.price(self.most_prompt, Tokens::ZERO));
        let longest = left.pays(self.answer_price);
        (self.most_prompt, longest.min(self.longest))
    }
}

/// The smallest limit of tokens per minute or day.
fn token_limit(scopes: [Option<&Limits>; 2]) -> Option<Tokens> {
    let limits = scopes.into_iter().flatten();
    let windows = limits.flat_map(|limits| [limits.tokens_per_minute, limits.tokens_per_day]);
    windows
        .flatten()
        .map(|limit| Tokens::new(limit.get()))
        .min()
}

#[cfg(test)]
mod tests;
