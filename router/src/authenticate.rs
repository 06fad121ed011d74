//! Step 2: finds the key of a request by the hash of its bearer token.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq;

use inferyard_catalog::{Catalog, Key, KeyHash};

mod error;
mod known;
mod cache;
mod stored;

pub(crate) use error::AuthenticateError;
pub(crate) use stored::{Away, StoredKeys};

/// Maximum length of a bearer token, in bytes; longer ones are unknown without being hashed.
const LONGEST_KEY: usize = 1024;

/// The key of a request, and the catalog it was checked against.
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) catalog: Arc<Catalog>,
}

/// Looks the bearer token up in the catalog, and then in the key store.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn authenticate(
    catalog: Arc<Catalog>,
    stored: Option<&StoredKeys>,
    headers: &HeaderMap,
) -> Result<Caller, AuthenticateError> {
    let text = bearer(headers)?;
    let unknown = || AuthenticateError::UnknownKey {
        masked: masked_key(text),
    };
    if text.len() > LONGEST_KEY {
        return Err(unknown());
    }
    let hash = KeyHash::of(text);
    if let Some(why) = planless(&catalog, &hash) {
        return Err(why);
    }
    let key = match (declared(&catalog, &hash), stored) {
        (Some(key), _) => key,
        (None, None) => return Err(unknown()),
        (None, Some(stored)) => match stored.find(hash).await {
            Ok(Some(known)) => Arc::new(known.on(&catalog).ok_or_else(|| {
                let plan = known.plan().to_owned();
                AuthenticateError::NoPlan { plan }
            })?),
            Ok(None) => return Err(unknown()),
            Err(Away) => return Err(AuthenticateError::StoreAway),
        },
    };
    ended(key.disabled, key.expires)?;
    Ok(Caller { key, catalog })
}

fn ended(disabled: bool, expires: Option<SystemTime>) -> Result<(), AuthenticateError> {
    if disabled {
        return Err(AuthenticateError::Disabled);
    }
    if expires.is_some_and(|end| end <= SystemTime::now()) {
        return Err(AuthenticateError::Expired);
    }
    Ok(())
}

/// The key with this hash in the catalog.
fn declared(catalog: &Catalog, hash: &KeyHash) -> Option<Arc<Key>> {
    // The map compares hashes in variable time, which can reveal how the hash of a guess differs from a stored
    // hash. That does not help to find a key, because SHA-256 cannot be inverted. The constant-time comparison
    // below decides.
    let (declared, key) = catalog.keys.get_key_value(hash)?;
    bool::from(declared.0.ct_eq(&hash.0)).then(|| Arc::clone(key))
}

/// Why a declared key is refused if its plan cannot be used; `None`: the key has a plan or is not declared.
fn planless(catalog: &Catalog, hash: &KeyHash) -> Option<AuthenticateError> {
    let (declared, key) = catalog.keys_without_plan.get_key_value(hash)?;
    if !bool::from(declared.0.ct_eq(&hash.0)) {
        return None;
    }
    if let Err(ended) = ended(key.disabled, key.expires) {
        return Some(ended);
    }
    let plan = key.plan.to_string();
    Some(if key.is_refused {
        AuthenticateError::PlanRefused { plan }
    } else {
        AuthenticateError::NoPlan { plan }
    })
}

/// The part of an unknown key that an error message may contain.
pub(crate) fn masked_key(text: &[u8]) -> String {
    masked(&String::from_utf8_lossy(text))
}

/// The token after `Bearer`; the scheme is case-insensitive.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&[u8], AuthenticateError> {
    let value = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let value = value.unwrap_or_default().trim_ascii();
    let (scheme, rest) = value.split_at_checked(6).unwrap_or((value, b""));
    match rest.trim_ascii() {
        [] if value.is_empty() || scheme.eq_ignore_ascii_case(b"bearer") => {
            Err(AuthenticateError::NoKey)
        }
        key if scheme.eq_ignore_ascii_case(b"bearer") && rest.starts_with(b" ") => Ok(key),
        _ => Err(AuthenticateError::NotBearer),
    }
}

