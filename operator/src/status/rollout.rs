//! How far a rollout is, from the Deployment and the pods.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{clamp, count, plural};
use crate::names::TEMPLATE_ANNOTATION;
use crate::observe::{Observed, is_ready};

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rollout {
    /// Workers that are wanted.
    wanted: i32,
    /// Workers that exist, and those that run what is declared.
    all: i32,
    pub(super) updated: i32,
    /// Pods of the template that is declared.
    pub(super) new: i32,
    pub(super) answering: i32,
    /// Workers from before the change that answer.
    pub(super) old_answering: i32,
    /// There are more workers than are wanted: new ones are started before old ones end.
    surges: bool,
    pub(super) complete: bool,
}

// === impl Rollout ===

impl Rollout {
    pub(super) fn new(wanted: i32, observed: &Observed) -> Self {
        let deployment = observed.deployment.as_deref();
        let is_new = |pod: &Pod| {
            observed.template.is_some()
                && pod.annotations().get(TEMPLATE_ANNOTATION) == observed.template.as_ref()
        };
        let pods = |holds: &dyn Fn(&Pod) -> bool| {
            clamp(observed.pods.iter().filter(|pod| holds(pod)).count())
        };
        let generation = deployment.and_then(|live| live.metadata.generation);
        let seen = deployment.and_then(|live| live.data["status"]["observedGeneration"].as_i64());
        let is_seen = seen.is_some_and(|seen| seen >= generation.unwrap_or(0));
        let new = pods(&is_new);
        // Until the Deployment's controller has seen a change, what it says is about the declaration before it.
        let (all, updated) = if is_seen {
            (
                count(deployment, "replicas"),
                count(deployment, "updatedReplicas"),
            )
        } else {
            (pods(&|_| true), new)
        };
        Self {
            wanted,
            all,
            updated,
            new,
            answering: pods(&is_ready),
            old_answering: pods(&|pod| is_ready(pod) && !is_new(pod)),
            surges: pods(&|_| true) > wanted,
            complete: is_seen && updated == wanted && all == updated,
        }
    }

    /// Whether a new worker that finds no room is one beyond the wanted number, while others serve.
    pub(super) fn is_blocked(&self) -> bool {
        self.surges && !self.complete && self.answering > 0
    }

    /// How far it is, for people.
    pub(super) fn text(&self) -> String {
        let answering = self.answering - self.old_answering;
        let mut text = format!(
            "{answering} of {} workers run what is declared and answer",
            self.wanted
        );
        if self.old_answering > 0 {
            text.push_str(&self.meanwhile());
        } else if self.all > self.updated {
            let left = plural(self.all - self.updated, "worker");
            text = format!("{text}; {left} from before the change still to be replaced");
        } else if self.all > self.wanted {
            let left = plural(self.all - self.wanted, "worker");
            text = format!("{text}; {left} still to be removed");
        }
        text
    }

    /// Who answers while something else is waited for; empty: nobody does.
    pub(super) fn meanwhile(&self) -> String {
        match (self.old_answering, self.answering) {
            (0, 0) => String::new(),
            (0, answering) => format!("; {answering} of {} workers answer meanwhile", self.wanted),
            (1, _) => "; 1 old worker serves meanwhile".to_owned(),
            (old, _) => format!("; {old} old workers serve meanwhile"),
        }
    }
}
