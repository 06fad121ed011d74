//! The fields that only a Plan in a namespace of the platform may set.

use super::Platform;
use crate::decimal::{OF_A_PRICE, decimal};
use crate::{DEFAULT_PRICE, NamespaceSelector, PlanSpec, Price};

// === impl Platform ===

impl Platform {
    /// Why a Plan is not allowed in this namespace: each field, its effect, and what to write instead. None: the Plan
    /// is allowed.
    #[must_use]
    pub fn refusal(&self, namespace: &str, spec: &PlanSpec) -> Option<String> {
        if self.includes(namespace) {
            return None;
        }
        let excesses: Vec<_> = [
            selector(namespace, spec.namespace_selector.as_ref()),
            priority(spec.priority),
            spec.preview.as_ref().map(|_| PREVIEW.to_owned()),
        ]
        .into_iter()
        .flatten()
        .chain(spec.price.iter().flat_map(prices))
        .collect();
        if excesses.is_empty() {
            return None;
        }
        let whose = match self.namespaces.as_slice() {
            [] => "there is none".to_owned(),
            names => names.join(", "),
        };
        Some(format!(
            "{}. Only a Plan in a namespace of the platform ({whose}) may do that",
            excesses.join("; ")
        ))
    }
}

const PREVIEW: &str =
    "spec.preview would open models to callers without a key: leave the field out";

fn selector(own: &str, selector: Option<&NamespaceSelector>) -> Option<String> {
    let reaches = match selector? {
        NamespaceSelector::Any(any) => *any,
        NamespaceSelector::MatchNames(names) => names.iter().any(|name| name != own),
    };
    let said =
        "spec.namespaceSelector would reach the models of other namespaces: leave the field out";
    reaches.then(|| said.to_owned())
}

fn priority(priority: i32) -> Option<String> {
    (priority > 0).then(|| {
        format!(
            "spec.priority {priority} would go before the requests of other namespaces: write 0 or less"
        )
    })
}

/// Prices below the default price, which would bill usage for less than the platform demands.
fn prices(price: &Price) -> impl Iterator<Item = String> {
    let least = decimal(DEFAULT_PRICE, OF_A_PRICE);
    let fields = [
        ("perMillionTokens", &price.per_million_tokens),
        ("perMillionInputTokens", &price.per_million_input_tokens),
        (
            "perMillionCachedInputTokens",
            &price.per_million_cached_input_tokens,
        ),
        ("perMillionOutputTokens", &price.per_million_output_tokens),
    ];
    fields.into_iter().filter_map(move |(field, text)| {
        let text = text.as_deref()?;
        (decimal(text, OF_A_PRICE) < least).then(|| {
            format!(
                "spec.price.{field} {text:?} is below the default price: write at least \
                 \"{DEFAULT_PRICE}\", or leave the price out"
            )
        })
    })
}