/// Masks a key: its first 5 and last 4 characters, which identify the key but do not allow its use.
fn masked(key: &str) -> String {
    const SHORTEST: usize = 20;
    const LONGEST: usize = 1_024;
    let characters: Vec<char> = key.chars().take(LONGEST).collect();
    let length = characters.len();
    if length < SHORTEST || characters.iter().any(|character| character.is_control()) {
        return "***".to_owned();
    }
    let start: String = characters[..5].iter().collect();
    let end: String = characters[length - 4..].iter().collect();
    format!("{start}***{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_not_shown_at_all() {
        assert_eq!(masked("hunter2"), "***");
        assert_eq!(masked("iy-0123456789abcdef"), "***");
        assert_eq!(masked("iy-0123456789abcdefg"), "iy-01***defg");
        assert_eq!(masked("iy-0123456789\nabcdefg"), "***");
    }
    use inferyard_catalog::{KeyWithoutPlan, Plan};
    use std::time::Duration;

    fn catalog(change: impl FnOnce(&mut Key)) -> Arc<Catalog> {
        let mut key = Key {
            name: Some("k".into()),
            account: "a".into(),
            plan: Arc::new(Plan::unrestricted("p")),
            expires: None,
            disabled: false,
            limits: None,
        };
        change(&mut key);
        let mut catalog = Catalog::default();
        let hash = KeyHash::of(b"My API Key");
        catalog.keys.insert(hash, Arc::new(key));
        Arc::new(catalog)
    }

    async fn attempt(catalog: Arc<Catalog>, header: &str) -> Result<String, AuthenticateError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        let caller = authenticate(catalog, None, &headers).await?;
        Ok(caller.key.name.as_deref().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_key_with_spaces_and_any_case_of_the_scheme_is_found() {
        for header in [
            "Bearer My API Key",
            "bearer My API Key",
            "BEARER   My API Key ",
        ] {
            assert_eq!(
                attempt(catalog(|_| ()), header).await.unwrap(),
                "k",
                "{header}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_bearer_key_says_which_way() {
        for header in ["", "Bearer", "Bearer "] {
            let result = attempt(catalog(|_| ()), header).await;
            assert!(matches!(result, Err(AuthenticateError::NoKey)), "{header}");
        }
        for header in [
            "Basic TXkgQVBJIEtleQ==",
            "My API Key",
            "BearerMy API Key",
            "x",
        ] {
            let result = attempt(catalog(|_| ()), header).await;
            assert!(
                matches!(result, Err(AuthenticateError::NotBearer)),
                "{header}"
            );
        }
    }

    #[tokio::test]
    async fn another_key_is_unknown_and_a_huge_one_is_not_hashed() {
        for key in ["My API Kez".to_owned(), "x".repeat(5000)] {
            let result = attempt(catalog(|_| ()), &format!("Bearer {key}")).await;
            assert!(matches!(result, Err(AuthenticateError::UnknownKey { .. })));
        }
    }

    #[tokio::test]
    async fn a_key_without_a_plan_hears_which_one_is_missing() {
        let key = |change: fn(&mut KeyWithoutPlan)| {
            let mut key = KeyWithoutPlan {
                plan: "gold".into(),
                is_refused: false,
                expires: None,
                disabled: false,
            };
            change(&mut key);
            let mut catalog = Catalog::default();
            let hash = KeyHash::of(b"My API Key");
            catalog.keys_without_plan.insert(hash, key);
            attempt(Arc::new(catalog), "Bearer My API Key")
        };
        let missing = key(|_| ()).await;
        assert!(
            matches!(&missing, Err(AuthenticateError::NoPlan { plan }) if plan == "gold"),
            "{missing:?}"
        );
        let refused = key(|key| key.is_refused = true).await;
        assert!(
            matches!(&refused, Err(AuthenticateError::PlanRefused { plan }) if plan == "gold"),
            "{refused:?}"
        );
        let disabled = key(|key| key.disabled = true).await;
        assert!(matches!(disabled, Err(AuthenticateError::Disabled)));
        let expired = key(|key| key.expires = Some(SystemTime::UNIX_EPOCH)).await;
        assert!(matches!(expired, Err(AuthenticateError::Expired)));
    }

    #[tokio::test]
    async fn a_disabled_or_expired_key_is_refused() {
        let disabled = attempt(catalog(|key| key.disabled = true), "Bearer My API Key").await;
        assert!(matches!(disabled, Err(AuthenticateError::Disabled)));
        let past = SystemTime::now() - Duration::from_secs(1);
        let expired = attempt(catalog(|key| key.expires = Some(past)), "Bearer My API Key").await;
        assert!(matches!(expired, Err(AuthenticateError::Expired)));
    }
}
