//! Limits of the router's client connections: in number, per client, and in time.

use std::time::Duration;

use inferyard_router::Config;

use crate::duration;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Most open connections; further ones wait until one ends, and `/readyz` reports that
    #[arg(long, value_name = "NUMBER", default_value = "8192", value_parser = number)]
    max_connections: usize,
    /// Most open connections of one client address (IPv6: of one /56); further ones are closed at once. Trusted proxies
    /// are not counted [default: a quarter of --max-connections]
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    max_client_connections: Option<usize>,
    /// Time limit from a new connection to the end of its first request's head, including the TLS handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_some)]
    first_request_timeout: Duration,
    /// Time limit of the head of a later request, and of an idle connection
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = duration::parse_some)]
    header_timeout: Duration,
    /// Time limit of a request's body
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration::parse_some)]
    body_timeout: Duration,
    /// How long bytes may wait for a client that reads none of them; then its connection is closed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse_some)]
    write_timeout: Duration,
}

impl Args {
    /// A configuration with these settings, and defaults otherwise.
    pub(super) fn config(&self) -> Config {
        Config {
            max_connections: self.max_connections,
            max_client_connections: self.max_client_connections,
            first_request_timeout: self.first_request_timeout,
            header_timeout: self.header_timeout,
            body_timeout: self.body_timeout,
            write_timeout: self.write_timeout,
            ..Config::default()
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        // More is no use: a process has no more ports towards one client.
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("expected a number from 1 to 1000000".to_owned()),
    }
}
