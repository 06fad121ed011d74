//! A Redis server of the benchmark's own, and a connection to it that supports pipelining.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;

/// `redis-server` on a core of its own.
pub(crate) struct Redis {
    process: Process,
    _folder: TempDir,
    socket: PathBuf,
    reader: BufReader<UnixStream>,
}

// === impl Redis ===

impl Redis {
    pub(crate) async fn start(core: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("redis");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path());
        let mut process = Process::start(command, Some(core))?;
        while !process.line().await?.contains("accept connections") {}
        let stream = UnixStream::connect(&socket).context("connecting to redis-server")?;
        Ok(Self {
            process,
            _folder: folder,
            socket,
            reader: BufReader::new(stream),
        })
    }

    /// The URL for routers.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.process.end().await
    }

    /// Sends a command and returns its reply; the reply of an array is empty.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> Result<Vec<u8>> {
        let mut command = Vec::new();
        encode(&mut command, arguments);
        self.reader.get_mut().write_all(&command)?;
        self.answer()
    }

    /// Sends encoded commands, and waits for this number of replies.
    pub(crate) fn send_all(&mut self, commands: &[u8], answers: usize) -> Result<()> {
        self.reader.get_mut().write_all(commands)?;
        for _ in 0..answers {
            self.answer()?;
        }
        Ok(())
    }

    /// Loads a script; returns its hash.
    pub(crate) fn load(&mut self, script: &str) -> Result<Vec<u8>> {
        self.ask(&[b"SCRIPT", b"LOAD", script.as_bytes()])
    }

    pub(crate) fn trim(&mut self, key: &str) -> Result<()> {
        self.ask(&[b"DEL", key.as_bytes()]).map(drop)
    }

    /// Resets the statistics.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.ask(&[b"CONFIG", b"RESETSTAT"]).map(drop)
    }

    /// The server's own measurement of its scripts since the last reset.
    pub(crate) fn microseconds_per_script(&mut self) -> Result<f64> {
        let info = self.info("commandstats")?;
        let line = info.lines().find(|it| it.starts_with("cmdstat_evalsha:"));
        let value = line.and_then(|it| it.split("usec_per_call=").nth(1));
        let value = value.and_then(|it| it.split(',').next());
        let value = value.context("Redis should count its scripts")?;
        Ok(value.parse()?)
    }

    pub(crate) fn version(&mut self) -> Result<String> {
        let info = self.info("server")?;
        let version = info
            .lines()
            .find_map(|it| it.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("?").to_owned())
    }

    fn info(&mut self, section: &str) -> Result<String> {
        let info = self.ask(&[b"INFO", section.as_bytes()])?;
        Ok(String::from_utf8(info)?)
    }

    fn answer(&mut self) -> Result<Vec<u8>> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let (kind, text) = line
            .trim_end()
            .split_at_checked(1)
            .context("an empty answer")?;
        match kind {
            "+" | ":" => Ok(text.as_bytes().to_vec()),
            "$" => {
                let mut value = vec![0; text.parse::<usize>()? + 2];
                self.reader.read_exact(&mut value)?;
                value.truncate(value.len() - 2);
                Ok(value)
            }
            "*" => {
                for _ in 0..text.parse::<usize>()? {
                    self.answer()?;
                }
                Ok(Vec::new())
            }
            _ => bail!("Redis answers: {line}"),
        }
    }
}

/// Appends a command in Redis' protocol.
pub(crate) fn encode(to: &mut Vec<u8>, arguments: &[&[u8]]) {
    to.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        to.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        to.extend_from_slice(argument);
        to.extend_from_slice(b"\r\n");
    }
}
