//! Step 2: the bearer key becomes a caller; keys are known by their hash alone.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::catalog::{Catalog, Key, KeyHash};
use crate::error::{AuthenticateError, masked};

/// The longest text that is hashed as a key.
const LONGEST_KEY: usize = 1024;
/// Who asks, and the catalog that was in force when they did.
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) catalog: Arc<Catalog>,
}

/// Looks the bearer key up in the catalog.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) fn authenticate(
    catalog: Arc<Catalog>,
    headers: &HeaderMap,
) -> Result<Caller, AuthenticateError> {
    let text = bearer(headers)?;
    let unknown = || AuthenticateError::UnknownKey {
        masked: masked(&String::from_utf8_lossy(text)),
    };
    if text.len() > LONGEST_KEY {
        return Err(unknown());
    }
    let hash = KeyHash(Sha256::digest(text).into());
    // The map's own comparison may end early, and so tell how the hash of a guess differs from a
    // hash that is stored; that alone leads to no key. The decision is the comparison below.
    let (stored, key) = catalog.keys.get_key_value(&hash).ok_or_else(unknown)?;
    if !bool::from(stored.0.ct_eq(&hash.0)) {
        return Err(unknown());
    }
    if key.disabled {
        return Err(AuthenticateError::Disabled);
    }
    if key.expires.is_some_and(|end| end <= SystemTime::now()) {
        return Err(AuthenticateError::Expired);
    }
    let key = Arc::clone(key);
    Ok(Caller { key, catalog })
}

/// The text after `Bearer`; the scheme's name has no case.
fn bearer(headers: &HeaderMap) -> Result<&[u8], AuthenticateError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Plan;
    use std::time::Duration;

    fn catalog(change: impl FnOnce(&mut Key)) -> Arc<Catalog> {
        let mut key = Key {
            name: "k".into(),
            account: "a".into(),
            plan: Arc::new(Plan {
                name: "p".into(),
                models: None,
                priority: 0,
            }),
            expires: None,
            disabled: false,
        };
        change(&mut key);
        let mut catalog = Catalog::default();
        let hash = KeyHash(Sha256::digest("My API Key").into());
        catalog.keys.insert(hash, Arc::new(key));
        Arc::new(catalog)
    }

    fn attempt(catalog: Arc<Catalog>, header: &str) -> Result<String, AuthenticateError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        authenticate(catalog, &headers).map(|caller| caller.key.name.to_string())
    }

    #[test]
    fn a_key_with_spaces_and_any_case_of_the_scheme_is_found() {
        for header in [
            "Bearer My API Key",
            "bearer My API Key",
            "BEARER   My API Key ",
        ] {
            assert_eq!(attempt(catalog(|_| ()), header).unwrap(), "k", "{header}");
        }
    }

    #[test]
    fn what_is_no_bearer_key_says_which_way() {
        for header in ["", "Bearer", "Bearer "] {
            let result = attempt(catalog(|_| ()), header);
            assert!(matches!(result, Err(AuthenticateError::NoKey)), "{header}");
        }
        for header in [
            "Basic TXkgQVBJIEtleQ==",
            "My API Key",
            "BearerMy API Key",
            "x",
        ] {
            let result = attempt(catalog(|_| ()), header);
            assert!(
                matches!(result, Err(AuthenticateError::NotBearer)),
                "{header}"
            );
        }
    }

    #[test]
    fn another_key_is_unknown_and_a_huge_one_is_not_hashed() {
        for key in ["My API Kez".to_owned(), "x".repeat(5000)] {
            let result = attempt(catalog(|_| ()), &format!("Bearer {key}"));
            assert!(matches!(result, Err(AuthenticateError::UnknownKey { .. })));
        }
    }

    #[test]
    fn a_disabled_or_expired_key_is_refused() {
        let disabled = attempt(catalog(|key| key.disabled = true), "Bearer My API Key");
        assert!(matches!(disabled, Err(AuthenticateError::Disabled)));
        let past = SystemTime::now() - Duration::from_secs(1);
        let expired = attempt(catalog(|key| key.expires = Some(past)), "Bearer My API Key");
        assert!(matches!(expired, Err(AuthenticateError::Expired)));
    }
}
