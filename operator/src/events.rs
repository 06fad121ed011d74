//! Kubernetes events of a model: changes of its objects, and new reasons of its `Ready` condition.

use inferyard_crds::{Condition, ModelDeployment, Reason};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::apply::{Applied, Change};
use crate::status::is_failure;

/// The limit of the text of an event in bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// Publishes events.
pub(crate) struct Events {
    client: Client,
    reporter: Reporter,
}

/// An event to publish.
#[derive(Debug, PartialEq)]
struct Message {
    type_: EventType,
    reason: String,
    note: String,
}

// === impl Events ===

impl Events {
    pub(crate) fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter }
    }

    /// Publishes one event for each object that was created, changed or deleted.
    pub(crate) async fn applied(&self, resource: &ModelDeployment, applied: &Applied) {
        for message in changes(applied) {
            self.publish(resource, message).await;
        }
    }

    /// Publishes the reason and the message of the `Ready` condition.
    pub(crate) async fn ready(&self, resource: &ModelDeployment, ready: &Condition) {
        if let Some(message) = ready_changed(ready) {
            self.publish(resource, message).await;
        }
    }

    /// Publishes that another release manages the namespace of the model.
    pub(crate) async fn managed_elsewhere(
        &self,
        resource: &ModelDeployment,
        own: &str,
        other: &str,
    ) {
        let note = format!(
            "release {other} manages this namespace, so the operator of release {own} leaves this \
             ModelDeployment alone: give each release namespaces of its own (clusterScope, watchNamespaces)"
        );
        let message = Message {
            type_: EventType::Warning,
            reason: "ManagedElsewhere".to_owned(),
            note,
        };
        self.publish(resource, message).await;
    }

    /// Publishes an event with a recorder of its own: a recorder merges events of the same reason, even if their texts
    /// differ.
    async fn publish(&self, resource: &ModelDeployment, mut message: Message) {
        let end = message.note.floor_char_boundary(MAX_NOTE_BYTES);
        message.note.truncate(end);
        let event = Event {
            type_: message.type_,
            reason: message.reason,
            note: Some(message.note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        // No second try: the status has the same information.
        if let Err(error) = recorder.publish(&event, &resource.object_ref(&())).await {
            tracing::debug!(%error, "cannot publish an event");
        }
    }
}

fn changes(applied: &Applied) -> impl Iterator<Item = Message> {
    applied.changes.iter().map(|(kind, name, change)| {
        let (reason, verb) = match change {
            Change::Created => ("Created", "created"),
            Change::Changed => ("Changed", "changed"),
            Change::Deleted => ("Deleted", "deleted"),
        };
        Message {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: format!("{verb} {} {name}", kind.as_str()),
        }
    })
}

fn ready_changed(ready: &Condition) -> Option<Message> {
    if ready.reason == Reason::Creating.as_str() {
        return None;
    }
    Some(Message {
        type_: if is_failure(&ready.reason) {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: ready.reason.clone(),
        note: ready.message.clone(),
    })
}
