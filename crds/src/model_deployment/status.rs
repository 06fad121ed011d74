//! What the operator says of a model: counts, conditions, and how far loading is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// The state of a model, which the operator writes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The generation that the rest speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The release whose operator looks after it, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// What callers put into the field `model` of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Workers that exist, ready or not.
    #[serde(default)]
    pub replicas: i32,
    /// Workers that answer.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Workers that run what is declared now.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Workers that have to answer for the condition `Available`.
    #[serde(default)]
    pub required_replicas: i32,
    /// Ready of wanted workers, such as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
    /// A selector of the workers' pods by label, which autoscalers read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Progress of the worker that has loaded least; absent: no worker is loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Loading>,
    /// `Ready`, `Available`, `Progressing`, `Accepted`, `Scheduled`, `WeightsAvailable`, `RolloutComplete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// How far a worker is on its way to its first answer.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Loading {
    /// Its pod.
    pub pod: String,
    /// Percent of the present step: fetching, or reading the model.
    #[serde(default)]
    pub percent: i32,
    /// Bytes that are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<i64>,
    /// Bytes to be fetched, all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<i64>,
    /// Bytes fetched per second, lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// How long fetching will still take, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
}

/// An enum whose variants are written as they are named, and the list of them.
macro_rules! closed_set {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $variant:ident,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            /// All of them, in the order in which they are declared.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As the status has it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

closed_set! {
    /// The types of conditions: a closed set.
    ConditionType {
        /// All wanted workers answer, and run what is declared.
        Ready,
        /// As many workers answer as `spec.availability` asks for.
        Available,
        /// What is declared is being carried out, or is carried out; False: somebody has to act.
        Progressing,
        /// The declaration can be carried out.
        Accepted,
        /// Every worker has a node.
        Scheduled,
        /// Every worker has the weights.
        WeightsAvailable,
        /// Every worker runs what is declared now.
        RolloutComplete,
    }
}

closed_set! {
    /// Why a condition is what it is: a closed set.
    Reason {
        /// Accepted: nothing is wrong with it.
        Valid,
        /// Something in it cannot be carried out; the message says what to write instead.
        Invalid,
        /// Another, older resource has the name, the alias, the preview or the hash.
        NameTaken,
        /// It names something that does not exist.
        NotFound,
        /// It does what only a resource in a namespace of the platform may do; the message says which field.
        NotAllowed,
        /// The API server refuses what belongs to it: a quota, a policy, or missing permissions.
        Refused,
        /// The API server fails to take what belongs to it, such as when an admission webhook is down; it is tried
        /// again.
        ApplyFailed,
        /// Every worker answers.
        AllReady,
        /// No worker is wanted.
        ScaledToZero,
        /// As many workers answer as have to.
        EnoughWorkers,
        /// Fewer workers answer than have to.
        TooFewWorkers,
        /// Its resources are being made.
        Creating,
        /// Every worker has a node.
        AllScheduled,
        /// The scheduling gates of the pods are not open yet, such as that of a queue.
        SchedulingGated,
        /// No node has room, or none fits; the message says for which resource.
        NoNodeFits,
        /// A rollout waits for room on a node while the workers before it serve.
        RolloutWaits,
        /// The storage class of its volume does not exist.
        StorageClassMissing,
        /// Its volume is not there yet.
        VolumePending,
        /// An image cannot be pulled.
        ImagePull,
        /// A container cannot be made: its Secret is missing, or its settings are refused.
        ContainerConfig,
        /// A container that is not Inferyard's fails.
        ContainerFailed,
        /// The containers are starting.
        Starting,
        /// The weights are being fetched.
        Fetching,
        /// The weights cannot be fetched; the message has the last words.
        FetchFailed,
        /// The engine reads the weights.
        Loading,
        /// The engine or the worker ended, or the engine fails requests; the message says how. Last words are
        /// those of the worker only.
        EngineFailed,
        /// Every worker has the weights.
        Available,
        /// Old workers are being replaced.
        RollingOut,
        /// Every worker runs what is declared.
        Complete,
    }
}
