//! Callers without a key: each is an account of its own on the plan with `preview`.

use std::net::IpAddr;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use http::HeaderValue;
use inferyard_listen::client_network;
use sha2::Sha256;

use crate::accept::Accepted;
use crate::authenticate::Caller;
use crate::config::Config;
use inferyard_catalog::{Catalog, Key};

mod cookie;
mod forwarded;

/// A visitor, and its new cookie if the request brought none.
pub(crate) struct Visit {
    pub(crate) caller: Caller,
    pub(crate) cookie: Option<HeaderValue>,
}

/// Finds the account of a caller without a key; `None`: no plan offers a preview.
///
/// A valid cookie keeps the account of the first visit; without one the account is derived from the client's
/// address. So neither deleting cookies nor changing the address gives new limits.
pub(crate) fn visit(config: &Config, accepted: &Accepted, catalog: Arc<Catalog>) -> Option<Visit> {
    let plan = catalog.plans.values().find(|plan| plan.preview.is_some())?;
    let headers = &accepted.head.headers;
    let known = cookie::account(&config.cookie_secret, headers);
    let is_new = known.is_none();
    let account = known.unwrap_or_else(|| {
        let address = forwarded::address(&config.trusted_proxies, accepted.peer, headers);
        account(&config.cookie_secret, address)
    });
    let cookie = is_new.then(|| {
        let secure = config.tls.is_some()
            || forwarded::is_https(&config.trusted_proxies, accepted.peer, headers);
        cookie::new(&config.cookie_secret, &account, secure)
    });
    let key = Key {
        name: None,
        account: account.into(),
        plan: Arc::clone(plan),
        expires: None,
        disabled: false,
        limits: None,
    };
    let caller = Caller {
        key: Arc::new(key),
        catalog,
    };
    Some(Visit { caller, cookie })
}

/// The account of an address: a keyed hash, so that it cannot be reversed without the secret.
fn account(secret: &[u8; 32], address: IpAddr) -> String {
    let prefix = match client_network(address) {
        IpAddr::V6(prefix) => prefix.octets().to_vec(),
        IpAddr::V4(whole) => whole.octets().to_vec(),
    };
    let digest = mac(secret, b"address", &prefix).finalize().into_bytes();
    format!("preview-{}", hex::encode(&digest[..16]))
}

/// HMAC with a purpose in its input, so that a cookie's signature is never equal to an account's hash.
fn mac(secret: &[u8; 32], purpose: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("HMAC should take keys of any length");
    mac.update(purpose);
    mac.update(&[0]);
    mac.update(text);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> String {
        account(&[7; 32], address.parse().unwrap())
    }

    #[test]
    fn an_ipv4_address_is_an_account_and_so_is_a_home_of_ipv6() {
        assert_eq!(of("203.0.113.7"), of("203.0.113.7"));
        assert_eq!(of("203.0.113.7"), of("::ffff:203.0.113.7"));
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
        assert_eq!(of("2001:db8:1:200::1"), of("2001:db8:1:2ff:ffff::9"));
        assert_ne!(of("2001:db8:1:200::1"), of("2001:db8:1:300::1"));
    }

    #[test]
    fn an_account_tells_nothing_of_its_address() {
        let account = of("203.0.113.7");
        assert_eq!(account.len(), "preview-".len() + 32);
        assert_ne!(
            account,
            super::account(&[8; 32], "203.0.113.7".parse().unwrap())
        );
    }
}
