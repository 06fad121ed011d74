//! Names as types.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(Arc<str>);

            impl $name {
                /// The text, shared: for labels of metrics and fields of spans.
                #[must_use]
                pub fn shared(&self) -> Arc<str> {
                    Arc::clone(&self.0)
                }
            }

            impl Deref for $name {
                type Target = str;

                fn deref(&self) -> &str {
                    &self.0
                }
            }

            impl Borrow<str> for $name {
                fn borrow(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Debug::fmt(&self.0, f)
                }
            }

            impl From<&str> for $name {
                fn from(text: &str) -> Self {
                    Self(text.into())
                }
            }

            impl From<String> for $name {
                fn from(text: String) -> Self {
                    Self(text.into())
                }
            }

            impl From<Arc<str>> for $name {
                fn from(text: Arc<str>) -> Self {
                    Self(text)
                }
            }
        )+
    };
}

names!(
    /// Who pays for a request, and whose cached prefixes it shares.
    Account,
    /// The name of an API key, which is not its secret text.
    KeyName,
    /// The name of a plan.
    PlanName,
    /// What a model is called in usage, metrics and plans. No two models of a catalog have the same id.
    ModelId,
);
