//! The scripts, which are the whole store.

/// One per call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Admit,
    Progress,
    Settle,
    Sweep,
}

// === impl Script ===

impl Script {
    pub(super) const ALL: [Self; 4] = [Self::Admit, Self::Progress, Self::Settle, Self::Sweep];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Admit => include_str!("admit.lua"),
            Self::Progress => concat!(include_str!("scopes.lua"), include_str!("progress.lua")),
            Self::Settle => concat!(include_str!("scopes.lua"), include_str!("settle.lua")),
            Self::Sweep => concat!(include_str!("scopes.lua"), include_str!("sweep.lua")),
        }
    }
}
