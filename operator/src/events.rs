//! What people look for in `kubectl describe`: what was made, and when why-not-ready changed.

use inferyard_crds::{ModelDeployment, ModelDeploymentStatus, Reason};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};

use crate::apply::{Applied, Change};
use crate::status::{is_failure, ready};

/// The most that an event's text may hold.
const NOTE_BYTES: usize = 1000;

/// Says what changed.
pub(crate) async fn publish(
    recorder: &Recorder,
    resource: &ModelDeployment,
    applied: Option<&Applied>,
    status: &ModelDeploymentStatus,
) {
    let mut events = Vec::new();
    for (kind, change) in applied.iter().flat_map(|applied| &applied.changed) {
        let (reason, verb) = match change {
            Change::Created => ("Created", "created"),
            Change::Changed => ("Changed", "changed"),
            Change::Deleted => ("Deleted", "deleted"),
        };
        let note = format!("{verb} {} {}-worker", kind.as_str(), resource.name_any());
        events.push((EventType::Normal, reason.to_owned(), note));
    }
    let before = resource.status.as_ref().and_then(ready);
    if let Some(now) = ready(status)
        && before.is_none_or(|before| before.reason != now.reason)
        && now.reason != Reason::Creating.as_str()
    {
        let type_ = if is_failure(&now.reason) {
            EventType::Warning
        } else {
            EventType::Normal
        };
        events.push((type_, now.reason.clone(), now.message.clone()));
    }
    for (type_, reason, mut note) in events {
        let end = note.floor_char_boundary(NOTE_BYTES);
        note.truncate(end);
        let event = Event {
            type_,
            reason,
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // An event that is lost is not worth a second try: the status says the same.
        if let Err(error) = recorder.publish(&event, &resource.object_ref(&())).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}
