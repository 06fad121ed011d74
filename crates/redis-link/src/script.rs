//! Scripts, which a server knows by their hash once it has run them.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, cmd};
use sha1::{Digest as _, Sha1};

use crate::Connection;

/// A Lua script.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: String,
}

// === impl Script ===

impl Script {
    /// A script of this text.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        let hash = hex::encode(Sha1::digest(text.as_bytes()));
        Self { text, hash }
    }

    /// The call of the script by its hash. What follows are the number of keys, the keys and the
    /// arguments.
    #[must_use]
    pub fn by_hash(&self) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash);
        call
    }

    /// Calls it by its hash, which is one round trip. A server that does not know it gets its text, and
    /// knows it from then on.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        connection: &mut Connection,
        arguments: impl Fn(&mut Cmd),
    ) -> RedisResult<T> {
        let mut by_hash = self.by_hash();
        arguments(&mut by_hash);
        match by_hash.query_async(connection).await {
            Err(error) if is_unknown_script(&error) => {
                let mut by_text = cmd("EVAL");
                by_text.arg(self.text);
                arguments(&mut by_text);
                by_text.query_async(connection).await
            }
            other => other,
        }
    }
}

/// Whether the server does not know a script by its hash.
#[must_use]
pub fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
