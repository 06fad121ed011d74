//! How many tokens and how much money a request sets aside; pure.

use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;

use super::Ratio;
use crate::catalog::{Key, Limits, Price};

/// No prompt has more tokens than bytes, but for what the chat template adds.
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
    /// Nano-dollars without which it is not worth to begin: the prompt and one token of each choice.
    pub(crate) least_money: u64,
    /// Bytes of the prompt as it was sent.
    pub(crate) bytes: u64,
    /// Tokens of `tokens` that are for the answer.
    pub(crate) answer: u64,
    /// Tokens that one choice has at most.
    pub(crate) longest: u64,
    /// Tokens of prompt and answer together that the model takes.
    pub(crate) context: u64,
    /// How many answers are wanted.
    pub(crate) choices: u64,
    /// Nano-dollars that the prompt costs at most.
    prompt_money: u64,
    /// Nano-dollars of a produced token.
    output_price: u64,
    /// Nothing is denied, so nothing is made shorter.
    shadow: bool,
}

// === impl Need ===

impl Need {
    pub(crate) fn of(
        request: &GenerateRequest,
        bytes: u64,
        ratio: &Ratio,
        context: Option<u64>,
        key: &Key,
    ) -> Self {
        let plan = &key.plan;
        let scopes = [Some(&plan.limits), key.limits.as_ref()];
        let context = context.unwrap_or(LONGEST_CONTEXT);
        let choices = u64::from(request.choices.max(1));
        let prompt = ids(request)
            .unwrap_or_else(|| ratio.tokens(bytes))
            .min(context);
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
        let mut need = Self {
            tokens,
            money: 0,
            least_money: 0,
            bytes,
            answer: tokens - prompt,
            longest,
            context,
            choices,
            prompt_money: 0,
            output_price: plan.price.output,
            shadow: plan.shadow,
        };
        let budget = |limits: &Limits| limits.budget_per_month.is_some();
        if scopes.into_iter().flatten().any(budget) {
            let prompt = bytes.saturating_add(TEMPLATE_TOKENS).min(context);
            need.pay(prompt, &plan.price);
        }
        need
    }

    /// Adds the money.
    fn pay(&mut self, prompt: u64, price: &Price) {
        self.prompt_money = prompt.saturating_mul(price.input.max(price.cached_input));
        let answer = |tokens: u64| {
            let tokens = tokens.saturating_mul(self.choices);
            tokens.saturating_mul(price.output)
        };
        self.money = self.prompt_money.saturating_add(answer(self.longest));
        let least = answer(self.longest.min(1));
        self.least_money = self.prompt_money.saturating_add(least);
    }

    /// Makes the answer as short as what was granted demands.
    pub(crate) fn grant(&mut self, money: u64, request: &mut GenerateRequest) {
        if money >= self.money || self.shadow {
            return;
        }
        let left = money.saturating_sub(self.prompt_money);
        let price = self.choices.saturating_mul(self.output_price);
        let Some(longest) = left.checked_div(price) else {
            return;
        };
        self.longest = self.longest.min(longest);
        let most = self.longest.saturating_mul(self.choices);
        self.answer = self.answer.min(most);
        self.money = money;
        request.max_tokens = Some(u32::try_from(self.longest).unwrap_or(u32::MAX));
    }
}

/// The number of tokens where the prompt is one of token ids.
fn ids(request: &GenerateRequest) -> Option<u64> {
    match request.prompt.as_ref()? {
        Prompt::Text(text) => match text.content.as_ref()? {
            Content::Tokens(tokens) => Some(tokens.ids.len() as u64),
            Content::Text(_) => None,
        },
        Prompt::Chat(_) => None,
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
