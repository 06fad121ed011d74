//! The progress of a rollout, from the Deployment and the pods.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{clamp, count, plural};
use crate::names::TEMPLATE_ANNOTATION;
use crate::observe::Observed;
use crate::pods::is_ready;

/// The progress of a rollout, in numbers of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rollout {
    /// Desired workers.
    desired: i32,
    /// Existing workers.
    all: i32,
    /// Workers that run the current declaration.
    pub(super) updated: i32,
    /// Pods of the current template.
    pub(super) new: i32,
    /// Ready workers.
    pub(super) answering: i32,
    /// Ready workers of older templates.
    pub(super) old_answering: i32,
    /// Whether more workers exist than desired: new ones start before old ones end.
    surges: bool,
    pub(super) complete: bool,
}

// === impl Rollout ===

impl Rollout {
    pub(super) fn new(desired: i32, observed: &Observed) -> Self {
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
        // Until the controller of the Deployment has seen a change, its status describes the previous declaration.
        let (all, updated) = if is_seen {
            (
                count(deployment, "replicas"),
                count(deployment, "updatedReplicas"),
            )
        } else {
            (pods(&|_| true), new)
        };
        Self {
            desired,
            all,
            updated,
            new,
            answering: pods(&is_ready),
            old_answering: pods(&|pod| is_ready(pod) && !is_new(pod)),
            surges: pods(&|_| true) > desired,
            complete: is_seen && updated == desired && all == updated,
        }
    }

    /// Whether a new worker without a node exceeds the desired number, while others serve.
    pub(super) fn is_blocked(&self) -> bool {
        self.surges && !self.complete && self.answering > 0
    }

    /// The progress as text.
    pub(super) fn text(&self) -> String {
        let answering = self.answering - self.old_answering;
        let mut text = format!(
            "{answering} of {} workers run what is declared and answer",
            self.desired
        );
        if self.old_answering > 0 {
            text.push_str(&self.meanwhile());
        } else if self.all > self.updated {
            let left = plural(self.all - self.updated, "worker");
            text = format!("{text}; {left} from before the change still to be replaced");
        } else if self.all > self.desired {
            let left = plural(self.all - self.desired, "worker");
            text = format!("{text}; {left} still to be removed");
        }
        text
    }

    /// The suffix of a message that says how many workers answer in the meantime. Empty: none does.
    pub(super) fn meanwhile(&self) -> String {
        match (self.old_answering, self.answering) {
            (0, 0) => String::new(),
            (0, answering) => format!("; {answering} of {} workers answer meanwhile", self.desired),
            (1, _) => "; 1 old worker serves meanwhile".to_owned(),
            (old, _) => format!("; {old} old workers serve meanwhile"),
        }
    }
}
