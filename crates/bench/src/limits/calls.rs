//! The calls under test: those of the router, with eight limits, and a limiter with a single limit.

use anyhow::Result;

use super::redis::{Redis, encode};

/// Keys in the form `{iy:<bucket>}…`.
const ACCOUNT: &str = "{iy:1}:a:account";
const DUE: &str = "{iy:1}:due";
pub(crate) const OUTBOX: &str = "{iy:1}:outbox";
pub(crate) const SETTLED: &str = "{iy:1}:settled";
const SETTLED_BEFORE: &str = "{iy:1}:settled-before";
const PLAN: &str = "plan:pro";
const KEY: &str = "key:first";
/// Typical lengths of the parts of a usage event, in bytes.
const FIRST_PIECE: usize = 150;
const LAST_PIECES: usize = 60;

/// The generic cell rate algorithm for one key, as in the module `redis-cell`. Arguments: burst, microseconds
/// per request, requests.
const GCRA: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
if arrival < now then arrival = now end
local next = arrival + ARGV[2] * ARGV[3]
local allowed = next - ARGV[1] * ARGV[2]
if allowed > now then return {1, 0, math.ceil((allowed - now) / 1e6), math.ceil((arrival - now) / 1e6)} end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return {0, math.floor((now - allowed) / ARGV[2]), -1, math.ceil((next - now) / 1e6)}";

/// A call to measure.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Admit,
    Progress,
    Settle,
    OneMeter,
}

/// The hashes of the scripts.
pub(crate) struct Calls {
    hashes: [Vec<u8>; Call::ALL.len()],
    empty: Vec<u8>,
}

// === impl Call ===

impl Call {
    pub(crate) const ALL: [Self; 4] = [Self::Admit, Self::Progress, Self::Settle, Self::OneMeter];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Progress => "progress",
            Self::Settle => "settle",
            Self::OneMeter => "GCRA of a single key",
        }
    }

    fn script(self) -> String {
        let shared = include_str!("../../../admission/src/redis/scopes.lua");
        match self {
            Self::Admit => include_str!("../../../admission/src/redis/admit.lua").to_owned(),
            Self::Progress => {
                format!(
                    "{shared}{}",
                    include_str!("../../../admission/src/redis/progress.lua")
                )
            }
            Self::Settle => {
                format!(
                    "{shared}{}",
                    include_str!("../../../admission/src/redis/settle.lua")
                )
            }
            Self::OneMeter => GCRA.to_owned(),
        }
    }
}

// === impl Calls ===

impl Calls {
    pub(crate) fn load(redis: &mut Redis) -> Result<Self> {
        let mut hashes = [const { Vec::new() }; Call::ALL.len()];
        for (hash, call) in hashes.iter_mut().zip(Call::ALL) {
            *hash = redis.load(&call.script())?;
        }
        let empty = redis.load("return 1")?;
        Ok(Self { hashes, empty })
    }

    /// One call per id, or the same number of empty scripts with the same keys and arguments.
    pub(crate) fn batch(&self, call: Call, is_empty: bool, ids: &[[u8; 18]]) -> Vec<u8> {
        let hash = if is_empty {
            &self.empty
        } else {
            &self.hashes[call as usize]
        };
        let scopes = [PLAN.as_bytes(), KEY.as_bytes()];
        let names = format!("{PLAN}\0{KEY}\0");
        let mut batch = Vec::new();
        for id in ids {
            let (keys, own): (&[&str], Vec<Vec<u8>>) = match call {
                Call::Admit => {
                    let numbers = numbers([0.0, 30e6, 1_000.0, 5e6, 1.0, 0.0, 0.0]);
                    let sizes = [names.len(), FIRST_PIECE, 0]
                        .map(|it| f64::from(u32::try_from(it).expect("a name should be short")));
                    let mut lease = doubles(&[0.0, 0.0, 0.0, 0.0, 1_000.0]);
                    lease.extend(doubles(&sizes));
                    lease.extend_from_slice(names.as_bytes());
                    lease.extend([b'e'; FIRST_PIECE]);
                    (
                        &[ACCOUNT, DUE],
                        vec![numbers, lease, b"account".to_vec(), id.to_vec()],
                    )
                }
                Call::Progress => {
                    let numbers = numbers([0.0, 30e6, 200.0, 1e6, 800.0, 4e6, 0.0]);
                    let event = vec![b'e'; LAST_PIECES];
                    let names = names.clone().into_bytes();
                    let own = vec![numbers, event, b"account".to_vec(), names, id.to_vec()];
                    (&[ACCOUNT, DUE, SETTLED, SETTLED_BEFORE], own)
                }
                Call::Settle => {
                    let numbers = numbers([0.0, 0.0, 500.0, 2e6, 0.0, 0.0, 0.0]);
                    let event = vec![b'e'; FIRST_PIECE + LAST_PIECES];
                    let own = vec![numbers, event, names.clone().into_bytes(), id.to_vec()];
                    (&[ACCOUNT, OUTBOX, SETTLED, SETTLED_BEFORE], own)
                }
                Call::OneMeter => {
                    let own = ["100000000", "1", "1"].map(|it| it.as_bytes().to_vec());
                    (&["{iy:1}:one"], own.to_vec())
                }
            };
            let count = keys.len().to_string();
            let mut arguments: Vec<&[u8]> = vec![b"EVALSHA", hash, count.as_bytes()];
            arguments.extend(keys.iter().map(|key| key.as_bytes()));
            arguments.extend(own.iter().map(Vec::as_slice));
            if !matches!(call, Call::OneMeter) {
                arguments.extend(scopes);
            }
            encode(&mut batch, &arguments);
        }
        batch
    }
}

/// Random ids of new leases, as field names.
pub(crate) fn ids(count: usize) -> Result<Vec<[u8; 18]>> {
    let mut ids = vec![*b"l:0123456789abcdef"; count];
    for id in &mut ids {
        getrandom::fill(&mut id[2..])?;
    }
    Ok(ids)
}

/// The first arguments of a script, and the limits: seven of a plan, one of a key. None is ever reached.
fn numbers(own: [f64; 7]) -> Vec<u8> {
    let plan = [1e12, 1e12, 1e12, 1e12, 1e12, 1e12, 1e15];
    let key = [0.0, 0.0, 0.0, 1e12, 0.0, 0.0, 0.0];
    doubles(&[own, plan, key].concat())
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
