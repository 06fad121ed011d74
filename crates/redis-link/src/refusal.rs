//! Which errors of Redis concern the keys of one command, and which all of its clients.

use redis::{ErrorKind, RedisError};

/// What an error says that every client gets, whatever keys it names: it heals by itself, or an operator
/// heals it for all at once. Scripts of Redis 6 repeat it within an error of their own.
const OF_THE_SERVER: [&str; 15] = [
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "READONLY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "Script killed",
    "Unknown Redis command",
    "not allowed from script",
];

/// Whether Redis answers, and refuses a command because of what its keys hold: a value of the wrong
/// type, or one that a script cannot read. Other keys are served, and the same command is refused
/// again until the key is repaired.
#[must_use]
pub fn concerns_keys(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let detail = error.detail().unwrap_or_default();
            let has = |word: &&str| detail.contains(*word) || error.code() == Some(*word);
            let is_refused = error.code() == Some("WRONGTYPE")
                || detail.contains("WRONGTYPE")
                || detail.contains("user_script");
            is_refused && !OF_THE_SERVER.iter().any(has)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use redis::{ServerError, Value};

    use super::*;

    fn error(line: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = reply else {
            panic!("{reply:?}");
        };
        let error: ServerError = error;
        error.into()
    }

    #[test]
    fn what_a_key_holds_is_told_from_how_the_server_is() {
        let of_keys = [
            "WRONGTYPE Operation against a key holding the wrong kind of value script: 8f, on @user_script:14.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR user_script:7: data string too short script: 8f, on @user_script:7.",
            "ERR Error running script (call to f_8f): @user_script:14: WRONGTYPE Operation against a key \
             holding the wrong kind of value",
            "ERR Error running script (call to f_8f): @user_script:3: user_script:3: data string too short",
        ];
        for line in of_keys {
            assert!(concerns_keys(&error(line)), "{line}");
        }
        let of_the_server = [
            "OOM command not allowed when used memory > 'maxmemory'. script: 8f, on @user_script:1.",
            "ERR Error running script (call to f_8f): @user_script:1: -OOM command not allowed when used \
             memory > 'maxmemory'",
            "ERR Error running script (call to f_8f): @user_script:1: Script killed by user with SCRIPT KILL",
            "NOPERM this user has no permissions to run the 'xadd' command script: 8f, on @user_script:1.",
            "READONLY You can't write against a read only replica. script: 8f, on @user_script:1.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script.",
            "ERR user_script:1: Unknown Redis command called from script script: 8f, on @user_script:1.",
            "CLUSTERDOWN The cluster is down",
            "ERR max number of clients reached",
            "NOSCRIPT No matching script.",
        ];
        for line in of_the_server {
            assert!(!concerns_keys(&error(line)), "{line}");
        }
        let away = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!concerns_keys(&away.into()));
    }
}
