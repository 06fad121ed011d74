//! The cookie that identifies a returning visitor: `account.expiry.signature`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::mac;

const NAME: &str = "inferyard_preview";
/// The longest lifetime that browsers accept.
const LIFETIME: Duration = Duration::from_hours(40 * 24);
/// Maximum length of a cookie's value, in bytes; longer ones are not ours.
const LONGEST: usize = 256;

/// A signed cookie for this account.
pub(super) fn new(secret: &[u8; 32], account: &str, secure: bool) -> HeaderValue {
    let expiry = now() + LIFETIME.as_secs();
    let text = format!("{account}.{expiry}");
    let signature = mac(secret, b"cookie", text.as_bytes()).finalize();
    let signature = URL_SAFE_NO_PAD.encode(signature.into_bytes());
    let age = LIFETIME.as_secs();
    let secure = if secure { "; Secure" } else { "" };
    let cookie =
        format!("{NAME}={text}.{signature}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).expect("an account should be a header value")
}

/// The account of a cookie that has a valid signature and has not expired.
pub(super) fn account(secret: &[u8; 32], headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter();
    let mut cookies = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    cookies.find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        if name != NAME {
            return None;
        }
        verified(secret, value)
    })
}

fn verified(secret: &[u8; 32], value: &str) -> Option<String> {
    if value.len() > LONGEST {
        return None;
    }
    let (text, signature) = value.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    mac(secret, b"cookie", text.as_bytes())
        .verify_slice(&signature)
        .ok()?;
    let (account, expiry) = text.rsplit_once('.')?;
    (expiry.parse::<u64>().ok()? > now()).then(|| account.to_owned())
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn sent(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b".parse().unwrap());
        headers.append(COOKIE, format!("x=y; {cookie}; z").parse().unwrap());
        headers
    }

    fn value(cookie: &HeaderValue) -> &str {
        cookie.to_str().unwrap().split(';').next().unwrap()
    }

    #[test]
    fn a_visitor_is_known_again() {
        let cookie = new(&SECRET, "preview-1", true);
        let text = cookie.to_str().unwrap();
        assert!(
            text.ends_with("; Path=/; Max-Age=3456000; HttpOnly; SameSite=Lax; Secure"),
            "{text}"
        );
        assert!(
            !new(&SECRET, "preview-1", false)
                .to_str()
                .unwrap()
                .contains("Secure")
        );
        let known = account(&SECRET, &sent(value(&cookie)));
        assert_eq!(known.as_deref(), Some("preview-1"));
    }

    #[test]
    fn what_is_forged_or_foreign_is_ignored() {
        let cookie = new(&SECRET, "preview-1", false);
        let cookie = value(&cookie);
        for forged in [
            cookie.replace("preview-1", "preview-2"),
            cookie.replacen('.', ".9", 1),
            cookie.replace("inferyard_preview", "other"),
            cookie[..cookie.len() - 1].to_owned(),
            "inferyard_preview=".to_owned(),
            "inferyard_preview=preview-1..".to_owned(),
            format!("inferyard_preview={}", "x".repeat(9_999)),
        ] {
            assert_eq!(account(&SECRET, &sent(&forged)), None, "{forged}");
        }
        assert_eq!(account(&[8; 32], &sent(cookie)), None);
    }

    #[test]
    fn an_expired_one_is_ignored() {
        let text = "preview-1.1700000000";
        let signature = mac(&SECRET, b"cookie", text.as_bytes()).finalize();
        let signature = URL_SAFE_NO_PAD.encode(signature.into_bytes());
        let cookie = format!("{NAME}={text}.{signature}");
        assert_eq!(account(&SECRET, &sent(&cookie)), None);
    }
}
