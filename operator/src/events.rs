//! What people look for in `kubectl describe`: what was made, and when why-not-ready changed.

use inferyard_crds::{Condition, ModelDeployment, Reason};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::apply::{Applied, Change};
use crate::status::is_failure;

/// The most that an event's text may hold.
const NOTE_BYTES: usize = 1000;

/// Publishes events.
pub(crate) struct Events {
    client: Client,
    reporter: Reporter,
}

/// An event before it is published.
#[derive(Debug, PartialEq)]
struct Told {
    type_: EventType,
    reason: String,
    note: String,
}

// === impl Events ===

impl Events {
    pub(crate) fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter }
    }

    /// Tells what was made, changed or removed: one event for each object.
    pub(crate) async fn applied(&self, resource: &ModelDeployment, applied: &Applied) {
        for told in changes(applied) {
            self.publish(resource, told).await;
        }
    }

    /// Tells why a model is ready or not.
    pub(crate) async fn ready(&self, resource: &ModelDeployment, ready: &Condition) {
        if let Some(told) = ready_changed(ready) {
            self.publish(resource, told).await;
        }
    }

    /// Tells that another release looks after the model.
    pub(crate) async fn left(&self, resource: &ModelDeployment, own: &str, other: &str) {
        let note = format!(
            "release {other} looks after this namespace, so the operator of release {own} leaves this \
             ModelDeployment alone: give each release namespaces of its own (clusterScope, watchNamespaces)"
        );
        let told = Told {
            type_: EventType::Warning,
            reason: "ManagedElsewhere".to_owned(),
            note,
        };
        self.publish(resource, told).await;
    }

    /// A recorder counts an event as a repetition of one with the same reason, whatever its text is. So each event
    /// has a recorder of its own.
    async fn publish(&self, resource: &ModelDeployment, mut told: Told) {
        let end = told.note.floor_char_boundary(NOTE_BYTES);
        told.note.truncate(end);
        let event = Event {
            type_: told.type_,
            reason: told.reason,
            note: Some(told.note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        // An event that is lost is not worth a second try: the status says the same.
        if let Err(error) = recorder.publish(&event, &resource.object_ref(&())).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

fn changes(applied: &Applied) -> impl Iterator<Item = Told> {
    applied.changed.iter().map(|(kind, name, change)| {
        let (reason, verb) = match change {
            Change::Created => ("Created", "created"),
            Change::Changed => ("Changed", "changed"),
            Change::Deleted => ("Deleted", "deleted"),
        };
        Told {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: format!("{verb} {} {name}", kind.as_str()),
        }
    })
}

fn ready_changed(ready: &Condition) -> Option<Told> {
    if ready.reason == Reason::Creating.as_str() {
        return None;
    }
    Some(Told {
        type_: if is_failure(&ready.reason) {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: ready.reason.clone(),
        note: ready.message.clone(),
    })
}
