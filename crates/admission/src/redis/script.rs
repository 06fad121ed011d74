//! The Lua scripts of the store, one per call.

use std::sync::LazyLock;

use inferyard_redis_link::Script;

pub(super) static ADMIT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("admit.lua")));
pub(super) static RAISE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("raise.lua")));
pub(super) static REFUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scopes.lua"),
        include_str!("refuse.lua")
    ))
});
pub(super) static PROGRESS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scopes.lua"),
        include_str!("progress.lua")
    ))
});
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scopes.lua"),
        include_str!("settle.lua")
    ))
});
pub(super) static SWEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scopes.lua"),
        include_str!("sweep.lua")
    ))
});
